"""The command line, as a person at a terminal uses it."""

import gzip
import json
import os
import re
import signal
import subprocess
from itertools import chain, repeat

import pytest

from tests.parts.model import http
from tests.parts.processes import BIN, ROOT, free_port, listening, process, until

RELAY = BIN / "inference-relay"
TOKEN_LIST = b'{"object": "list", "data": [{"id": "small"}, {"id": "large"}]}'


def started(*arguments, **environment):
    """Start a command as a person does, and run it to its end: its exit code and what it printed."""
    done = subprocess.run(
        [RELAY, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "200", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout


def test_the_main_job_with_a_real_model():
    """`make run`: the command it runs, five answers, one of them at the second attempt, and one bad line."""
    code, output = started("local", "run", "examples/requests.jsonl")
    assert code == 0, output
    assert "$ inference-relay batch run examples/requests.jsonl -o " in output
    assert re.search(r"^completion: 200 .*Paris", output, re.M)
    assert re.search(r"^embedding: 200 .*embedding", output, re.M)
    assert re.search(r"^line-5: 200 ", output, re.M)
    assert re.search(r"^fails at first: 200 ", output, re.M)
    assert re.search(r"^path that is not allowed: line 4: This path is not allowed", output, re.M)
    assert re.search(r"answered +│ 5 of 6", output)
    assert "redeliveries by Pub/Sub: 1" in output
    assert "the two files are gone: inference-relay local run FILE -o ANSWERS keeps them" in output


def test_a_model_of_ones_own_at_a_terminal(model, tmp_path):
    """MODEL_URL replaces the small model, and --model its name in the requests; wrong lines get their error.

    On a terminal progress is a bar; what is piped is lines.
    """
    file = tmp_path / "requests.jsonl"
    file.write_text('{"metadata": {"id": 1}, "body": {"model": "x", "prompt": "hi"}}\n\nnot json\n')
    command = f"{RELAY} local run {file} --model mine -o {tmp_path}/answers.jsonl"
    script = f"COLUMNS=120 MODEL_URL={model.url} {command}"
    done = subprocess.run(
        ["script", "-qec", script, "/dev/null"], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout
    plain = re.sub(r"\x1b\[[^a-zA-Z]*[a-zA-Z]", "", done.stdout)
    assert "1 of 2" in plain
    assert "━" in plain
    assert [body["model"] for _, body in model.calls] == ["mine"]
    assert json.loads((tmp_path / "answers.jsonl").read_text())["response"]["body"] == {"echo": "hi"}
    assert json.loads((tmp_path / "answers.errors.jsonl").read_text())["error"]["line"] == 3


def test_answers_that_are_kept_compressed(model, tmp_path, relay):
    """They are shown like others, with the errors, and are in the file that was asked for."""
    file, answers = tmp_path / "requests.jsonl", tmp_path / "answers.jsonl.gz"
    file.write_text('{"metadata": {"id": 1}, "body": {"model": "x", "prompt": "hi"}}\nnot json\n')
    code, output = relay("local", "run", file, "-o", answers, MODEL_URL=model.url)
    assert code == 0, output
    assert re.search(r'^1: 200 {"echo": ?"hi"}$', output, re.M), output
    assert re.search(r"^line-2: line 2: ", output, re.M), output
    assert json.loads(gzip.decompress(answers.read_bytes()))["response"]["body"] == {"echo": "hi"}


def test_a_file_of_authorities_that_holds_none(relay):
    """MODEL_CA_FILE is for the proxy, which has it read before anything starts."""
    settings = {"MODEL_URL": "https://127.0.0.1:9", "MODEL_CA_FILE": __file__}
    code, output = relay("local", "run", "examples/requests.jsonl", **settings)
    assert (code, f"Error: MODEL_CA_FILE {__file__}: " in output) == (1, True), output


@pytest.mark.parametrize("command", ["run examples/requests.jsonl", "up --pubsub-port {taken}"], ids=["run", "up"])
def test_a_model_url_that_the_service_refuses(command, relay, brokers):
    """It is refused in the service's words before anything starts: a port that is taken is not come to."""
    taken = brokers("local").rpartition(":")[2]
    code, output = relay("local", *command.format(taken=taken).split(), MODEL_URL="http://localhost:11434/v1")
    assert code == 1
    assert "MODEL_URL" in output
    assert "leave the /v1 out" in output
    assert taken not in output


@pytest.mark.parametrize(
    ("content", "code", "says"),
    [("", 2, "it has no requests. Nothing was sent."), (None, 2, "does not exist")],
    ids=["empty", "missing"],
)
def test_a_file_without_requests(model, tmp_path, content, code, says, relay):
    """What is wrong with the file is said, and is not taken for a success."""
    file = tmp_path / "requests.jsonl"
    if content is not None:
        file.write_text(content)
    done, output = relay("local", "run", file, MODEL_URL=model.url)
    assert (done, says in output) == (code, True), output


def says_nothing(_connection):
    """End the connection."""


@pytest.mark.parametrize(
    ("output", "anew"),
    [
        ([], "run it again"),
        (
            ["-o", "{}/answers.jsonl.gz"],
            "remove {0}/answers.jsonl, {0}/answers.errors.jsonl and every {0}/answers.jsonl.journal*, and run it again",
        ),
    ],
    ids=["answers that are only shown", "answers that are kept"],
)
def test_an_interrupted_run_says_that_it_cannot_go_on(model, tmp_path, forks, output, anew):
    """Its Pub/Sub is gone, with what waited there: Ctrl-C says to run it again, and which files are in the way."""
    file = tmp_path / "requests.jsonl"
    file.write_text('{"metadata": {"id": 1}, "body": {"model": "x", "prompt": "hi"}}\n')
    model.replies["hi"] = [says_nothing]
    with (tmp_path / "output").open("w") as log:
        files = {"stdout": log, "stderr": subprocess.STDOUT}
        command = [RELAY, "local", "run", file, *(part.format(tmp_path) for part in output)]
        run = forks.spawn(command, {"MODEL_URL": model.url}, start_new_session=True, **files)
    try:
        until(lambda: model.calls or run.poll() is not None, 60)
        os.killpg(run.pid, signal.SIGINT)
        assert run.wait(60) == 130
    finally:
        run.kill()
    assert f"the local Pub/Sub is gone: {anew.format(tmp_path)}\n" in (tmp_path / "output").read_text()


@pytest.fixture
def checked(local_topics, model):
    """Settings for `check`, and the model behind them."""
    model.replies["GET /v1/models"] = [http(200, "application/json", TOKEN_LIST)]
    return {"MODEL_URL": model.url, "RESPONSE_TOPIC": local_topics.topic("responses"), "PUSH_AUTH": "none"}


def test_check_of_what_is_right(checked, local_topics, model):
    """Everything is named, the topic gets one marked message, and the exit code is 0."""
    code, output = started("check", "--model", "small", **checked)
    assert code == 0, output
    assert "it serves small, large" in output
    assert "model small: /v1/completions gives status 200" in output
    assert model.calls[0][1]["max_tokens"] == 1
    _, attributes, _ = local_topics.response()
    assert attributes == {"relay_check": "true"}


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (http(401, "application/json", b"{}"), "refuses the key"),
        (http(404, "text/plain", b"no"), "MODEL_URL should be what comes before /v1"),
        (http(500, "text/plain", b"no"), "GET /v1/models gives status 500"),
        (http(200, "text/html", b"<html>"), "answer was an HTML page: MODEL_URL points at something else"),
        (says_nothing, "ends the connection"),
    ],
    ids=["401", "404", "500", "HTML", "silence"],
)
def test_check_of_a_model_that_does_not_answer(checked, model, reply, says, relay):
    """What is wrong is said in plain words, and the exit code is 1."""
    model.replies["GET /v1/models"] = [reply]
    code, output = relay("check", **checked)
    assert (code, says in output) == (1, True), output


NO = http(404, "application/json", b'{"error": {"message": "this model does not do that", "code": 404}}')


@pytest.mark.parametrize(
    ("replies", "code", "says"),
    [
        ([NO, http(200, "application/json", b'{"choices": []}')], 0, "/v1/chat/completions gives status 200"),
        ([NO, NO, http(200, "application/json", b'{"data": []}')], 0, "/v1/embeddings gives status 200"),
        ([NO], 1, "no path answers. /v1/completions: status 404 (this model does not do that)"),
        ([http(200, "application/json", b'{"error": "Unexpected endpoint or method."}')], 1, "no such path"),
    ],
    ids=["chat", "embeddings", "none", "an error in a 200"],
)
def test_check_of_a_model_that_serves_another_path(checked, model, replies, code, says, relay):
    """Each path is tried; which of them answers is said, and what the others say. An error in a 200 is no answer."""
    model.reply = lambda prompt: http(200, "application/json", TOKEN_LIST) if prompt == "GET /v1/models" else next(left)
    left = chain(replies, repeat(replies[-1]))
    actual, output = relay("check", "--model", "small", **checked)
    assert (actual, says in output) == (code, True), output


def test_check_of_a_list_that_is_an_error(checked, model, relay):
    """A status of 200 proves nothing."""
    model.replies["GET /v1/models"] = [http(200, "application/json", b'{"error": "Unexpected endpoint or method."}')]
    code, output = relay("check", **checked)
    assert (code, "no such path at the model service (Unexpected endpoint or method.)" in output) == (1, True), output


def test_check_of_everything_else(checked, local_topics, relay):
    """A model that is away, a model that is unknown, a topic that is not there, settings that are wrong."""
    assert "cannot be connected to" in relay("check", **checked | {"MODEL_URL": "http://127.0.0.1:9"})[1]
    code, output = relay("check", **checked | {"RESPONSE_TOPIC": local_topics.topic("missing")})
    assert (code, "takes no publish: NotFound" in output) == (1, True)
    away = {"PUBSUB_EMULATOR_HOST": "127.0.0.1:9", "PUBLISH_TIMEOUT_SECONDS": "3"}
    code, output = relay("check", **checked | away)
    assert (code, "is there a way to Pub/Sub, or to PUBSUB_EMULATOR_HOST where it is set?" in output) == (1, True), (
        output
    )
    code, output = relay("check", **checked | {"PUSH_AUTH": ""})
    assert (code, "PUSH_AUTH is not set" in output) == (1, True)


@pytest.mark.parametrize(
    ("environment", "doubted"),
    [
        ({}, True),
        ({"K_SERVICE": "relay", "KUBERNETES_SERVICE_HOST": "10.0.0.1"}, True),
        ({"K_SERVICE": "relay"}, False),
        ({"CLOUD_RUN_JOB": "relay-check"}, False),
    ],
    ids=["anywhere", "Knative", "Cloud Run", "a job of Cloud Run"],
)
def test_check_of_trust_in_a_platform_that_is_not_there(checked, environment, doubted, relay):
    """PUSH_AUTH=platform off Cloud Run is an open model endpoint: a doubt, which does not fail the check."""
    code, output = relay("check", **checked | {"PUSH_AUTH": "platform"} | environment)
    found = [line for line in output.splitlines() if line.startswith("DOUBT")]
    assert (code, bool(found)) == (0, doubted), output
    assert all("this is not Cloud Run" in line and "set PUSH_AUTH=verify" in line for line in found)


def test_check_of_the_keys_and_the_ledger(checked, certs_url, relay):
    """What the settings ask for beside the model and the topic is looked at too."""
    verify = {"PUSH_AUTH": "verify", "PUSH_AUDIENCE": "a", "PUSH_SERVICE_ACCOUNT": "b@c.d"}
    keys = checked | verify | {"PUSH_CERTS_URL": certs_url}
    code, output = relay("check", **keys)
    assert (code, "push keys: 1 found" in output) == (0, True), output
    code, output = relay("check", **keys | {"PUSH_CERTS_URL": "http://127.0.0.1:9/"})
    assert (code, "push keys: could not be fetched" in output) == (1, True), output
    code, output = relay("check", **checked | {"LEDGER_URL": "redis://127.0.0.1:9"})
    assert (code, "ledger: Redis does not work" in output) == (1, True), output
    assert "ConnectionRefusedError" in output.partition("ledger: Redis does not work")[0]


def test_check_of_a_ledger_that_works(checked, ledger, relay):
    """Redis is written to and read from."""
    code, output = relay("check", **checked | {"LEDGER_URL": ledger})
    assert (code, "ledger: Redis reads and writes" in output) == (0, True), output


def test_check_of_routes(checked, model, tmp_path, relay):
    """Every route and topic is tried; the route that takes the model is asked for a token of it, by its name there."""
    file = tmp_path / "routes.yaml"
    file.write_text(
        f"routes:\n- {{name: here, models: [small], url: '{model.url}', model: real}}\n"
        "- {name: gone, models: [other], url: 'http://127.0.0.1:9'}\n"
        f"- {{name: each, models: ['t-*'], url: '{model.url}/{{model}}'}}\n"
        "streams:\n- {subscription: urgent, response_topic: projects/p/topics/nowhere}\n"
    )
    settings = checked | {"MODEL_URL": "", "ROUTES_FILE": str(file)}
    code, output = relay("check", "--model", "small", **settings)
    assert code == 1
    assert "route here: answers without a key; it serves small, large" in output
    assert "model small: /v1/completions gives status 200" in output
    assert model.calls == [("/v1/completions", {"model": "real", "prompt": "1", "max_tokens": 1})]
    assert "route gone: cannot be connected to" in output
    assert "route each: not asked, since its URL has a model's name in it" in output
    assert f"response topic: {checked['RESPONSE_TOPIC']} took message" in output
    assert "response topic: projects/p/topics/nowhere takes no publish: NotFound: there is no such topic" in output
    _, output = relay("check", "--model", "nobody", **settings)
    assert "model nobody: no route in ROUTES_FILE takes it" in output


def test_check_of_a_token_that_nobody_gives(checked, tmp_path, relay):
    """On a laptop without credentials it is told what to do."""
    nowhere = {"GOOGLE_APPLICATION_CREDENTIALS": "", "CLOUDSDK_CONFIG": str(tmp_path), "NO_GCE_CHECK": "true"}
    code, output = relay("check", "--model", "x", **checked | nowhere | {"MODEL_AUTH": "google-access-token"})
    assert (code, "model service: no token could be had" in output) == (1, True), output
    assert "model x: no token could be had" in output
    assert "GOOGLE_APPLICATION_CREDENTIALS" in output


@pytest.mark.parametrize(
    ("listed", "named"),
    [(TOKEN_LIST, "small"), (b'{"data": [{"id": "a\'$(b)"}]}', "name-of-your-model"), (b"{}", "name-of-your-model")],
    ids=["a name", "a name that would break a shell's command", "no name"],
)
def test_up_as_it_says_itself(model, listed, named):
    """The commands that `up` prints publish, push by hand and read the answers, word for word.

    They ask for a model that the service has, where it says one that can stand in a command.
    """
    model.replies["GET /v1/models"] = [http(200, "application/json", listed)]
    pubsub, port = free_port(), free_port()
    arguments = [RELAY, "local", "up", "--pubsub-port", pubsub, "--port", port]
    environment = {"MODEL_URL": model.url, "COLUMNS": "80"}  # where lines that are wrapped would break
    with process(arguments, environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as up:
        lines = []
        for line in up.stdout:
            lines.append(line)
            if "The service logs below" in line:
                break
        printed = "".join(line.removeprefix("  ") for line in lines)
        publish = re.search(r"^export .*?\nEOF$", printed, re.M | re.S).group()
        read = re.search(r"^Read the answers:\n\n(.*?\nEOF)$", printed, re.M | re.S).group(1)
        curl = re.search(r"^curl .*$", printed, re.M | re.S).group().split("\n\n")[0]
        shell = f"PATH={BIN}:$PATH\n{publish}\n{curl}\n"
        done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, timeout=60, check=False)
        assert "HTTP/1.1 204" in done.stdout, done
        answers = ""

        def all_read():
            nonlocal answers
            script = f"PATH={BIN}:$PATH\nexport PUBSUB_EMULATOR_HOST=127.0.0.1:{pubsub}\n{read}\n"
            answers += subprocess.run(
                ["bash", "-c", script], capture_output=True, text=True, timeout=60, check=True
            ).stdout
            return "The sea is" in answers and "The sky is" in answers

        until(all_read, 60)
        assert [body["model"] for _, body in model.calls] == [named] * 2
        up.send_signal(signal.SIGINT)
        assert up.wait(20) == 0


def test_the_script_of_the_page(model):
    """docs/publish.md's program publishes, collects and ends, as it stands there. Then nothing is left running.

    SIGTERM ends `up` with everything that it started.
    """
    script = re.search(r"^```python\n(.*?)^```$", (ROOT / "docs/publish.md").read_text(), re.M | re.S).group(1)
    pubsub, port = free_port(), free_port()
    arguments = [RELAY, "local", "up", "--pubsub-port", pubsub, "--port", port]
    with process(arguments, {"MODEL_URL": model.url}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as up:
        assert any("The service logs below" in line for line in up.stdout)
        environment = {**os.environ, "PUBSUB_EMULATOR_HOST": f"127.0.0.1:{pubsub}"}
        done = subprocess.run(
            [BIN / "python", "-c", script], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert listening(port)
        up.terminate()
        up.wait(30)
        assert not listening(port)
        assert not listening(pubsub)
    assert done.returncode == 0, done.stderr
    answers = sorted(done.stdout.splitlines())
    assert answers == [f"The {what} is -> 200 {{'echo': 'The {what} is'}}" for what in ("forest", "sea", "sky")]


@pytest.mark.parametrize("option", ["--pubsub-port", "--port", "--page-port"])
def test_a_port_that_is_taken(option, model, relay, brokers):
    """It is said which, and nothing of what had been started is left running."""
    free = {name: str(free_port()) for name in ("--pubsub-port", "--port", "--page-port") if name != option}
    taken = brokers("local").rpartition(":")[2]
    code, output = relay("local", "up", *chain.from_iterable((free | {option: taken}).items()), MODEL_URL=model.url)
    assert code == 1
    assert taken in output
    assert not any(map(listening, free.values()))


def test_schemas_and_settings(relay):
    """Both are printed for those who build on them."""
    request = json.loads(relay("schema", "request")[1])
    assert request["required"] == ["metadata"]
    assert [one["required"] for one in request["oneOf"]] == [["body"], ["body_ref"]]
    assert "| `RESPONSE_TOPIC` | required |" in relay("settings")[1]


def test_help_teaches(relay):
    """Each command says what it does and shows a call."""
    assert "check" in started("--help")[1]
    assert "examples/requests.jsonl" in relay("local", "run", "--help")[1]
    assert "relay_check" in relay("check", "--help")[1]

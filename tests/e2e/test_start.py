"""How the service starts, and how it refuses to."""

import itertools
import subprocess

import pytest

from tests.parts.model import http
from tests.parts.processes import ROOT, free_port, process
from tests.parts.service import SERVERS, push_of


@pytest.mark.parametrize("server", SERVERS)
def test_wrong_settings_stop_the_start(server):
    """One line names every variable at fault, and the process ends instead of starting again and again."""
    with process(
        SERVERS[server], {"MODEL_URL": "http://model/v1"}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as it:
        output, _ = it.communicate(timeout=30)
    assert it.returncode != 0
    (line,) = [line for line in output.splitlines() if "cannot start" in line]
    assert all(name in line for name in ("MODEL_URL ends in /v1", "RESPONSE_TOPIC is not set", "PUSH_AUTH is not set"))
    assert "Traceback" not in output


def test_wrong_settings_under_gunicorn_without_our_configuration():
    """gunicorn does not start the worker again for ever."""
    command = [SERVERS["gunicorn"][0], "-b", "127.0.0.1:0", SERVERS["gunicorn"][-1]]
    with process(command, {"MODEL_URL": ""}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as it:
        output, _ = it.communicate(timeout=30)
    assert it.returncode != 0
    assert output.count("cannot start") == 1


def test_logs_are_lines_of_json(local_world):
    """Each has the severity and the message where Cloud Logging looks for them, and what identifies the message."""
    service, _, model = local_world("gunicorn")
    model.replies["bad"] = [http(500, "text/plain", b"")]
    service.push(push_of({"metadata": {}, "body": {"prompt": "good"}}, "log-1", attempt=2))
    service.push(push_of({"metadata": {}, "body": {"prompt": "bad"}}, "log-2"))
    lines = {line.get("message_id"): line for line in service.log()}
    good, bad = lines["log-1"], lines["log-2"]
    assert (good["severity"], good["message"]) == ("INFO", "answered")
    assert (good["delivery_attempt"], good["attempt"]) == (2, 2)
    assert (bad["severity"], bad["message"], bad["reason"]) == ("WARNING", "model_failed: status 500", "model_failed")
    assert bad["time"] >= good["time"]


def test_the_functions_framework_command_says_what_it_cannot(local_topics, local_world, model, serve):
    """Its server has no drain, which is said at the start; it ends all the same, at once where nothing is at work."""
    service = serve("functions-framework", MODEL_URL=model.url)
    assert "gunicorn -c gunicorn.conf.py drains properly" in service.output()
    assert service.push(push_of({"metadata": {}, "body": {"prompt": "good"}})) == 204
    service.process.terminate()
    assert service.process.wait(20) == 0
    assert "drains properly" not in local_world("gunicorn").service.output()


def test_what_is_loaded_before_the_fork_stays_shared(tmp_path):
    """The worker never looks for cycles there, which would copy what it looks at: three megabytes."""
    (tmp_path / "probe.py").write_text("import gc\nprint('frozen', gc.get_freeze_count(), flush=True)\napp = None\n")
    command = [*SERVERS["gunicorn"][:-1], "--pythonpath", tmp_path, "probe:app"]
    settings = {"MODEL_URL": "http://model.invalid", "RESPONSE_TOPIC": "projects/p/topics/responses"}
    settings |= {"PUSH_AUTH": "none", "PUBSUB_EMULATOR_HOST": "pubsub.invalid:80", "PORT": str(free_port())}
    with process(command, settings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as it:
        (count,) = itertools.islice((line for line in it.stdout if line.startswith("frozen")), 1)
    assert int(count.split()[1]) > 10_000


@pytest.mark.parametrize("server", SERVERS)
def test_proxies_that_disagree(serve, model, server):
    """They are not asked, by either command."""
    service = serve(server, MODEL_URL=model.url)
    said = {"X-Forwarded-Proto": "https", "X-Forwarded-Ssl": "off", "SCRIPT_NAME": "/elsewhere"}
    assert service.request("GET", "/health/live", b"", said)[0] == 200


def test_the_production_command_of_the_documentation_is_the_one_that_is_tested():
    """docs/deploy.md names the command that these tests run."""
    command = 'gunicorn -c gunicorn.conf.py \'functions_framework:create_app("handle","main.py")\''
    assert command in (ROOT / "docs/deploy.md").read_text()

"""A file in, a file out: what is written, what is said, and what can be chosen."""

import gzip
import json
import re
import sys
import threading
from pathlib import Path

import pytest
from backports import zstd

from tests.parts.processes import until

from .conftest import openai_line, read_lines, states, write_lines


def ids(path):
    """The custom ids in a file, as they stand there."""
    return [each["custom_id"] for each in read_lines(path)]


def test_openai_lines(local_place, files):
    """What the relay is sent is its own form, with the ids in metadata and attributes; what is written is OpenAI's."""
    write_lines(files.requests, [openai_line("a"), openai_line("b")])
    done = local_place.start(*files.command, "--priority", "low", "--batch-id", "mine")
    assert done.returncode == 0, done.stderr
    custom_id, message_id, attributes, request = sorted(local_place.calls())[0]
    assert attributes.pop("batch_begun")  # tells it from an earlier batch of the same id
    assert (custom_id, attributes) == ("a", {"batch_id": "mine", "custom_id": "a", "priority": "low"})
    assert request == {
        "path": "/v1/completions",
        "metadata": {"custom_id": "a", "batch_id": "mine"},
        "body": openai_line("a")["body"],
    }
    (line,) = [each for each in read_lines(files.answers) if each["custom_id"] == "a"]
    assert set(line) == {"id", "custom_id", "response", "error"}
    assert (line["error"], line["response"]["status_code"]) == (None, 200)
    assert line["response"]["request_id"] == message_id
    assert line["response"]["body"]["choices"][0]["text"] == "xxxxx"
    assert read_lines(files.errors) == []
    assert local_place.subscriptions() == {"relay"}  # the batch's own is gone


def test_the_relays_own_lines(local_place, files):
    """Metadata come back with the line; the id is custom_id, or id, or the line's number; options are kept."""
    write_lines(
        files.requests,
        [
            {"metadata": {"id": 7, "deep": {"x": [1]}}, "body": {"prompt": "a"}, "options": {"timeout_seconds": 5}},
            "",
            {"path": "v1/completions", "body": {"prompt": "b"}},
        ],
    )
    done = local_place.run(*files.command, "--in-order", "--deadline", "2099-01-31T12:00:00Z")
    assert done.returncode == 0, done.stderr
    assert ids(files.answers) == ["7", "line-3"]
    assert read_lines(files.answers)[0]["metadata"] == {"id": 7, "deep": {"x": [1]}}
    requests = {custom_id: request for custom_id, _, _, request in local_place.calls()}
    assert requests["7"]["options"] == {"timeout_seconds": 5, "deadline": "2099-01-31T12:00:00Z"}
    assert requests["line-3"]["options"] == {"deadline": "2099-01-31T12:00:00Z"}


def test_errors_of_the_model(local_place, files):
    """They are in the error file as HTTP errors; retry takes them out, and sends them and nothing else."""
    write_lines(
        files.requests,
        [openai_line("good"), openai_line("ill", json.dumps({"status": 400, "code": "odd"})), "{bad json"],
    )
    done = local_place.run(*files.command, "--json")
    assert done.returncode == 1, done.stderr
    assert json.loads(done.stdout)["failed_by_code"] == {"invalid_json": 1, "odd": 1}
    by_id = {each["custom_id"]: each for each in read_lines(files.errors)}
    assert by_id["ill"]["error"] is None
    assert by_id["ill"]["response"]["body"]["error"]["code"] == "odd"
    assert by_id["line-3"]["response"] is None
    assert "line 3: Not JSON" in done.stderr

    assert "no line to send again" in local_place.run("batch", "retry", files.answers, "--code", "other").stdout
    assert "1 lines will" in local_place.run("batch", "retry", files.answers).stdout
    assert ids(files.errors) == ["line-3"]
    assert local_place.run(*files.command).returncode == 1
    assert local_place.asked() == {"good": 1, "ill": 2}
    assert sorted(ids(files.errors)) == ["ill", "line-3"]
    assert ids(files.answers) == ["good"]


def test_vllm_format(local_place, files):
    """One file; an error is in `error`, and its body is left out."""
    ill_line = openai_line("ill", json.dumps({"status": 400, "code": "odd"}))
    write_lines(files.requests, [openai_line("good"), ill_line, "{bad"])
    done = local_place.run(*files.command, "--format", "vllm", "--in-order")
    assert done.returncode == 1, done.stderr
    good, ill, bad = read_lines(files.answers)
    assert (good["error"], good["response"]["status_code"]) == (None, 200)
    assert (ill["error"]["code"], ill["response"]["body"]) == ("odd", None)
    # What comes after it need not say the form again.
    assert local_place.run("batch", "retry", files.answers).returncode == 0
    assert read_lines(files.answers) == [good, bad]
    assert local_place.run("batch", "collect", "-o", files.answers, "--give-up-after", "1s").returncode == 1
    assert not files.errors.exists()


def test_in_order(local_place, files):
    """Both files are put in the input's order in the end, whatever came first."""
    lines = [openai_line(f"{n}", json.dumps({"status": 400 if n % 3 == 0 else 200})) for n in range(3000)]
    write_lines(files.requests, lines)
    assert local_place.run(*files.command, "--in-order").returncode == 1
    assert ids(files.answers) == [f"{n}" for n in range(3000) if n % 3]
    assert ids(files.errors) == [f"{n}" for n in range(3000) if n % 3 == 0]


def test_answers_that_come_twice(local_place, files):
    """The first is kept, the others are counted, and no line is written twice."""
    prompts = [json.dumps({"twice": True})] * 20
    write_lines(files.requests, [openai_line(f"{n}", prompt) for n, prompt in enumerate(prompts)])
    done = local_place.run(*files.command, "--json")
    assert done.returncode == 0, done.stderr
    assert sorted(ids(files.answers), key=int) == [f"{n}" for n in range(20)]
    assert 0 < json.loads(done.stdout)["duplicates"] <= 20


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_compressed_files(local_place, files, ending):
    """Both ends may be compressed."""
    pack = {".gz": gzip.compress, ".zst": zstd.compress}[ending]
    unpack = {".gz": gzip.decompress, ".zst": zstd.decompress}[ending]
    requests, answers = Path(f"{files.requests}{ending}"), Path(f"{files.answers}{ending}")
    requests.write_bytes(pack(json.dumps(openai_line("a")).encode() + b"\n"))
    done = local_place.run("batch", "run", requests, "-o", answers)
    assert done.returncode == 0, done.stderr
    assert json.loads(unpack(answers.read_bytes()))["custom_id"] == "a"
    requests.write_bytes(requests.read_bytes()[:-5])
    done = local_place.run("batch", "check", requests)
    assert (done.returncode, "damaged" in done.stderr) == (2, True), done.stderr


def test_standard_input_and_output(local_place, files):
    """`-` is both; run again with the same input, it goes on rather than sending anything twice.

    Another input is refused, by a word that names every file to remove before it.
    """
    text = (json.dumps(openai_line("a")) + "\n").encode()
    for _ in range(2):
        done = local_place.run("batch", "run", "-", "-o", "-", stdin=text)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["custom_id"] == "a"
    assert local_place.asked() == {"a": 1}
    other = (json.dumps(openai_line("b")) + "\n").encode()
    done = local_place.run("batch", "run", "-", "-o", "-", stdin=other)
    assert (done.returncode, b"not the file that this batch was begun with" in done.stderr) == (2, True)
    for name in ("batch-answers.jsonl.journal", "batch-answers.jsonl", "batch-answers.errors.jsonl"):
        assert re.search(rf"remove [^:]*\b{re.escape(name)}[ ,]".encode(), done.stderr), done.stderr
        (local_place.folder / name).unlink()
    done = local_place.run("batch", "run", "-", "-o", "-", stdin=other)
    assert (done.returncode, json.loads(done.stdout)["custom_id"]) == (0, "b"), done.stderr


def test_a_subscription_of_ones_own(local_place, files):
    """A given subscription is read and stays; answers of other batches in it are left to their readers."""
    write_lines(files.requests, [openai_line("a")])
    mine = local_place.subscribe("mine", "responses", ack_deadline_seconds=10)
    local_place.publish("responses", b'{"status_code":200,"metadata":{},"body":{}}', batch_id="other", custom_id="a")
    assert local_place.run(*files.command, "--subscription", "mine").returncode == 0
    assert ids(files.answers) == ["a"]
    assert local_place.subscriptions() == {"relay", "mine"}
    done = local_place.run("batch", "run", files.requests, "-o", "b.jsonl", "--subscription", "misspelt")
    assert (done.returncode, "misspelt does not exist" in done.stderr) == (2, True), done.stderr
    assert states(local_place.folder / "b.jsonl.journal")["pending"] == 1  # nothing was sent that nobody could read
    left = []

    def other_came_again():
        pulled = local_place.subscriber.pull(subscription=mine, max_messages=10, timeout=30)
        left.extend(each.message.attributes["batch_id"] for each in pulled.received_messages)
        return "other" in left

    until(other_came_again, 30)


def test_submitted_here_and_collected_there(local_place, files):
    """On another machine the request file and the batch's id are enough."""
    lines = [openai_line(f"{n}") for n in range(50)] + ["{bad json"]
    write_lines(files.requests, lines)
    done = local_place.run("batch", "submit", files.requests, "-o", files.answers, "--batch-id", "b1")
    assert done.returncode == 0, done.stderr
    assert "sent 50 requests as b1" in done.stderr
    there = local_place.folder / "there"
    there.mkdir()
    done = local_place.run("batch", "collect", files.requests, "-o", there / "a.jsonl", "--batch-id", "b1", "--json")
    assert done.returncode == 1, done.stderr
    assert (len(ids(there / "a.jsonl")), ids(there / "a.errors.jsonl")) == (50, ["line-51"])
    assert set(local_place.asked().values()) == {1}


def test_submitted_and_collected_here(local_place, files):
    """`collect` finds what `submit` noted; `status` tells how things stand in between."""
    write_lines(files.requests, [openai_line(f"{n}") for n in range(50)])
    assert local_place.run("batch", "submit", files.requests, "-o", files.answers).returncode == 0
    done = local_place.run("batch", "status", files.answers, "--json")
    assert (done.returncode, json.loads(done.stdout)["waiting"]) == (1, 50)
    done = local_place.run("batch", "collect", "-o", files.answers)
    assert done.returncode == 0, done.stderr
    assert len(ids(files.answers)) == 50
    assert "50 of 50" in local_place.run("batch", "status", files.answers).stdout


def test_flow(local_place, files):
    """No more are in flight than asked for, and the model is not asked for more tokens than may be spent."""
    write_lines(files.requests, [openai_line(f"{n}") for n in range(200)])
    most, over = 0, threading.Event()

    def watch():
        nonlocal most
        while not over.wait(0.01):
            now = states(files.journal)
            most = max(most, now["sending"] + now["sent"])

    watcher = threading.Thread(target=watch)
    watcher.start()
    done = local_place.run(*files.command, "--max-in-flight", 10, "--max-tokens-total", 400, "--json")
    over.set()
    watcher.join()
    assert done.returncode == 1, done.stderr
    summary = json.loads(done.stdout)
    assert summary["end"] == "tokens_spent"
    assert summary["tokens"]["m"]["tokens_in"] + summary["tokens"]["m"]["tokens_out"] <= 400
    assert summary["waiting"] == 0
    assert summary["answered"] >= 20
    assert summary["answered"] + summary["not_sent"] == 200
    assert 0 < most <= 10
    assert local_place.run(*files.command).returncode == 0  # without the limit it goes on
    assert set(local_place.asked().values()) == {1}


def test_cancel(local_place, files):
    """Nothing more is sent; what was answered stays, and the rest is `batch_cancelled`."""
    write_lines(files.requests, [openai_line(f"{n}") for n in range(400)])
    with local_place.running(*files.command, "--rate", 20, "--json") as child:
        until(lambda: states(files.journal)["succeeded"] > 5)
        assert local_place.run("batch", "cancel", files.answers).returncode == 0
        assert child.wait(60) == 1
    cancelled = [each for each in read_lines(files.errors) if each["error"]["code"] == "batch_cancelled"]
    assert len(cancelled) + len(read_lines(files.answers)) == 400
    assert {each["custom_id"] for each in cancelled}.isdisjoint(ids(files.answers))
    assert len(local_place.calls()) < 400
    assert local_place.run("batch", "cancel", files.answers).returncode == 2  # it is over


def test_giving_up(local_place, files):
    """What gets no answer becomes `request_timeout`, and can be retried."""
    write_lines(files.requests, [openai_line("a"), openai_line("lost", json.dumps({"lose": 1}))])
    assert local_place.run(*files.command, "--give-up-after", "2s").returncode == 1
    (line,) = read_lines(files.errors)
    assert (line["custom_id"], line["response"], line["error"]["code"]) == ("lost", None, "request_timeout")
    assert local_place.run("batch", "retry", files.answers).returncode == 0


def test_a_deadline_that_passes(local_place, files):
    """Long after it, what is not answered is `batch_expired`."""
    write_lines(files.requests, [openai_line("lost", json.dumps({"lose": 1}))])
    assert local_place.run(*files.command, "--deadline", "2020-01-01T00:00:00Z").returncode == 1
    (line,) = read_lines(files.errors)
    assert (line["response"], line["error"]["code"]) == (None, "batch_expired")


def test_price_and_notify(local_place, files):
    """The end is told with what it cost: to a command on its standard input, and to a topic."""
    write_lines(files.requests, [openai_line("a"), openai_line("b")])
    told = local_place.folder / "told.json"
    command = f"{sys.executable} -c \"import sys; open('{told}', 'w').write(sys.stdin.read())\""
    done = local_place.run(*files.command, "--price", "in=1000,out=2000", "--notify", command)
    assert done.returncode == 0, done.stderr
    summary = json.loads(told.read_text())
    assert summary["tokens"] == {"m": {"answers": 2, "tokens_in": 6, "tokens_out": 10}}
    assert summary["cost"] == (6 * 1000 + 10 * 2000) / 1e6
    topic = local_place.name("topics", "told")
    local_place.publisher.create_topic(name=topic)
    name = local_place.subscribe("told", "told")
    done = local_place.run(*files.command, "--notify", topic)
    assert done.returncode == 0, done.stderr
    (received,) = local_place.subscriber.pull(subscription=name, max_messages=1, timeout=30).received_messages
    assert json.loads(received.message.data)["answered"] == 2


def test_large_requests_and_answers(local_place, files):
    """Nearly 10 MB go out and come back; more is a bad line."""
    large = json.dumps({"size": 9_000_000}) + " " * 9_000_000
    write_lines(files.requests, [openai_line("large", large), openai_line("too large", "x" * 10_000_000)])
    assert local_place.run(*files.command).returncode == 1
    (line,) = read_lines(files.answers)
    assert len(line["response"]["body"]["choices"][0]["text"]) == 9_000_000
    assert [each["error"]["code"] for each in read_lines(files.errors)] == ["request_too_large"]

"""Nothing is lost and nothing is paid twice, whatever is killed and whenever."""

import collections
import json
import os
import signal

import grpc
import pytest

from tests.parts.processes import spawn, until

from .conftest import Tunnel, openai_line, read_lines, states, write_lines
from .proxy import Refusing

# BATCH_LINES=50000 make test PYTEST_ARGS=tests/batch takes a whole file of OpenAI's largest size.
# More than are published together (500), read together (1,000) and, with one of them, noted together (2,000).
LINES = {"local": int(os.environ.get("BATCH_LINES", "3000")), "google": 1_500}
UNSURE = 8


def batch_file(path, count):
    """`count` lines of OpenAI's form; of each hundred, one is bad in one of five ways."""
    bad = [
        lambda number: "{not json",
        lambda number: {"custom_id": f"bad-{number}", "method": "POST", "url": "/v1/completions"},
        lambda number: openai_line(f"bad-{number}", url="/v1/files"),
        lambda number: openai_line("id-1"),
        lambda number: openai_line(f"bad-{number}", json.dumps({"status": 400, "code": "too_long"})),
    ]
    lines = [
        bad[number // 100 % 5](number) if number % 100 == 50 else openai_line(f"id-{number}")
        for number in range(1, count + 1)
    ]
    return write_lines(path, lines)


def journal_has(journal, condition):
    """Wait until the states of the lines are so."""
    until(lambda: condition(states(journal)), 60)


@pytest.mark.timeout(300)
def test_killed_while_publishing_between_publish_and_journal_and_while_collecting(place, request):
    """Every line is in one of the two files, once; the model is called once for each; openai's types parse them."""
    count = LINES[request.node.callspec.params["place"]]
    requests = batch_file(place.folder / "requests.jsonl", count)
    answers, errors = place.folder / "answers.jsonl", place.folder / "answers.errors.jsonl"
    journal = place.folder / "answers.jsonl.journal"
    command = ("batch", "run", requests, "-o", answers, "--unsure-after", UNSURE)

    with place.running(*command, "--rate", count / 10):
        journal_has(journal, lambda now: now["sent"] > count / 20)  # while publishing

    with Tunnel(place.address) as tunnel, place.running(*command, "--rate", count / 10, address=tunnel.address):
        before = states(journal)["pending"]
        journal_has(journal, lambda now: now["pending"] < before - count / 20)
        tunnel.mute.set()  # what is published now arrives, and is never confirmed
        journal_has(journal, lambda now: now["sending"] > 0)
        with place.relay():  # it has been asked for more than the journal knows to be sent
            until(lambda: len(place.calls()) > states(journal)["sent"], 60)
    assert states(journal)["sending"] > 0

    with place.relay(seconds=0.5), place.running(*command):
        journal_has(journal, lambda now: now["succeeded"] > count / 3)  # while collecting
    assert states(journal)["succeeded"] < count * 0.98

    with place.relay():
        done = place.run(*command, "--json")
    assert done.returncode == 1, done.stderr
    summary = json.loads(done.stdout)
    good = count - count // 100
    assert (summary["total"], summary["answered"], summary["failed"]) == (count, good, count // 100)
    check_files(read_lines(answers), read_lines(errors), count)
    assert set(place.asked().values()) == {1}
    assert len(place.asked()) == count - count // 100 * 4 // 5


def check_files(answered, failed, count):
    """Each line once, in the form of OpenAI's files."""
    from openai.types import BatchError, Completion  # takes seconds, which only those need who come here

    assert len(answered) + len(failed) == count
    expected = {f"id-{number}" for number in range(1, count + 1) if number % 100 != 50}
    assert collections.Counter(each["custom_id"] for each in answered) == dict.fromkeys(expected, 1)
    for each in answered[:500]:
        assert each["error"] is None
        assert Completion.model_validate(each["response"]["body"]).choices[0].text
    kinds = collections.Counter()
    for each in failed:
        if each["response"]:
            assert (each["error"], each["response"]["status_code"]) == (None, 400)
            kinds[each["response"]["body"]["error"]["code"]] += 1
        else:
            error = BatchError.model_validate(each["error"])
            assert error.line % 100 == 50
            kinds[error.code] += 1
    each_kind = ("invalid_json", "invalid_request", "path_not_allowed", "duplicate_custom_id", "too_long")
    assert kinds == dict.fromkeys(each_kind, count // 500)


def test_interrupted(local_place):
    """Ctrl-C and SIGTERM end a run in order, with a word on how to go on; the same command does."""
    requests = write_lines(local_place.folder / "requests.jsonl", [openai_line(f"{n}") for n in range(400)])
    command = ("batch", "run", requests, "-o", local_place.folder / "answers.jsonl", "--rate", 100)
    with local_place.relay():
        for number in (signal.SIGINT, signal.SIGTERM):
            before = states(local_place.folder / "answers.jsonl.journal")["succeeded"]
            with local_place.running(*command, measured=True, spawn=spawn) as child:
                journal_has(
                    local_place.folder / "answers.jsonl.journal", lambda now, before=before: now["succeeded"] > before
                )
                os.kill(child.pid, number)
                assert child.wait(30) == 130
        assert "the same command goes on from here" in (local_place.folder / "command.log").read_text()
        assert states(local_place.folder / "answers.jsonl.journal")["sending"] == 0
        assert local_place.run(*command[:-2]).returncode == 0
    assert set(local_place.asked().values()) == {1}
    assert len(read_lines(local_place.folder / "answers.jsonl")) == 400


def test_what_was_never_published_is_sent_after_the_time_agreed(local_place):
    """A run killed after it noted that it was about to publish, and before anything arrived, loses nothing."""
    requests = write_lines(local_place.folder / "requests.jsonl", [openai_line(f"{n}") for n in range(20)])
    answers, journal = local_place.folder / "answers.jsonl", local_place.folder / "answers.jsonl.journal"
    command = ("batch", "run", requests, "-o", answers, "--unsure-after", 2)
    killed = (*command, "--rate", 4)
    with Refusing(local_place.address, "Publish", None) as proxy, local_place.running(*killed, address=proxy.address):
        journal_has(journal, lambda now: now["sending"] > 0)
    unsure = states(journal)["sending"]
    with local_place.relay():
        done = local_place.run(*command, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["sent_again"] == unsure
    assert len(read_lines(answers)) == 20
    assert set(local_place.asked().values()) == {1}


def test_a_bad_minute_of_pubsub(local_place):
    """Connected, and with an error for every publish: what may be paid twice is what was under way, and no more."""
    requests = write_lines(local_place.folder / "requests.jsonl", [openai_line(f"{n}") for n in range(3_000)])
    journal = local_place.folder / "answers.jsonl.journal"
    command = ("batch", "submit", requests, "-o", local_place.folder / "answers.jsonl")
    away = Refusing(local_place.address, "Publish", grpc.StatusCode.UNAVAILABLE)
    with away as proxy, local_place.running(*command, address=proxy.address):
        until(lambda: states(journal)["sending"] % 500 == 2)  # two single lines, to see whether it is over
        unsure = states(journal)["sending"]
    assert unsure < 2_003
    back = Refusing(local_place.address, "Publish", grpc.StatusCode.UNAVAILABLE, times=1)
    with back as proxy:  # and goes on by itself
        assert local_place.run(*command, address=proxy.address).returncode == 0
    assert 1 <= states(journal)["sending"] - unsure <= 500
    assert states(journal)["pending"] == 0

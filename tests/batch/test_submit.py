"""What `submit` leaves, and what `collect` makes of it."""

import json
import shutil
import signal

import grpc

from handler import batch
from tests.parts.processes import until

from .conftest import openai_line, read_lines, states, write_lines
from .proxy import Refusing


def collected(place, files, *options):
    """The exit status of `collect`, its summary, and what it says."""
    done = place.run("batch", "collect", "-o", files.answers, "--json", *options)
    return done.returncode, json.loads(done.stdout), done.stderr


def test_collect_after_the_tokens_were_spent(local_place, files):
    """It ends when what was sent is answered, and says how many lines were not sent, and how they are."""
    write_lines(files.requests, [openai_line(f"{n}") for n in range(200)])
    submit = ("batch", "submit", files.requests, "-o", files.answers)
    done = local_place.run(*submit, "--max-tokens-total", 1000)
    assert done.returncode == 1, done.stderr
    not_sent = states(files.journal)["pending"]
    assert 0 < not_sent < 200
    assert f"{not_sent} are not sent" in done.stderr
    status, summary, _ = collected(local_place, files)
    assert (status, summary["end"]) == (1, "not_sent")
    assert (summary["answered"], summary["not_sent"]) == (200 - not_sent, not_sent)
    said = local_place.run("batch", "collect", "-o", files.answers).stderr
    assert f"{not_sent} lines were not sent: `inference-relay batch run`" in said

    assert local_place.run(*submit).returncode == 0
    status, summary, _ = collected(local_place, files)
    assert (status, summary["end"]) == (0, "completed")
    assert local_place.asked() == {f"{n}": 1 for n in range(200)}


def test_collect_after_an_interrupted_submit(local_place, files):
    """It ends, too, and what was cancelled meanwhile is ended by it."""
    write_lines(files.requests, [openai_line(f"{n}") for n in range(200)])
    with local_place.running("batch", "submit", files.requests, "-o", files.answers, "--rate", 10) as child:
        until(lambda: states(files.journal)["sent"] > 3)
        child.send_signal(signal.SIGINT)
        assert child.wait(60) == 130
    status, summary, _ = collected(local_place, files)
    assert (status, summary["end"]) == (1, "not_sent")
    assert local_place.run("batch", "cancel", files.answers).returncode == 0
    status, summary, _ = collected(local_place, files)
    assert (status, summary["end"]) == (1, "completed")
    assert {each["error"]["code"] for each in read_lines(files.errors)} == {"batch_cancelled"}
    assert len(read_lines(files.errors)) + len(read_lines(files.answers)) == 200


def test_collect_where_some_may_not_have_been_sent(local_place, files):
    """Lines that may never have been sent do not hold it up for longer than `--unsure-after`, nor do those not sent."""
    write_lines(files.requests, [openai_line(f"{n}") for n in range(200)])
    command = ("batch", "submit", files.requests, "-o", files.answers)
    assert local_place.run(*command, "--max-tokens-total", 1000).returncode == 1
    assert states(files.journal)["sent"] > 0
    killed = (*command, "--rate", 10)
    with Refusing(local_place.address, "Publish", None) as proxy, local_place.running(*killed, address=proxy.address):
        until(lambda: states(files.journal)["sending"] > 0)
    status, summary, _ = collected(local_place, files, "--unsure-after", "2s")
    assert (status, summary["end"]) == (1, "unsure_left")
    assert summary["not_sent"] > 0


def test_collect_long_after_the_deadline(local_place, files):
    """What was answered is taken however late, also where Pub/Sub lets the first pulls wait."""
    write_lines(files.requests, [openai_line("a"), openai_line("b")])
    command = ("batch", "submit", files.requests, "-o", files.answers, "--deadline", "2020-01-01T00:00:00Z")
    assert local_place.run(*command).returncode == 0
    until(lambda: local_place.asked() == {"a": 1, "b": 1})
    with Refusing(local_place.address, "Pull", grpc.StatusCode.UNAVAILABLE, times=4) as proxy:
        done = local_place.run("batch", "collect", "-o", files.answers, address=proxy.address)
    assert done.returncode == 0, done.stderr
    assert {each["custom_id"] for each in read_lines(files.answers)} == {"a", "b"}


def test_who_collects(local_place, files, monkeypatch):
    """While a batch is only sent nobody looks for its answers, and none is missed."""
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", local_place.project)
    write_lines(files.requests, [openai_line("a")])
    seen = {"submit": set(), "collect": set()}
    batch.submit(str(files.requests), str(files.answers), progress=lambda it: seen["submit"].add(it.collecting))
    batch.collect(str(files.answers), progress=lambda it: seen["collect"].add(it.collecting))
    assert seen["submit"] <= {False}  # it may be over before the first look
    assert seen["collect"] == {True}


def test_collect_on_another_machine(local_place, files):
    """It takes all of the batch's files there; without the outputs it says so, and what it costs to begin anew."""
    write_lines(files.requests, [openai_line("a"), openai_line("b"), "{bad"])
    with local_place.running("batch", "run", files.requests, "-o", files.answers, "--rate", 1) as child:
        until(lambda: states(files.journal)["succeeded"] == 1)
        child.kill()
    assert local_place.run("batch", "submit", files.requests, "-o", files.answers).returncode == 0
    there = local_place.folder / "there"
    there.mkdir()
    answers = there / files.answers.name
    for copied in local_place.folder.glob(f"{files.journal.name}*"):
        shutil.copy(copied, there)
    done = local_place.run("batch", "collect", "-o", answers)
    assert (done.returncode, "Bring it back" in done.stderr) == (2, True), done.stderr
    assert "sends, and pays for, everything again" in done.stderr
    shutil.copy(files.answers, there)
    shutil.copy(files.errors, there)
    done = local_place.run("batch", "collect", "-o", answers)
    assert done.returncode == 1, done.stderr
    assert {each["custom_id"] for each in read_lines(answers)} == {"a", "b"}
    assert local_place.asked() == {"a": 1, "b": 1}


def test_collect_where_nothing_was_copied(local_place, files):
    """It names every file that belongs to a batch."""
    done = local_place.run("batch", "collect", "-o", files.answers)
    assert (done.returncode, "answers.jsonl.journal*" in done.stderr) == (2, True), done.stderr
    assert "answers.errors.jsonl" in done.stderr


def test_collect_with_the_file_where_it_was_submitted(local_place, files):
    """What was not sent yet is not taken for sent, and `run` sends it."""
    write_lines(files.requests, [openai_line(f"{n}") for n in range(200)])
    submit = ("batch", "submit", *files.command[2:], "--batch-id", "b1", "--max-tokens-total", 1000)
    assert local_place.run(*submit).returncode == 1
    done = local_place.run("batch", "collect", *files.command[2:], "--batch-id", "b1", "--json")
    assert (done.returncode, json.loads(done.stdout)["end"]) == (1, "not_sent"), done.stderr
    assert local_place.run(*files.command).returncode == 0
    assert local_place.asked() == {f"{n}": 1 for n in range(200)}


def test_a_retry_where_another_machine_has_sent(local_place, files):
    """Nobody sends there what is retried: it is not waited for."""
    write_lines(files.requests, [openai_line("a", json.dumps({"status": 400}))])
    submit = ("batch", "submit", *files.command[2:], "--batch-id", "b1")
    assert local_place.run(*submit).returncode == 0
    there = local_place.folder / "there.jsonl"
    collect = ("batch", "collect", files.requests, "-o", there, "--batch-id", "b1", "--json")
    assert json.loads(local_place.run(*collect).stdout)["failed_by_code"] == {"http_400": 1}
    assert local_place.run("batch", "retry", there).returncode == 0
    assert json.loads(local_place.run(*collect).stdout)["end"] == "not_sent"

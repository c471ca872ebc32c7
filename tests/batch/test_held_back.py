"""What holds the sending back, such as `--max-in-flight`, never holds a batch up without end."""

import json
import threading
from collections import Counter

import grpc
import pytest

from handler import batch
from handler.batch.errors import OutcomeUnknown
from handler.batch.work import sending
from handler.batch.work.beginning import plan_of
from handler.batch.work.journal import Journal
from handler.batch.work.outputs import Outputs
from tests.parts.processes import until

from .conftest import openai_line, read_lines, states, write_lines
from .proxy import Refusing

LINES, UNSURE = 12, 5


@pytest.mark.parametrize("limit", [("--max-in-flight", UNSURE - 2), ("--max-tokens-total", 200)])
def test_what_may_not_have_been_sent_holds_nothing_up_for_longer_than_agreed(local_place, files, limit):
    """Where they are as many as may be in flight, or spend tokens, they are sent again, and then the rest is sent."""
    write_lines(files.requests, [openai_line(f"{n}") for n in range(LINES)])
    killed = (*files.command, "--max-in-flight", UNSURE)
    with Refusing(local_place.address, "Publish", None) as proxy, local_place.running(*killed, address=proxy.address):
        until(lambda: states(files.journal)["sending"] > 0)
    assert states(files.journal) == Counter(sending=UNSURE, pending=LINES - UNSURE)
    done = local_place.run(*files.command, *limit, "--unsure-after", 2, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["sent_again"] == UNSURE
    assert local_place.asked() == {f"{n}": 1 for n in range(LINES)}


def test_what_is_being_published_is_not_sent_again(local_place, files):
    """However long Pub/Sub takes to take it, and be that longer than `--unsure-after`."""
    write_lines(files.requests, [openai_line(f"{n}") for n in range(LINES)])
    with Refusing(local_place.address, "Publish", grpc.StatusCode.RESOURCE_EXHAUSTED, times=2) as proxy:
        options = ("--max-in-flight", 4, "--unsure-after", 1, "--json")
        done = local_place.run(*files.command, *options, address=proxy.address)
    assert done.returncode == 0, done.stderr
    assert (proxy.refused, json.loads(done.stdout)["sent_again"]) == (2, 0)
    assert local_place.asked() == {f"{n}": 1 for n in range(LINES)}


def test_giving_up_on_what_fills_the_flight(local_place, files):
    """Where all that may be in flight gets no answer for as long as `--give-up-after`, the rest fails."""
    write_lines(files.requests, [openai_line(f"{n}", json.dumps({"lose": 1})) for n in range(LINES)])
    done = local_place.run(*files.command, "--max-in-flight", 2, "--give-up-after", 2)
    assert done.returncode == 1, done.stderr
    assert [each["error"]["code"] for each in read_lines(files.errors)] == ["request_timeout"] * LINES
    assert len(local_place.calls()) == 2


def test_submitting_no_more_than_may_be_in_flight(local_place, files, monkeypatch):
    """It ends when so many are sent, since nobody collects meanwhile."""
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", local_place.project)
    write_lines(files.requests, [openai_line(f"{n}") for n in range(LINES)])
    summary = batch.submit(str(files.requests), str(files.answers), batch.Options(max_in_flight=3))
    assert (summary.end, summary.waiting, summary.not_sent) == ("stopped", 3, LINES - 3)


def test_giving_up_while_pubsub_takes_nothing(local_place, files):
    """It does not wait for a publish that is confirmed."""
    write_lines(files.requests, [openai_line(f"{n}") for n in range(LINES)])
    with Refusing(local_place.address, "Publish", grpc.StatusCode.UNAVAILABLE) as proxy:
        done = local_place.run(*files.command, "--rate", 5, "--give-up-after", 3, address=proxy.address)
    assert done.returncode == 1, done.stderr
    assert [each["error"]["code"] for each in read_lines(files.errors)] == ["request_timeout"] * LINES


class Stop(threading.Event):
    """Notes how long it is waited for, and does not wait; after so many times it is set."""

    def __init__(self, times):
        super().__init__()
        self.times, self.waits = times, []

    def wait(self, timeout=None):
        if timeout >= 1:
            self.waits.append(timeout)
        if len(self.waits) >= self.times:
            self.set()
        return self.is_set()


class Silent:
    """A topic that confirms nothing."""

    def connected(self, seconds):
        return True

    def publish(self, messages):
        raise OutcomeUnknown


@pytest.mark.parametrize("together", [1, 5])
def test_lines_that_go_out_one_by_one(files, local_place, monkeypatch, together):
    """The pause between them grows, whether they were to be published together or alone."""
    monkeypatch.setattr(sending, "MAX_BATCH_MESSAGES", together)
    monkeypatch.setattr(sending, "_AT_ONCE", 1)
    write_lines(files.requests, [openai_line(f"{n}") for n in range(LINES)])
    submit = ("batch", "submit", *files.command[2:], "--max-tokens-total", 1)
    assert local_place.run(*submit).returncode == 1
    stop = Stop(7)
    with Journal(files.journal) as journal, Outputs(journal, files.answers, files.errors) as outputs:
        sending.Sender(journal, outputs, plan_of(journal), batch.Options(), stop, None).run(Silent())
    assert stop.waits == [1, 2, 4, 8, 16, 32, 60]


def test_a_moment_without_a_confirmation_long_after_the_last_answer(local_place, files):
    """It does not end a batch that is still being sent, though no answer has come for as long as is waited for any."""
    write_lines(files.requests, [openai_line(f"{n}", json.dumps({"lose": 1})) for n in range(LINES)])
    command = (*files.command, "--rate", 4, "--give-up-after", 2, "--unsure-after", 60)
    with (
        Refusing(local_place.address, "Publish", grpc.StatusCode.UNAVAILABLE, times=0) as proxy,
        local_place.running(*command, address=proxy.address) as child,
    ):
        until(lambda: len(local_place.calls()) >= LINES - 2)
        proxy.times = LINES
        until(lambda: proxy.refused)
        proxy.times = 0
        assert child.wait(60) == 1
    assert len(local_place.calls()) == LINES - proxy.refused  # all whose publish did not fail were asked for

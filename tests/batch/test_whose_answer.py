"""Which answers are a batch's own, and how long those are waited for that are on their way."""

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from unittest.mock import Mock

import pytest

from handler import batch
from handler.batch import api
from handler.batch.asking import NoAnswer
from handler.batch.controlling import NotDone, Reply
from handler.batch.work import session
from handler.batch.work.journal import Journal
from tests.parts.processes import until

from .conftest import openai_line, read_lines, states, write_lines


@pytest.fixture
def files(local_place):
    """Names of a batch's files, and one request; nobody answers it."""

    class Files:
        requests = write_lines(local_place.folder / "requests.jsonl", [openai_line("a")])
        answers, errors = local_place.folder / "answers.jsonl", local_place.folder / "answers.errors.jsonl"
        journal = local_place.folder / "answers.jsonl.journal"
        command = ("batch", "run", requests, "-o", answers)

    return Files


def sent(place):
    """The next message that the relay would get."""
    name = place.name("subscriptions", "relay")
    (pulled,) = place.subscriber.pull(subscription=name, max_messages=1, timeout=30).received_messages
    place.subscriber.acknowledge(subscription=name, ack_ids=[pulled.ack_id])
    return pulled.message


def answer(place, message, status=200):
    """Answer it as the relay does."""
    body = {"error": {"message": "no", "code": "bad"}} if status != 200 else {"text": "yes"}
    data = {"status_code": status, "metadata": json.loads(message.data)["metadata"], "body": body}
    own = {"request_message_id": message.message_id, "status_code": str(status)}
    place.publish("responses", json.dumps(data).encode(), **message.attributes, **own)


def test_an_answer_that_comes_after_it_was_given_up(local_place, files):
    """It is the answer all the same, once the line is tried again: the first one that comes is kept."""
    assert local_place.run(*files.command, "--give-up-after", "1s").returncode == 1
    first = sent(local_place)
    assert local_place.run("batch", "retry", files.answers).returncode == 0
    with local_place.running(*files.command) as child:
        until(lambda: states(files.journal)["sent"] == 1)
        answer(local_place, first)
        assert child.wait(30) == 0
    assert [each["response"]["request_id"] for each in read_lines(files.answers)] == [first.message_id]


@pytest.mark.parametrize("answered_before", [True, False], ids=["again", "late"])
def test_an_error_of_a_line_that_is_tried_again(local_place, files, answered_before):
    """It is the first message's, and does not end the second one, whose answer is paid for."""
    with local_place.running(*files.command, "--give-up-after", 60 if answered_before else 1) as child:
        first = sent(local_place)
        if answered_before:
            answer(local_place, first, status=400)
        assert child.wait(30) == 1
    assert local_place.run("batch", "retry", files.answers).returncode == 0
    with local_place.running(*files.command) as child:
        second = sent(local_place)
        answer(local_place, first, status=408)
        until(lambda: status(local_place, files.answers)["duplicates"] == 1)
        answer(local_place, second)
        assert child.wait(30) == 0
    assert [each["response"]["request_id"] for each in read_lines(files.answers)] == [second.message_id]


def test_an_answer_to_an_earlier_batch_of_the_same_id(local_place, files):
    """It may wait in a subscription of one's own for longer than its batch does; it answers another prompt."""
    local_place.subscribe("mine", "responses", ack_deadline_seconds=10)
    named = ("--batch-id", "nightly", "--subscription", "mine")
    assert local_place.run(*files.command, *named, "--give-up-after", "1s").returncode == 1
    answer(local_place, sent(local_place))
    tonight = local_place.folder / "tonight.jsonl"
    with local_place.running("batch", "run", files.requests, "-o", tonight, *named, "--json") as child:
        message = sent(local_place)
        until(lambda: status(local_place, tonight)["unexpected"] == 1)
        answer(local_place, message)
        assert child.wait(30) == 0
    assert [each["response"]["request_id"] for each in read_lines(tonight)] == [message.message_id]


def status(place, answers):
    """What `batch status` says."""
    return json.loads(place.run("batch", "status", answers, "--json").stdout)


def cancelled_while_waiting(place, files, stack, *, quiet_seconds, then):
    """The summary of a run that is cancelled when it has been quiet for so long; `then` is entered at once after it."""
    cancelled = []

    def progress(running):
        if running.counts.sent and running.quiet_seconds > quiet_seconds and not cancelled:
            cancelled.append(batch.cancel(str(files.answers)))
            batch.cancel_sent(str(files.answers))
            stack.enter_context(then)

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(batch.run, str(files.requests), str(files.answers), progress=progress).result(60)


@pytest.fixture
def confirmed(monkeypatch):
    """What the relay says to a cancel: so many are with the model."""
    counts = {"working": 0}
    monkeypatch.setattr(api, "cancel_requests", lambda *_, **__: Reply("2030-01-31T12:00:00Z", counts, True, None, {}))
    return counts


@pytest.mark.parametrize(
    ("drain_seconds", "working", "call_seconds", "answered"),
    [(3.0, 0, 1.3, 1), (0.2, 1, 2.0, 1), (0.2, 0, 2.0, 0)],
    ids=["soon after", "with the model", "with nobody"],
)
def test_what_is_on_its_way_when_a_batch_is_cancelled(
    local_place, files, monkeypatch, confirmed, drain_seconds, working, call_seconds, answered
):
    """It is waited for from the cancel on, however long nothing came before; longer where the model works on it."""
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", local_place.project)
    monkeypatch.setattr(session, "DRAIN_SECONDS", drain_seconds)
    confirmed["working"] = working
    with ExitStack() as stack:
        relay = local_place.relay(seconds=call_seconds)
        summary = cancelled_while_waiting(local_place, files, stack, quiet_seconds=drain_seconds + 0.5, then=relay)
    assert summary.answered == answered
    assert summary.failed_by_code == ({} if answered else {"batch_cancelled": 1})


@pytest.mark.parametrize(
    ("second", "is_waited_for"), [(NoAnswer("silent"), True), (NotDone("switched off"), False)], ids=["silent", "off"]
)
def test_a_second_cancel(local_place, files, monkeypatch, confirmed, second, is_waited_for):
    """Where the relay is silent to it, what it has said to the first one stands; where it does nothing, nothing."""
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", local_place.project)
    batch.submit(str(files.requests), str(files.answers))

    def works():
        with Journal(files.journal) as journal:
            return journal.fact("cancelled_while_working")

    confirmed["working"] = 1
    batch.cancel_sent(str(files.answers))
    first = works()
    monkeypatch.setattr(api, "cancel_requests", Mock(side_effect=second))
    with pytest.raises(type(second)):
        batch.cancel_sent(str(files.answers))
    assert works() == (first if is_waited_for else None)
    assert first

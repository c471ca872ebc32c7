"""What becomes of a message that meets a bug: it comes again, and at its last attempt it is answered."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from handler.ledger import Claim, State
from handler.ledger.memory import MemoryLedger
from handler.publisher import OutgoingMessage, PublishFailed
from handler.routes import Routes
from handler.rules.verdict import outcome
from handler.rules.verdict.outcome import Reason
from handler.telemetry.record import PushRecord
from tests.unit import test_claimcheck, test_control
from tests.unit.test_claimcheck import Shelf
from tests.unit.test_confirmed import bugs, fail
from tests.unit.test_relay import STREAM, Model, Notes, Topic, held, made, message, relayed


@pytest.fixture
def undecided(monkeypatch):
    """No reply of the model's can be judged."""
    monkeypatch.setattr(outcome, "decide", fail)


LONG_AGO = datetime.now(UTC) - timedelta(hours=25)


@pytest.mark.usefixtures("undecided")
@pytest.mark.parametrize(
    ("claim", "fields"),
    [
        (Claim(State.MINE), {"delivery_attempt": 10}),
        (Claim(State.MINE), {"publish_time": LONG_AGO}),
        (Claim(State.MINE, failures=9), {}),
        (Claim(State.MINE, failed_here=9), {}),
    ],
)
def test_the_last_attempt_is_answered(caplog, claim, fields):
    """With an error, the request's metadata and a traceback in the log, which a search for the reason finds."""
    topic, ledger = Topic(), Notes(claim)
    verdict = relayed(Model(), topic, message(**fields), ledger)
    assert (verdict.reason, verdict.status, verdict.detail) == (Reason.GAVE_UP, 204, "bug: ZeroDivisionError")
    assert (topic.response["status_code"], topic.response["metadata"]) == (500, {"id": 7})
    assert topic.response["body"]["error"]["code"] == "internal_error"
    assert topic.messages[0].attributes["model"] == "m"
    assert ledger.notes[-1] == "answered"
    (line,) = bugs(caplog)
    assert (line.reason, hasattr(line, "status")) == ("bug", False)


@pytest.mark.usefixtures("undecided")
@pytest.mark.parametrize(
    ("claim", "fields"),
    [(Claim(State.MINE), {"delivery_attempt": 9}), (Claim(State.MINE, failures=8), {}), (Claim(State.MINE), {})],
)
def test_before_that_it_comes_again(claim, fields):
    """Its call may have been paid for: the attempt counts as a failed one, for all instances."""
    topic, ledger = Topic(), Notes(claim)
    with pytest.raises(ZeroDivisionError):
        relayed(Model(), topic, message(**fields), ledger)
    assert (topic.messages, ledger.notes) == ([], ["failed"])


@pytest.mark.usefixtures("undecided")
def test_it_is_paid_for_only_so_often():
    """Where neither Pub/Sub nor a ledger counts, this process does."""
    model, topic, ledger = Model(), Topic(), MemoryLedger(60)
    for _ in range(9):
        with pytest.raises(ZeroDivisionError):
            relayed(model, topic, message(), ledger)
    assert relayed(model, topic, message(), ledger).reason is Reason.GAVE_UP
    assert relayed(model, topic, message(), ledger).reason is Reason.ALREADY_ANSWERED
    assert (len(model.calls), len(topic.messages)) == (10, 1)


@pytest.mark.parametrize("incoming", [message(test_claimcheck.REQUEST), message(test_claimcheck.FORM)])
def test_a_bug_before_the_call(incoming):
    """What could be read of the request comes back, the metadata at the least."""
    topic, shelf = Topic(), Shelf(ZeroDivisionError())
    claim = Notes(Claim(State.MINE, failures=9))
    assert test_claimcheck.relayed(Model(), topic, incoming, shelf, claim).reason is Reason.GAVE_UP
    assert topic.response["metadata"] == {"id": 7}


def test_a_bug_while_it_is_routed(monkeypatch):
    """Whoever joins responses by their metadata finds this one."""
    monkeypatch.setattr(Routes, "route", fail)
    topic = Topic()
    assert relayed(Model(), topic, message(delivery_attempt=10)).reason is Reason.GAVE_UP
    assert topic.response["metadata"] == {"id": 7}


def test_a_control_message_meets_a_bug(monkeypatch):
    """It is answered, too, with its metadata."""
    monkeypatch.setattr(test_control.Book, "cancel", fail)
    book = test_control.Book(Claim(State.MINE, failures=9))
    verdict, topic = test_control.relayed(test_control.control(batch_id="b", metadata={"id": 7}), book)
    assert (verdict.reason, topic.response["status_code"]) == (Reason.GAVE_UP, 500)
    assert topic.response["metadata"] == {"id": 7}


def test_an_answer_that_is_paid_for_and_kept():
    """It is not overwritten by the error: the redelivery publishes it."""
    topic, ledger = Topic(ZeroDivisionError()), Notes()
    with pytest.raises(ZeroDivisionError):
        relayed(Model(), topic, message(delivery_attempt=10), ledger)
    kept = [note[1] for note in ledger.notes if note[0] == "keep"]
    assert [one.attributes["status_code"] for one in kept] == ["200"]
    claim = Claim(State.MINE, kept=kept[0].to_bytes(), failures=10)
    assert relayed(Model(), topic, message(delivery_attempt=11), Notes(claim)).reason is Reason.ANSWERED
    assert topic.response["status_code"] == 200


@pytest.mark.parametrize("is_large", [False, True])
def test_a_kept_answer_that_cannot_be_published(is_large):
    """At last its error is the answer."""
    kept = OutgoingMessage(b'{"status_code":200,"metadata":{},"body":{}}', {"status_code": "200"}).to_bytes()
    claim = Claim(State.MINE, failures=10, **({"kept_bytes": len(kept)} if is_large else {"kept": kept}))
    topic, ledger = Topic(ZeroDivisionError()), Notes(claim)
    ledger.fetched = kept
    assert relayed(Model(), topic, message(delivery_attempt=11), ledger).reason is Reason.GAVE_UP
    assert topic.response["body"]["error"]["code"] == "internal_error"


def test_the_error_meets_the_bug_as_well():
    """The message is given back, as before: there is no answer."""
    topic, ledger = Topic(ZeroDivisionError(), ZeroDivisionError()), Notes()
    with pytest.raises(ZeroDivisionError):
        relayed(Model(), topic, message(delivery_attempt=10), ledger)
    assert (topic.messages, ledger.notes[-1]) == ([], "failed")


def test_a_bug_after_the_error_is_published(monkeypatch, caplog):
    """It changes nothing for Pub/Sub, either."""
    monkeypatch.setattr(outcome, "decide", fail)
    monkeypatch.setattr(PushRecord, "published", fail)
    topic, ledger = Topic(), Notes()
    assert relayed(Model(), topic, message(delivery_attempt=10), ledger).reason is Reason.GAVE_UP
    assert (len(topic.messages), ledger.notes[-1], len(bugs(caplog))) == (1, "answered", 2)


@pytest.mark.usefixtures("undecided")
def test_the_error_that_could_not_be_published():
    """Is given back without counting: the redelivery publishes it."""
    topic, ledger = Topic(PublishFailed("away")), Notes()
    assert relayed(Model(), topic, message(delivery_attempt=10), ledger).reason is Reason.PUBLISH_FAILED
    assert (ledger.notes[0][0], ledger.notes[-1]) == ("keep", "released")


def test_what_is_no_bug_is_not_counted_as_one():
    """The end of the process, which is no error of the service, gives the message back as it was."""
    ledger = Notes()
    relay = made(Model(), Topic(GeneratorExit()), ledger)
    with pytest.raises(GeneratorExit):
        relay.answer(relay.delivery(message(), STREAM, time.monotonic(), held()))
    assert ledger.notes[-1] == "released"

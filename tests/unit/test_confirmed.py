"""What comes after the confirmation of a response's publish changes nothing for Pub/Sub."""

import logging

import pytest

from handler.admission.line import Slot
from handler.ledger import Claim, State
from handler.publisher import OutgoingMessage, PublishFailed
from handler.rules.verdict.outcome import Reason
from handler.telemetry import logs
from handler.telemetry.record import PushRecord
from tests.unit import test_app
from tests.unit.test_relay import Model, Notes, Topic, message, relayed

KEPT = OutgoingMessage(b'{"status_code":200,"metadata":{},"body":{"error":{"message":"x"},"error":[]}}')


def fail(*_arguments, **_options):
    """As what has a bug does."""
    raise ZeroDivisionError


def bugs(caplog):
    """The lines in the log with a traceback."""
    return [record for record in caplog.records if record.exc_info and record.levelno == logging.ERROR]


def found(caplog):
    """The lines that a search for bugs finds, and whether each counts as a push."""
    return [hasattr(record, "status") for record in caplog.records if getattr(record, "reason", "") == "bug"]


@pytest.mark.parametrize(("owner", "name"), [(PushRecord, "published"), (Slot, "__exit__")])
@pytest.mark.parametrize("claim", [Claim(State.MINE), Claim(State.MINE, kept=KEPT.to_bytes())])
def test_a_bug_after_the_confirmation(monkeypatch, caplog, owner, name, claim):
    """The message is acknowledged, or its response would be published again and again; the bug is in the log."""
    monkeypatch.setattr(owner, name, fail)
    topic, ledger = Topic(), Notes(claim)
    assert relayed(Model(), topic, message(), ledger).reason is Reason.ANSWERED
    assert (len(topic.messages), ledger.notes[-1]) == (1, "answered")
    expected = 0 if claim.kept and owner is Slot else 1  # what is kept takes no slot
    assert (len(bugs(caplog)), found(caplog)) == (expected, [False] * expected)


def test_a_bug_before_the_confirmation(monkeypatch):
    """The message is given back: nobody has its response."""
    topic, ledger = Topic(PublishFailed()), Notes()
    monkeypatch.setattr(Slot, "__exit__", fail)
    with pytest.raises(ZeroDivisionError):
        relayed(Model(), topic, message(), ledger)
    assert (topic.messages, ledger.notes[-1]) == ([], "failed")


def test_a_bug_in_the_line_about_a_push(monkeypatch, caplog):
    """Pub/Sub gets the verdict's status."""
    app = test_app.App(test_app.Settings.from_environment(test_app.ENVIRONMENT))
    app._relay = test_app.Relay()
    monkeypatch.setattr(logs, "record", fail)
    assert test_app.respond(app, data=test_app.PUSH).status_code == 204
    assert [record.message_id for record in bugs(caplog)] == ["1"]
    assert found(caplog) == [False]


def test_a_bug_that_ends_a_push_counts_once(caplog):
    """By the push's own line; that with the traceback comes before it."""
    app = test_app.App(test_app.Settings.from_environment(test_app.ENVIRONMENT))
    app._relay = test_app.Relay(ZeroDivisionError())
    assert test_app.respond(app, data=test_app.PUSH).status_code == 500
    assert (len(bugs(caplog)), found(caplog)) == (1, [True])

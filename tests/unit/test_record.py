"""What the line about a push says of its number."""

import time

import pytest

from handler.ledger import Claim, State
from handler.rules.message.contract import ErrorCode, RequestError
from handler.rules.verdict.outcome import ModelFailure
from handler.storage import StorageFailed
from handler.telemetry import metrics
from handler.telemetry.record import PushRecord
from tests.unit.test_relay import STREAM, Model, Notes, Topic, held, made, message


class Stored(Model):
    """A model whose answer could not be stored, or whose call failed here otherwise."""

    def __init__(self, error=None):
        super().__init__()
        self.error = error or StorageFailed()

    def call(self, *_):
        raise self.error


def fields(model, claim, delivery_attempt=5):
    """The fields of the line about a push of a message with this number."""
    record, incoming = PushRecord(), message(delivery_attempt=delivery_attempt)
    record.identify(incoming, {})
    relay = made(model, Topic(), Notes(claim))
    relay.answer(relay.delivery(incoming, STREAM, time.monotonic(), held(), record))
    return record.fields


@pytest.mark.parametrize(
    ("claim", "attempt"),
    [
        (Claim(State.MINE), 5),
        (Claim(State.MINE, no_attempts=3), 2),
        (Claim(State.MINE, failures=1, no_attempts=3), 2),
        (Claim(State.ANSWERED), None),
    ],
)
@pytest.mark.parametrize("model", [Model(), Model(ModelFailure.BROKEN), Stored()])
def test_deliveries_and_attempts(claim, attempt, model):
    """They are two numbers: Pub/Sub's own, and that of the model's chances, where the push gave it one."""
    found = fields(model, claim)
    assert (found["delivery_attempt"], found.get("attempt")) == (5, attempt)


def test_numbers_that_nobody_counts():
    """They are not made up."""
    found = fields(Model(), Claim(State.MINE), delivery_attempt=None)
    assert (found["delivery_attempt"], "attempt" in found) == (None, False)


@pytest.mark.parametrize("error", [StorageFailed(), RequestError(ErrorCode.REFERENCE_NOT_FOUND, "gone"), ValueError()])
def test_a_call_that_was_broken_off_here_is_a_call(monkeypatch, error):
    """The model may have worked for it: it is in the line, in the trace, and in the sum of all calls."""
    observed = []
    monkeypatch.setattr(metrics, "observe", lambda name, _seconds, *labels: observed.append((name, *labels)))
    found = fields(Stored(error), Claim(State.MINE), delivery_attempt=10)
    assert (found["model_calls"], "model_seconds" in found) == (1, True)
    assert ("inference_relay_model_call_duration_seconds", "broken", found["route"]) in observed

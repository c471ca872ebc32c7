"""When a request that never ends, or fails where nobody else counts, is given up."""

import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handler.ledger.memory import MemoryLedger
from handler.rules.verdict.budget import Limit
from handler.rules.verdict.outcome import ModelFailure, Reason, Situation, decide
from handler.rules.verdict.reply import ModelReply
from tests.unit.test_relay import SETTINGS, Model, Topic, message, relayed

BROKEN = tuple(failure for failure in ModelFailure if failure is not ModelFailure.TIMEOUT)
REPLIES = tuple(ModelReply(status, "application/json", b"{}") for status in (200, 400, 401, 404, 429, 500, 503))


def at(attempt, share, last=False):
    """The situation after a call that had this part of the model's timeout."""
    return Situation(attempt, last, Limit.MODEL_TIMEOUT if share == 1 else Limit.PUSH_DEADLINE, share=share)


@pytest.mark.parametrize(
    ("attempt", "share", "reason"),
    [
        (1, 1.0, Reason.MODEL_FAILED),
        (2, 1.0, Reason.MODEL_TIMED_OUT),
        (None, 1.0, Reason.MODEL_TIMED_OUT),
        (2, 0.99, Reason.MODEL_FAILED),
        (3, 0.99, Reason.MODEL_TIMED_OUT),
        (3, 0.5, Reason.MODEL_FAILED),
        (4, 0.5, Reason.MODEL_TIMED_OUT),
        (None, 0.5, Reason.MODEL_FAILED),
        (9, 0.1, Reason.MODEL_FAILED),
    ],
)
def test_cut_calls(attempt, share, reason):
    """Attempts count by the time that the model had: two whole timeouts, or as many short ones as come to that."""
    assert decide(ModelFailure.TIMEOUT, at(attempt, share)).reason is reason


situations = st.builds(at, st.none() | st.integers(1, 100), st.floats(0, 1, exclude_min=True), st.booleans())


@given(situations)
def test_never_later_than_after_two_whole_timeouts(now):
    """What spent all of its time at a second attempt is over, and so is every last attempt."""
    over = now.last or (now.limit is Limit.MODEL_TIMEOUT and now.attempt != 1)
    assert decide(ModelFailure.TIMEOUT, now).status == 204 or not over


@given(situations)
def test_a_cut_call_is_never_given_up_for_less(now):
    """Before the last attempt it is asked again until the attempts, as long as this one, come to two timeouts."""
    given_up = decide(ModelFailure.TIMEOUT, now).reason is Reason.MODEL_TIMED_OUT
    assert given_up is ((now.attempt or 2) * now.share >= 2)


@given(st.sampled_from([*BROKEN, *REPLIES]), situations)
def test_what_was_not_cut_has_nothing_to_do_with_it(result, now):
    """A refused connection or an answer is judged as ever, however long the call might have taken."""
    assert decide(result, now) == decide(result, replace(now, share=1.0, limit=Limit.MODEL_TIMEOUT))


@pytest.mark.parametrize(("attempt", "reason"), [(3, Reason.MODEL_FAILED), (4, Reason.MODEL_TIMED_OUT)])
def test_a_push_that_waited_for_half_of_its_time(attempt, reason):
    """Its call is cut by the push's deadline, and counts for half a timeout."""
    needed = SETTINGS.margin_seconds + SETTINGS.publish_timeout_seconds + SETTINGS.model_timeout_seconds / 2
    arrived = time.monotonic() - (SETTINGS.ack_deadline_seconds - needed - 10)  # seconds for a slow machine
    incoming = message(delivery_attempt=attempt)
    assert relayed(Model(ModelFailure.TIMEOUT), Topic(), incoming, arrived=arrived).reason is reason


def test_what_this_process_alone_counts():
    """Where neither Pub/Sub nor a ledger counts, a 500 is the answer at the third failure that was seen here."""
    model, topic, ledger = Model(ModelReply(500, "application/json", b"{}")), Topic(), MemoryLedger(60)
    reasons = [relayed(model, topic, message(), ledger).reason for _ in range(3)]
    assert reasons == [Reason.MODEL_FAILED, Reason.MODEL_FAILED, Reason.GAVE_UP]

"""Brief trouble of the model is waited out in place."""

import pytest

from handler.rules.verdict.outcome import ModelFailure, ModelReply
from handler.rules.verdict.patience import PAUSES, pause

PATIENCE = 60.0


def busy(status=429, retry_after=None):
    """A reply that asks to come again."""
    return ModelReply(status, "", b"", retry_after=retry_after)


@pytest.mark.parametrize(
    ("result", "tries", "patience", "expected"),
    [
        (busy(), 1, PATIENCE, 1.0),
        (busy(), 2, PATIENCE, 2.5),
        (busy(503), 3, PATIENCE, 5.0),
        (busy(), 4, PATIENCE, None),
        (busy(retry_after=3.0), 1, PATIENCE, 3.0),
        (busy(retry_after=0.0), 1, PATIENCE, 1.0),
        (busy(retry_after=61.0), 1, PATIENCE, None),
        (busy(), 1, 0.5, None),
        (busy(), 1, 0.0, None),
        (busy(), 1, -5.0, None),
        (ModelFailure.UNREACHABLE, 1, PATIENCE, 1.0),
        (ModelFailure.STALE, 1, 0.0, 0.0),
        (ModelFailure.STALE, 2, PATIENCE, None),
        (ModelFailure.BROKEN, 1, PATIENCE, None),
        (ModelFailure.TIMEOUT, 1, PATIENCE, None),
        (ModelFailure.ABORTED, 1, PATIENCE, None),
        (ModelReply(200, "", b""), 1, PATIENCE, None),
        (ModelReply(500, "", b""), 1, PATIENCE, None),
        (ModelReply(502, "", b""), 1, PATIENCE, None),
        (ModelReply(401, "", b""), 1, PATIENCE, None),
        (ModelReply(400, "", b'{"error": "Model m is not ready yet."}'), 1, PATIENCE, 1.0),
        (ModelReply(400, "", b'{"error": "The model has crashed."}'), 1, PATIENCE, None),
        (ModelReply(400, "", b"{}"), 1, PATIENCE, None),
    ],
)
def test_how_long(result, tries, patience, expected):
    """The pause grows, is never shorter than asked for, and never longer than there is patience for."""
    assert pause(result, tries, lambda: patience, jitter=lambda: 0.0) == expected


def test_jitter_only_lengthens():
    """Calls that failed together do not come back together, nor sooner than asked for."""
    assert 1.0 <= pause(busy(), 1, lambda: PATIENCE) <= 1.25
    assert pause(busy(), 1, lambda: PATIENCE, jitter=lambda: 1.0) == 1.25


def test_a_steady_429_sees_few_calls():
    """At most four calls in eight seconds, the redelivery after the last of them included."""
    times = [sum(PAUSES[:count]) for count in range(len(PAUSES) + 1)]
    assert len([at for at in times if at < 8.0]) <= 3

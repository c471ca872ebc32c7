"""Brief trouble of the model is waited out in place, since a nack slows the whole subscription down. Pure."""

import random
from collections.abc import Callable

from handler.rules.verdict.diagnosis import NOT_READY
from handler.rules.verdict.outcome import ModelFailure
from handler.rules.verdict.reply import ModelReply, read

# Before the second, third and fourth try. Long enough that a steady 429 sees no more than four calls in eight seconds.
PAUSES = (1.0, 2.5, 5.0)


def pause(
    result: ModelReply | ModelFailure,
    tries: int,
    patience: Callable[[], float],
    jitter: Callable[[], float] = random.random,
) -> float | None:
    """Seconds to wait before calling again, after `tries` calls; None where the result stands.

    `patience` says how many seconds of waiting there are left, and is only asked where it matters. A call that the
    model may have worked on is never repeated in place: a redelivery can be joined, counted and answered, this cannot.
    """
    if result is ModelFailure.STALE:
        return 0.0 if tries == 1 else None
    if tries > len(PAUSES) or not _is_brief(result):
        return None
    asked = (result.retry_after or 0.0) if isinstance(result, ModelReply) else 0.0
    seconds = max(asked, PAUSES[tries - 1]) * (1 + jitter() / 4)
    return seconds if seconds <= patience() else None


def _is_brief(result: ModelReply | ModelFailure) -> bool:
    if isinstance(result, ModelFailure):
        return result is ModelFailure.UNREACHABLE
    # KServe and others say 400 while a model loads, before it has done any work.
    return result.status in (429, 503) or (result.status == 400 and read(result).what == NOT_READY)

"""The figures of one backlog, from what was seen. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.figures import Call, in_use, quantile

_POINTS = 200  # of the curve of slots in use
_REFUSED = "429"
_SETTLING_SECONDS = 5.0  # after the most were handed out, in which the system takes them in


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen in a run; times are seconds on the monotonic clock.

    `responses` are the index of the request and the time of each response, `answers` what pushes got by HTTP status
    (0: none), `deliveries` how many messages were acked at which delivery. `outstanding` messages were out at once at
    most, at `outstanding_at` first. `health`: when it was asked for, and how long the answer took. A run that was
    broken off has `ended` then.
    """

    messages: int
    slots: int
    ideal_seconds: float
    calls: Sequence[Call]
    responses: Sequence[tuple[int, float]]
    answers: Mapping[str, int]
    deliveries: Mapping[str, int]
    dead_lettered: int
    outstanding: int
    outstanding_at: float
    ended: float | None
    health: Sequence[tuple[float, float]]
    memory_before: int
    memory_peak: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What one run came to; times in seconds from the first call of the model, memory in MB of 10**6 bytes.

    `start_seconds` passed until all slots were in use, `over_ideal` is all the time but those over the ideal one;
    `slots_share` is the part of the slots in use from then until the last call began, or the run was broken off.
    """

    problems: Sequence[str] = ()
    broken_off: bool = False
    messages: int = 0
    answered: int = 0
    seconds: float = 0.0
    ideal_seconds: float = 0.0
    start_seconds: float | None = None
    over_ideal: float | None = None
    slots_share: float | None = None
    refused: int = 0
    other_nacks: int = 0
    deliveries_median: int | None = None
    deliveries_most: int | None = None
    dead_lettered: int = 0
    outstanding_most: int = 0
    model_calls: float = 0.0  # for each answer
    health_median_ms: float | None = None
    health_rush_ms: float | None = None  # the most, while more and more pushes came, and five seconds longer
    health_full_ms: float | None = None  # the most, after that
    memory_above_idle_mb: float = 0.0
    slots_in_use: Sequence[float] = ()  # in so many equal parts of `seconds`


def figures(seen: Seen) -> Figures:
    """Everything that follows from what was seen."""
    if not (seen.calls and seen.responses):
        return Figures(problems=("no message was answered",), messages=seen.messages)
    begin = min(call.arrived for call in seen.calls)
    end = seen.ended or max(when for _, when in seen.responses)
    full = full_at(seen.calls, seen.slots)
    start = full - begin if full else None
    answered = len({index for index, _ in seen.responses})
    acked_at = sorted(Counter({int(number): count for number, count in seen.deliveries.items()}).elements())
    return Figures(
        problems=problems(seen),
        broken_off=seen.ended is not None,
        messages=seen.messages,
        answered=answered,
        seconds=end - begin,
        ideal_seconds=seen.ideal_seconds,
        start_seconds=start,
        over_ideal=None if start is None or seen.ended else (end - begin - start) / seen.ideal_seconds,
        slots_share=share(seen.calls, seen.slots, full, seen.ended) if full else None,
        refused=seen.answers.get(_REFUSED, 0),
        other_nacks=sum(count for status, count in seen.answers.items() if status not in (_REFUSED, "204")),
        deliveries_median=quantile(acked_at, 0.5) if acked_at else None,
        deliveries_most=acked_at[-1] if acked_at else None,
        dead_lettered=seen.dead_lettered,
        outstanding_most=seen.outstanding,
        model_calls=len(seen.calls) / answered,
        **_health(seen),
        memory_above_idle_mb=(seen.memory_peak - seen.memory_before) / 1e6,
        slots_in_use=[round(value, 1) for value in in_use(seen.calls, begin, end, _POINTS)],
    )


def _health(seen: Seen) -> Mapping[str, float | None]:
    """How long health checks took, in milliseconds: of all, while more and more pushes came, and after that."""
    settled = seen.outstanding_at + _SETTLING_SECONDS
    rush = [1000 * seconds for when, seconds in seen.health if when < settled]
    full = [1000 * seconds for when, seconds in seen.health if when >= settled]
    return {
        "health_median_ms": quantile(sorted(rush + full), 0.5) if seen.health else None,
        "health_rush_ms": max(rush, default=None),
        "health_full_ms": max(full, default=None),
    }


def problems(seen: Seen) -> Sequence[str]:
    """What must not be: a message that was lost, answered twice, or is none of the bench's."""
    responses = Counter(index for index, _ in seen.responses)
    lost = 0 if seen.ended else sum(not responses[index] for index in range(seen.messages))
    wrong = {
        "responses were lost": lost,
        "responses came twice": sum(count > 1 for count in responses.values()),
        "responses belong to no message": responses[-1],
    }
    return [f"{count} {what}" for what, count in wrong.items() if count]


def full_at(calls: Sequence[Call], slots: int) -> float | None:
    """When all slots were in use for the first time; None: never."""
    changes = sorted([(call.begun, 1) for call in calls] + [(call.done, -1) for call in calls])
    used = 0
    for when, change in changes:
        used += change
        if used >= slots:
            return when
    return None


def share(calls: Sequence[Call], slots: int, begin: float, end: float | None) -> float:
    """The part of the slots in use from `begin` to `end`, or else until the last call began."""
    end = end or max(call.begun for call in calls)
    busy = sum(max(0.0, min(call.done, end) - max(call.begun, begin)) for call in calls)
    return busy / (slots * (end - begin)) if end > begin else 1.0

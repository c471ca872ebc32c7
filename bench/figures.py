"""The figures of one run, from what was seen. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

_POINTS = 150  # of the curve of slots in use
_QUANTILES = 100
_BUSY = 0.8  # of one core: beyond it there are queues


@dataclass(frozen=True, slots=True)
class Call:
    """One request at the model: when it arrived, got a slot and was done, on the monotonic clock."""

    index: int
    arrived: float
    begun: float
    done: float


@dataclass(frozen=True, slots=True)
class Usage:
    """What the system under test took: seconds of processor time, bytes of memory just before the load and at most.

    `bench_cpu_seconds` is what each of the bench's own processes took meanwhile, by its name.
    """

    cpu_seconds: float
    memory_before: int
    memory_peak: int
    bench_cpu_seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen in a run: everything by the index of the message, times on the monotonic clock.

    `sent` is the first time that a message was pushed, `answered` when its 204 came, `published` the indexes that each
    Publish call had responses for, `statuses` what came instead of a 204 and how often.
    """

    slots: int
    calls: Sequence[Call]
    sent: Sequence[float]
    answered: Sequence[float | None]
    published: Sequence[Sequence[int]]
    statuses: Mapping[str, int]
    usage: Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What one run came to; None where the scenario does not say.

    `problems` is empty when every message was answered exactly once; else the other figures mean nothing.
    `utilisation` is 1.0 when no slot ever waited; times are in the unit of their name; memory is in MB of 10**6 bytes.
    """

    problems: Sequence[str] = ()
    log: str = ""  # the end of the system's log, if there are problems
    messages: int = 0
    seconds: float = 0.0
    utilisation: float | None = None
    utilisation_full: float | None = None  # the same, from when as many requests as there are slots had begun
    messages_per_second: float | None = None
    cpu_ms: float | None = None  # for each message
    bench_cpu_ms: float | None = None  # for each message: of the bench's own processes together
    added_p50_ms: float | None = None
    added_p99_ms: float | None = None
    memory_mb: float | None = None  # the most
    memory_per_push_mb: float | None = None  # the most, less what it was before the load, for each push in flight
    memory_per_body: float | None = None  # the same, as a multiple of the body's size
    publishes: float | None = None  # calls for each message
    model_calls: float | None = None  # for each message
    statuses: Mapping[str, int] = field(default_factory=dict)
    start_seconds: float | None = None
    idle_cpu_ms: float | None = None  # for each second
    idle_mb: float | None = None
    added_quantiles_ms: Sequence[float] = ()  # at 0, 1, ... 100 per cent
    slots_in_use: Sequence[float] = ()  # in so many equal parts of the time from the first push to the last 204


def figures(seen: Seen, pushes: int, body_bytes: int) -> Figures:
    """The figures of a run with a load."""
    count = len(seen.answered)
    ends = [end for end in seen.answered if end is not None]
    if not (ends and seen.calls):
        return Figures(problems=("no message was answered",), messages=count, statuses=seen.statuses)
    begin, end = min(seen.sent), max(ends)
    added = sorted(1000 * seconds for seconds in _added(seen))
    grown = (seen.usage.memory_peak - seen.usage.memory_before) / pushes
    return Figures(
        problems=[*_problems(seen), *_overworked(seen.usage, end - begin)],
        messages=count,
        seconds=end - begin,
        utilisation=utilisation(seen.calls, seen.slots),
        utilisation_full=utilisation(seen.calls, seen.slots, after=seen.slots - 1),
        messages_per_second=rate(seen.sent, ends),
        cpu_ms=1000 * seen.usage.cpu_seconds / count,
        bench_cpu_ms=1000 * sum(seen.usage.bench_cpu_seconds.values()) / count,
        added_p50_ms=quantile(added, 0.5),
        added_p99_ms=quantile(added, 0.99),
        memory_mb=seen.usage.memory_peak / 1e6,
        memory_per_push_mb=grown / 1e6,
        memory_per_body=grown / body_bytes,
        publishes=len(seen.published) / count,
        model_calls=len(seen.calls) / count,
        statuses=dict(seen.statuses),
        added_quantiles_ms=[round(quantile(added, n / _QUANTILES), 3) for n in range(_QUANTILES + 1)],
        slots_in_use=[round(value, 2) for value in in_use(seen.calls, begin, end, _POINTS)],
    )


def _problems(seen: Seen) -> Sequence[str]:
    """Why the run does not count."""
    everything = range(len(seen.answered))
    responses = Counter(index for call in seen.published for index in call)
    wrong = {
        "pushes never got a 204": sum(end is None for end in seen.answered),
        "responses were lost": sum(not responses[index] for index in everything),
        "responses came twice": sum(responses[index] > 1 for index in everything),
        "responses belong to no message": sum(index not in everything for index in responses),
    }
    return [f"{count} {what}" for what, count in wrong.items() if count]


def _overworked(usage: Usage, seconds: float) -> Sequence[str]:
    """Which of the bench's own processes had hardly a moment to spare, so that they were measured instead."""
    shares = {name: spent / seconds for name, spent in usage.bench_cpu_seconds.items()}
    return [f"the bench's own {name} was busy {part:.0%} of the time" for name, part in shares.items() if part > _BUSY]


def _added(seen: Seen) -> Sequence[float]:
    """For each answered message the seconds from push to 204, less those in the model's slot."""
    served = {call.index: call.done - call.begun for call in seen.calls}
    return [
        end - begin - served[index]
        for index, (begin, end) in enumerate(zip(seen.sent, seen.answered, strict=False))
        if end is not None and index in served
    ]


def utilisation(calls: Sequence[Call], slots: int, after: int = 0) -> float:
    """The part of the slots in use, from when a request got a slot after so many others, until the last one did."""
    begun = sorted(call.begun for call in calls)
    first, last = begun[min(after, len(begun) - 1)], begun[-1]
    busy = sum(max(0.0, min(call.done, last) - max(call.begun, first)) for call in calls)
    return busy / (slots * (last - first)) if last > first else 0.0


def rate(sent: Sequence[float], ends: Sequence[float]) -> float | None:
    """Messages answered a second while there were any left to send: after that fewer and fewer are in flight.

    None if all were sent before the first was answered.
    """
    first, last = min(sent), max(sent)
    done = sum(end <= last for end in ends)
    return done / (last - first) if done else None


def in_use(calls: Sequence[Call], begin: float, end: float, points: int) -> Sequence[float]:
    """The slots in use, averaged over each of so many equal parts of the time between `begin` and `end`."""
    width = (end - begin) / points
    busy = [0.0] * points
    for call in calls:
        first, last = ((when - begin) / width for when in (call.begun, call.done))
        for part in range(max(0, int(first)), min(points - 1, int(last)) + 1):
            busy[part] += max(0.0, min(last, part + 1) - max(first, part))
    return busy


def quantile(ordered: Sequence[float], part: float) -> float:
    """The value below which this part of the `ordered` ones lie."""
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]

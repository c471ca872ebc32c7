"""What went in and what came out, as multisets; and which of the differences are explained."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from model import INJECTED


@dataclass(frozen=True, slots=True)
class Queue:
    """What a queue did with what was put into it."""

    lost: Counter
    duplicated: Counter
    unexpected: Counter


def total_queue(published, received):
    """Everything that was put in comes out; nothing else does, and nothing more than once."""
    published, received = Counter(published), Counter(received)
    unexpected = Counter({key: count for key, count in received.items() if key not in published})
    return Queue(published - received, received - published - unexpected, unexpected)


# How long before its SIGKILL an instance may have got what it had no time to write down: the model's answer, or the
# confirmation of a response, which comes some time after the response is published.
BEFORE_KILL_SECONDS = 1.0
# And how long after it the others, on a busy machine, may notice what it had sent.
AFTER_KILL_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Outage:
    """A time in which the service cannot keep a promise, and why; to one request, or to all."""

    why: str
    begin: float
    end: float
    key: str | None = None

    def covers(self, key, begin, end):
        """Whether it concerns the request, and has any of that time."""
        return self.key in (None, key) and self.begin <= end and begin <= self.end


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that was seen of a run."""

    published: list
    responses: list
    calls: list
    pushes: list
    outages: list
    killed_with: list
    dead: int

    def reason(self, key, times):
        """Why something may have happened twice to a request at these times; None if it may not."""
        kills = [
            Outage("SIGKILL", when - BEFORE_KILL_SECONDS, when + AFTER_KILL_SECONDS, killed)
            for killed, when in self.killed_with
        ]
        covering = (each.why for each in kills + self.outages if any(each.covers(key, *time) for time in times))
        return next(covering, None)


@dataclass(slots=True)
class Findings:
    """The row of a scenario in the table."""

    messages: int
    answers: int
    lost: int
    duplicated: int
    calls: float
    injected: float
    explained: Counter = field(default_factory=Counter)
    notes: list = field(default_factory=list)
    faults: list = field(default_factory=list)  # what may not be: of which request, and what

    def look(self, what, key, count, why):
        """Count something that happened too often."""
        if count > 0 and why:
            self.explained[f"{what} ({why})"] += count
        elif count > 0:
            self.faults.append((key, f"{count} more {what} without a reason"))


def check(evidence):
    """Hold what was seen against what is promised."""
    queue = total_queue(evidence.published, [response.key for response in evidence.responses])
    injected = sum(call.outcome in INJECTED for call in evidence.calls)
    messages = len(evidence.published)
    found = Findings(
        messages=messages,
        answers=len(evidence.responses),
        lost=queue.lost.total(),
        duplicated=queue.duplicated.total(),
        calls=len(evidence.calls) / messages,
        injected=injected / messages,
    )
    found.faults += [(key, "lost") for key in queue.lost] + [(key, "unexpected") for key in queue.unexpected]
    if evidence.dead:
        found.faults.append(("", f"{evidence.dead} dead letters"))
    _look_at_duplicates(found, evidence, queue)
    _look_at_calls(found, evidence)
    return found


def _look_at_duplicates(found, evidence, queue):
    times = defaultdict(list)
    for response in evidence.responses:
        times[response.key].append((response.published, response.published))
    for key, count in queue.duplicated.items():
        found.look("answers", key, count, evidence.reason(key, times[key]))


def _look_at_calls(found, evidence):
    """A request is paid for with one call, besides those that were made to fail."""
    paid = defaultdict(list)
    for call in evidence.calls:
        if call.outcome not in INJECTED:
            paid[call.key].append((_claimed(evidence, call), call.ended))
    for key, times in paid.items():
        found.look("calls", key, len(times) - 1, evidence.reason(key, times))


def _claimed(evidence, call):
    """When the push that the call was made for came: the ledger was asked then, perhaps long before the call."""
    pushes = (push.began for push in evidence.pushes if push.key == call.key and push.began <= call.began <= push.ended)
    return min(pushes, default=call.began)

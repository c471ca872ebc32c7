"""The state of one subscription: what waits, what is out, what comes again. Pure: time is an argument, in seconds.

Messages stand in lanes. A message with an ordering key joins its key's lane; any other has a lane of its own. Only one
holder at a time (a push, a pull, a stream) has messages of a lane out, and it gets them in order. That one rule gives
one outstanding message a key to push, and one outstanding batch a key to pull. When a message of a lane fails, the
later ones are delivered again after it, acked or not, as the service documents for ordering keys.
"""

import heapq
import itertools
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How a subscription delivers. Seconds; no `max_attempts` means no dead-letter policy."""

    ack_deadline: float = 10.0
    ordered: bool = False
    min_backoff: float = 0.0
    max_backoff: float = 0.0
    backoff_growth: float = 2.0
    max_attempts: int = 0

    def backoff(self, failures: int) -> float:
        """The retry policy's wait before the delivery that follows the nth failure."""
        growth: float = self.backoff_growth ** min(failures - 1, 64)
        return min(self.max_backoff, self.min_backoff * growth)


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message on its way out. `attempt` counts from 1; `ack_id` stands for this delivery alone."""

    ack_id: str
    message: Any
    attempt: int
    size: int


@dataclass(slots=True)
class Entry:
    """A message of this subscription that is not done with."""

    message: Any
    size: int
    failures: int = 0
    ack_id: str = ""
    acked: bool = False


@dataclass(slots=True)
class _Lane:
    key: str
    entries: deque[Entry] = field(default_factory=deque)
    holder: object = None
    due: float = 0.0
    queued: bool = False

    def next(self) -> Entry | None:
        return next((entry for entry in self.entries if not entry.ack_id and not entry.acked), None)

    def after(self, entry: Entry) -> Iterator[Entry]:
        later = itertools.dropwhile(lambda other: other is not entry, self.entries)
        return itertools.islice(later, 1, None)


@dataclass(slots=True)
class _Lease:
    lane: _Lane
    entry: Entry
    deadline: float


class Backlog:
    """What one subscription has to deliver. `bury` takes a dead letter and says whether it had a place for it."""

    def __init__(self, policy: Policy, bury: Callable[[Entry], bool], counts: Counter[str]) -> None:
        self.policy = policy
        self._bury = bury
        self._counts = counts
        self._keys: dict[str, _Lane] = {}
        self._ready: deque[_Lane] = deque()
        self._leases: dict[str, _Lease] = {}
        self._expiries: list[tuple[float, str]] = []
        self._waiting: list[tuple[float, int, _Lane]] = []
        self._numbers = itertools.count(1)

    def add(self, message: Any, size: int) -> None:
        """A new message to deliver."""
        key = message.ordering_key if self.policy.ordered else ""
        lane = self._keys.setdefault(key, _Lane(key)) if key else _Lane("")
        lane.entries.append(Entry(message, size))
        self._offer(lane)

    def take(self, holder: object, now: float, limit: int, room: float = float("inf")) -> list[Delivery]:
        """Up to `limit` messages of `room` bytes together (at least one), leased to `holder` from `now`."""
        self.advance(now)
        taken: list[Delivery] = []
        while self._ready and len(taken) < limit:
            lane = self._ready[0]
            entry = lane.next() if lane.holder in (None, holder) else None
            if entry is None:
                lane.queued = False
                self._ready.popleft()
                continue
            room -= entry.size
            if taken and room < 0:
                break
            taken.append(self._lease(lane, entry, holder, now))
        return taken

    def ack(self, ack_id: str) -> bool:
        """The delivery is done. False, and nothing changes, when it is no longer out: a late answer."""
        lease = self._leases.pop(ack_id, None)
        self._counts["acked" if lease else "late"] += 1
        if lease:
            lease.entry.acked = True
            self._settle(lease.lane)
        return lease is not None

    def nack(self, ack_id: str, now: float, extra: float = 0.0) -> bool:
        """The delivery failed: again after the retry policy's wait and `extra`. False when it is no longer out."""
        lease = self._leases.pop(ack_id, None)
        self._counts["nacked" if lease else "late"] += 1
        if lease:
            self._fail(lease, now, extra)
        return lease is not None

    def extend(self, ack_id: str, now: float, seconds: float) -> None:
        """The lease lasts `seconds` from `now`. An ack id that is no longer out is ignored."""
        if lease := self._leases.get(ack_id):
            lease.deadline = now + seconds
            heapq.heappush(self._expiries, (lease.deadline, ack_id))

    def holds(self, ack_id: str) -> bool:
        """Whether this delivery is still out."""
        return ack_id in self._leases

    def release(self) -> None:
        """Everything that is out may be delivered again, at no cost in attempts: the broker was restarted."""
        for lease in list(self._leases.values()):
            lease.entry.ack_id = ""
            lease.lane.holder = None
            self._offer(lease.lane)
        self._leases.clear()

    def advance(self, now: float) -> None:
        """Let time pass: leases expire, waits end."""
        while self._expiries and self._expiries[0][0] <= now:
            _, ack_id = heapq.heappop(self._expiries)
            if (lease := self._leases.get(ack_id)) and lease.deadline <= now:
                self._counts["expired"] += 1
                del self._leases[ack_id]
                self._fail(lease, now)
        while self._waiting and self._waiting[0][0] <= now:
            _, _, lane = heapq.heappop(self._waiting)
            if lane.due <= now:
                lane.due = 0.0
                self._offer(lane)

    def next_event(self) -> float:
        """When `advance` has something to do next; infinity when only a call can change anything."""
        return min(heap[0][0] if heap else float("inf") for heap in (self._expiries, self._waiting))

    def _lease(self, lane: _Lane, entry: Entry, holder: object, now: float) -> Delivery:
        entry.ack_id = f"{entry.message.message_id}:{next(self._numbers)}"
        lane.holder = holder
        lease = self._leases[entry.ack_id] = _Lease(lane, entry, now + self.policy.ack_deadline)
        heapq.heappush(self._expiries, (lease.deadline, entry.ack_id))
        self._counts["delivered"] += 1
        self._counts["redelivered"] += entry.failures > 0
        return Delivery(entry.ack_id, entry.message, entry.failures + 1, entry.size)

    def _fail(self, lease: _Lease, now: float, extra: float = 0.0) -> None:
        lane, entry = lease.lane, lease.entry
        entry.ack_id = ""
        entry.failures += 1
        for later in lane.after(entry):
            self._leases.pop(later.ack_id, None)
            later.ack_id, later.acked = "", False
        if 0 < self.policy.max_attempts <= entry.failures and self._bury(entry):
            entry.acked = True
            self._counts["dead_lettered"] += 1
        elif wait := self.policy.backoff(entry.failures) + extra:
            lane.due = now + wait
            heapq.heappush(self._waiting, (lane.due, next(self._numbers), lane))
        self._settle(lane)

    def _settle(self, lane: _Lane) -> None:
        while lane.entries and lane.entries[0].acked:
            lane.entries.popleft()
        if not lane.entries:
            self._keys.pop(lane.key, None)
        elif not any(entry.ack_id for entry in lane.entries):
            lane.holder = None
        self._offer(lane)

    def _offer(self, lane: _Lane) -> None:
        if not lane.queued and not lane.due and lane.next():
            lane.queued = True
            self._ready.append(lane)

"""The state of one subscription: what waits, what is out, what comes again. Time comes from the clock passed in.

Messages stand in lanes. A message with an ordering key joins its key's lane; any other has a lane of its own.
Only one holder at a time (a push, a pull, a stream) has messages of a lane out, and gets them in order. That one
rule gives push one outstanding message a key, and pull one outstanding batch. When a message of a lane fails, the
later ones are delivered again after it, acked or not: cloud.google.com/pubsub/docs/ordering. Times in seconds.
"""

import asyncio
import heapq
import itertools
import math
from collections import Counter, deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from handler.local.pubsub.core import pb
from handler.local.pubsub.core.filters import compile_filter
from handler.local.pubsub.core.pb import Message
from handler.local.pubsub.core.rules import Rules
from handler.local.pubsub.core.watch import Acked, Delivered, Failed, Watch


@dataclass(slots=True, eq=False)
class Lane:
    """Messages that are delivered one after another; not before `due`."""

    key: str
    entries: "deque[Entry]" = field(default_factory=deque)
    holder: object = None
    due: float = 0.0
    queued: bool = False

    def next(self) -> "Entry | None":
        """Find the first message that is neither out nor done."""
        return next((entry for entry in self.entries if not entry.ack_id and not entry.acked), None)


@dataclass(slots=True, eq=False)
class Entry:
    """A message that is not done with. While it is out, `ack_id` stands for this one delivery."""

    message: Message
    size: int
    lane: Lane
    failures: int = 0
    ack_id: str = ""
    deadline: float = math.inf
    acked: bool = False


Bury = Callable[[Entry], bool]


class Subscription:
    """A subscription. `bury` takes a dead letter and says whether there was a place for it."""

    def __init__(
        self,
        config: Message,
        rules: Rules,
        clock: Callable[[], float],
        bury: Bury,
        counts: Counter[str],
        watch: Watch | None = None,
    ) -> None:
        self.config = config
        self.watch = watch or Watch()
        self.clock = clock
        self.deleted = False
        self.counts = counts
        self.deliveries: Counter[int] = Counter()
        """How many of the acked messages had been delivered so often."""
        self._growth = rules.backoff_growth
        self._bury = bury
        self._matches = compile_filter(config.filter, rules.missing_differs)
        self._keys: dict[str, Lane] = {}
        self._ready: deque[Lane] = deque()
        self._out: dict[str, Entry] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count(1)
        self._changed = asyncio.Event()

    def add(self, message: Message, size: int) -> None:
        """Take a new message, unless the filter does not."""
        if self._matches(message.attributes):
            key = message.ordering_key if self.config.enable_message_ordering else ""
            lane = self._keys.setdefault(key, Lane(key)) if key else Lane("")
            lane.entries.append(Entry(message, size, lane))
            self._offer(lane)

    def take(self, holder: object, limit: int, lease: float = math.inf, room: float = math.inf) -> list[Message]:
        """Hand out ReceivedMessages for `lease` seconds: up to `limit`, of `room` bytes together or a single one."""
        self.advance()
        taken: list[Message] = []
        while self._ready and len(taken) < limit:
            lane = self._ready[0]
            entry = lane.next() if not lane.due and lane.holder in (None, holder) else None
            if entry is None:
                lane.queued = False
                self._ready.popleft()
                continue
            room -= entry.size
            if taken and room < 0:
                break
            lane.holder = holder
            taken.append(self._hand_out(entry, lease))
        return taken

    def ack(self, ack_ids: Iterable[str]) -> None:
        """Settle deliveries for good. A late ack, of a delivery that is no longer out, changes nothing."""
        for ack_id in ack_ids:
            if entry := self._claim(ack_id, "acked"):
                self.deliveries[entry.failures + 1] += 1
                entry.acked = True
                self.watch.tell(Acked, self.config.name, entry.message.message_id)
                self._settle(entry.lane)
        self.ring()

    def nack(self, ack_id: str, extra: float = 0.0) -> None:
        """Deliver again after the retry policy's wait and `extra`. A late nack changes nothing."""
        if entry := self._claim(ack_id, "nacked"):
            self._fail(entry, extra)
        self.ring()

    def extend(self, ack_id: str, lease: float) -> None:
        """Let a delivery stay out for `lease` seconds from now, if it is still out; 0 is a nack."""
        if not lease:
            self.nack(ack_id)
        elif entry := self._out.get(ack_id):
            self._lease(entry, lease)
            self.ring()

    def holds(self, ack_id: str) -> bool:
        """Tell whether this delivery is still out."""
        return ack_id in self._out

    def release(self) -> None:
        """Take back whatever is out, at no cost in attempts."""
        for entry in self._out.values():
            entry.ack_id, entry.lane.holder = "", None
            self._offer(entry.lane)
        self._out.clear()

    def advance(self) -> bool:
        """Do what has become due: leases expire, waits end. Tells whether there was anything."""
        due = False
        while self._timers and self._timers[0][0] <= self.clock():
            heapq.heappop(self._timers)[2]()
            due = True
        return due

    def ring(self) -> None:
        """Wake everyone who waits for a change."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def change(self, until: float = math.inf) -> None:
        """Wait for a change, for the next thing to become due, or for the time `until`."""
        if self.advance():
            return
        when = min(until, self._timers[0][0]) if self._timers else until
        with suppress(TimeoutError):
            async with asyncio.timeout(None if when == math.inf else max(0.0, when - self.clock())):
                await self._changed.wait()

    def _at(self, when: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (when, next(self._numbers), action))

    def _lease(self, entry: Entry, lease: float) -> None:
        entry.deadline = self.clock() + lease
        if lease < math.inf:
            self._at(entry.deadline, partial(self._expire, entry.ack_id))

    def _hand_out(self, entry: Entry, lease: float) -> Message:
        entry.ack_id = f"{entry.message.message_id}:{next(self._numbers)}"
        self._out[entry.ack_id] = entry
        self._lease(entry, lease)
        self.counts["delivered"] += 1
        self.counts["redelivered"] += entry.failures > 0
        self.watch.tell(Delivered, self.config.name, entry.message.message_id, entry.failures + 1)
        attempt = entry.failures + 1 if self.config.HasField("dead_letter_policy") else 0
        return pb.ReceivedMessage(ack_id=entry.ack_id, message=entry.message, delivery_attempt=attempt)

    def _claim(self, ack_id: str, outcome: str) -> Entry | None:
        entry = self._out.pop(ack_id, None)
        self.counts[outcome if entry else "late"] += 1
        return entry

    def _expire(self, ack_id: str) -> None:
        entry = self._out.get(ack_id)
        if entry and entry.deadline <= self.clock() and self._claim(ack_id, "expired"):
            self._fail(entry)

    def _fail(self, entry: Entry, extra: float = 0.0) -> None:
        entry.ack_id = ""
        entry.failures += 1
        self._rewind(entry)
        last = self.config.dead_letter_policy.max_delivery_attempts
        wait: float | None = self._backoff(entry.failures) + extra
        if last and entry.failures >= last and self._bury(entry):
            entry.acked, wait = True, None
            self.counts["dead_lettered"] += 1
        elif wait:
            entry.lane.due = self.clock() + wait
            self._at(entry.lane.due, partial(self._resume, entry.lane))
        self.watch.tell(Failed, self.config.name, entry.message.message_id, entry.failures, wait)
        self._settle(entry.lane)

    def _backoff(self, failures: int) -> float:
        policy = self.config.retry_policy
        low, high = (each.ToNanoseconds() / 1e9 for each in (policy.minimum_backoff, policy.maximum_backoff))
        return float(min(high, low * self._growth ** min(failures - 1, 64)))

    def _rewind(self, entry: Entry) -> None:
        """Deliver what follows in the lane again, acked or not."""
        for later in list(entry.lane.entries)[entry.lane.entries.index(entry) + 1 :]:
            self._out.pop(later.ack_id, None)
            later.ack_id, later.acked = "", False

    def _resume(self, lane: Lane) -> None:
        if lane.due <= self.clock():
            lane.due = 0.0
            self._offer(lane)

    def _settle(self, lane: Lane) -> None:
        while lane.entries and lane.entries[0].acked:
            lane.entries.popleft()
        if not lane.entries:
            self._keys.pop(lane.key, None)
        if not any(entry.ack_id for entry in lane.entries):
            lane.holder = None
        self._offer(lane)

    def _offer(self, lane: Lane) -> None:
        if not lane.queued and not lane.due and lane.next():
            lane.queued = True
            self._ready.append(lane)

"""The line in front of the model: a call for each slot, and everybody else in order, as long as it is not in vain.

A push that is refused is delivered again, later than it would have been answered, and slows its whole subscription
down; one that waits costs a little memory. So pushes wait for a slot, and leave only if they could not be answered in
time.
"""

import itertools
import threading
import time
from bisect import bisect_left, insort
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto

from handler.admission import Refused
from handler.admission.estimate import Estimates
from handler.admission.limit import ConcurrencyLimit
from handler.rules.message.options import Priority
from handler.rules.verdict.outcome import Reason

# By how much a request is treated as if it had come earlier. What waits gets older and what comes later does not, so
# nothing starves: a request of low priority waits for those that came ten minutes after it, and for no others.
HEAD_START_SECONDS = {Priority.HIGH: 300.0, Priority.NORMAL: 0.0, Priority.LOW: -300.0}
# What was given back before, with less time left than its call needed perhaps, shall not wait as long again.
REDELIVERY_HEAD_START_SECONDS = 150.0
# How long before it is too late for a call a push leaves that will not get a slot by then. Its redelivery takes about
# that long, and shall find the line shorter, but not the model idle.
REDELIVERY_SECONDS = 90.0
MAX_CLOSED_SECONDS = 60.0  # for which the model's Retry-After is heeded


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody wants a slot for. Times are the monotonic clock's.

    A call has to be over at `until`; there is none to be made after `expires`, the request's own deadline. `stream`
    names whose it is, who together may have the part `max_share` of the slots; `size` is its bytes while it waits.
    """

    model: str
    arrived: float
    until: float
    expires: float = float("inf")
    priority: Priority = Priority.NORMAL
    is_redelivery: bool = False
    stream: str = ""
    max_share: float = 1.0
    size: int = 0

    @property
    def ranked_at(self) -> float:
        """When it is treated as having come: who is first by this is first in the line."""
        return self.arrived - HEAD_START_SECONDS[self.priority] - self.is_redelivery * REDELIVERY_HEAD_START_SECONDS


class _State(Enum):
    WAITING = auto()
    GRANTED = auto()
    EXPIRED = auto()
    OVERDUE = auto()
    DRAINED = auto()


@dataclass(slots=True, eq=False)
class _Waiter:
    """Somebody in the line. `wake_at` is when to look whether it is still worth waiting."""

    wish: Wish
    key: tuple[float, int]
    wake_at: float = 0.0
    state: _State = _State.WAITING
    changed: threading.Event = field(default_factory=threading.Event)

    def become(self, state: _State) -> None:
        self.state = state
        self.changed.set()


@dataclass(frozen=True, slots=True)
class Room:
    """How many may wait, and how many bytes they may have together."""

    pushes: float = float("inf")
    size: float = float("inf")


@dataclass(slots=True)
class _Stream:
    """Those who share a part of the slots: who waits, in order, and how many are being called for."""

    max_share: float
    waiting: list[_Waiter] = field(default_factory=list)
    calling: int = 0

    def slots(self, of: int) -> int:
        return max(1, int(of * self.max_share))

    def place(self, key: tuple[float, int]) -> int:
        return bisect_left(self.waiting, key, key=_key)


class Line:
    """The slots and who waits for one. Thread-safe."""

    def __init__(
        self, limit: ConcurrencyLimit, clock: Callable[[], float] = time.monotonic, room: Room | None = None
    ) -> None:
        self._limit = limit
        self._room = room or Room()
        self._clock = clock
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._streams: dict[str, _Stream] = {}  # as many as are configured
        self._length = 0
        self._bytes = 0
        self._estimates = Estimates()
        self._calling = 0
        self._publishing = 0  # that were called for, and hold a slot no longer
        self._closed_until = 0.0
        self._draining = False

    @property
    def length(self) -> int:
        """How many wait."""
        return self._length

    @property
    def slots(self) -> int:
        """How many calls the model gets at once now."""
        return self._limit.slots

    @property
    def in_use(self) -> int:
        """How many slots are taken now."""
        return self._calling

    def take(self, wish: Wish) -> "Slot | None":
        """Wait for a slot, in turn. None once the request's own deadline has passed.

        Raises Refused: BUSY at once for who could not be answered in time, OVERDUE later if that turns out, DRAINING.
        """
        with self._lock:
            if self._draining:
                raise Refused(Reason.DRAINING)
            stream = self._stream(wish)
            if not stream.waiting and self._may_call(stream):
                return self._outcome(wish, self._turn(wish))
            waiter = self._joined(wish)
        while waiter.state is _State.WAITING and not waiter.changed.wait(max(0.0, waiter.wake_at - self._clock())):
            with self._lock:
                if waiter.state is _State.WAITING and self._gives_up(waiter):
                    self._remove(stream, stream.place(waiter.key))
                    break
        return self._outcome(wish, waiter.state)

    def _outcome(self, wish: Wish, state: _State) -> "Slot | None":
        if state is _State.DRAINED:
            raise Refused(Reason.DRAINING)
        if state is _State.OVERDUE:
            raise Refused(Reason.OVERDUE, "what is left of its time is less than a call takes")
        return Slot(self, wish) if state is _State.GRANTED else None

    def _joined(self, wish: Wish) -> _Waiter:
        if self._length >= self._room.pushes or (self._bytes and self._bytes + wish.size > self._room.size):
            raise Refused(Reason.BUSY, "MAX_WAITING, MAX_WAITING_MB: this route's part of them is full")
        waiter = _Waiter(wish, (wish.ranked_at, next(self._numbers)))
        begins, latest = self._clock() + self._wait(waiter), self._latest(wish)
        if begins > latest:
            raise Refused(Reason.BUSY, f"a slot is expected {begins - latest:.0f} s too late")
        waiter.wake_at = self._next_look(wish, latest)
        insort(self._stream(wish).waiting, waiter, key=_key)
        self._length += 1
        self._bytes += wish.size
        return waiter

    def _stream(self, wish: Wish) -> _Stream:
        stream = self._streams.get(wish.stream)
        if stream is None:
            stream = self._streams[wish.stream] = _Stream(wish.max_share)
        return stream

    def _remove(self, stream: _Stream, place: int) -> _Waiter:
        waiter = stream.waiting.pop(place)
        self._length -= 1
        self._bytes -= waiter.wish.size
        return waiter

    def _gives_up(self, waiter: _Waiter) -> bool:
        """Whether there is no point in waiting any longer; otherwise it is looked at again later."""
        now, latest = self._clock(), self._latest(waiter.wish)
        if now >= waiter.wish.expires:
            waiter.state = _State.EXPIRED
            return True
        if now >= latest or (now >= latest - REDELIVERY_SECONDS and now + self._wait(waiter) > latest):
            waiter.state = _State.OVERDUE
            return True
        waiter.wake_at = self._next_look(waiter.wish, latest)
        return False

    def _next_look(self, wish: Wish, latest: float) -> float:
        """When to look again: once it is time to leave for whoever gets no slot, and at the very end."""
        soon = latest - REDELIVERY_SECONDS
        return min(wish.expires, soon if soon > self._clock() else latest)

    def _wait(self, waiter: _Waiter) -> float:
        """Seconds until somebody who waits gets a slot; 0 as long as nobody knows how long calls take."""
        closed = max(0.0, self._closed_until - self._clock())
        seconds, own = self._estimates.mean() or 0.0, self._stream(waiter.wish)
        among_all = sum(stream.place(waiter.key) for stream in self._streams.values()) + 1
        rounds = max(among_all / self._limit.slots, (own.place(waiter.key) + 1) / own.slots(self._limit.slots))
        return closed + seconds * rounds

    def _latest(self, wish: Wish) -> float:
        """When a call has to begin that is likely to be over in time."""
        return wish.until - (self._estimates.likely(wish.model) or 0.0)

    def _may_call(self, stream: _Stream) -> bool:
        slots = self._limit.slots
        return self._calling < slots and stream.calling < stream.slots(slots) and self._clock() >= self._closed_until

    def _advance(self) -> None:
        """Give free slots to the first in the line; the model is not called for a push that is given up on before."""
        while self._length and (stream := self._first()):
            waiter = self._remove(stream, 0)
            waiter.become(self._turn(waiter.wish))

    def _first(self) -> _Stream | None:
        """Whose turn it is; nobody's where no slot is free for those that wait."""
        able = (stream for stream in self._streams.values() if stream.waiting and self._may_call(stream))
        return min(able, key=lambda stream: stream.waiting[0].key, default=None)

    def _turn(self, wish: Wish) -> _State:
        """What becomes of somebody for whom there is a slot, which is taken if there is still time for a call."""
        now = self._clock()
        if now >= wish.expires:
            return _State.EXPIRED
        if now > self._latest(wish):
            return _State.OVERDUE
        self._count(wish, 1)
        return _State.GRANTED

    def _count(self, wish: Wish, calls: int) -> None:
        self._calling += calls
        self._stream(wish).calling += calls

    def drain(self) -> None:
        """Send everybody away, for good; who has a slot keeps it."""
        with self._lock:
            self._draining = True
            for stream in self._streams.values():
                while stream.waiting:
                    self._remove(stream, 0).become(_State.DRAINED)

    # --- What slots say.

    def called(self, wish: Wish, begun: float, *, succeeded: bool, overloaded: bool, retry_after: float) -> None:
        """A call has ended: whether with an answer, or with the model's word that it has too much to do."""
        with self._lock:
            now = self._clock()
            if succeeded:
                self._estimates.add(wish.model, now - begun)
            self._limit.answered(begun, overloaded=overloaded, full=self._calling >= self._limit.slots)
            closed_for = min(retry_after, MAX_CLOSED_SECONDS) if overloaded else 0.0
            if closed_for and now + closed_for > self._closed_until:
                self._closed_until = now + closed_for
                self._advance_in(closed_for)
            self._advance()

    def _advance_in(self, seconds: float) -> None:
        timer = threading.Timer(seconds, self._reopen)
        timer.daemon = True
        timer.start()

    def _reopen(self) -> None:
        with self._lock:
            self._advance()

    def try_pass_on(self, wish: Wish) -> bool:
        """Pass a slot on to the next, unless as many answers are being published as there are slots; whether it was."""
        with self._lock:
            if self._publishing >= self._limit.slots:
                return False
            self._publishing += 1
            self._count(wish, -1)
            self._advance()
            return True

    def leave(self, wish: Wish, *, calling: bool) -> None:
        """Somebody is done, with a slot or after having passed it on."""
        with self._lock:
            if calling:
                self._count(wish, -1)
                self._advance()
            else:
                self._publishing -= 1


def _key(waiter: _Waiter) -> tuple[float, int]:
    return waiter.key


class Slot:
    """The right to call the model, during a `with` block; for one greenlet."""

    def __init__(self, line: Line, wish: Wish) -> None:
        self._line = line
        self._wish = wish
        self._calling = True

    def __enter__(self) -> "Slot":
        return self

    def __exit__(self, *_: object) -> None:
        self._line.leave(self._wish, calling=self._calling)

    def called(self, begun: float, *, succeeded: bool, overloaded: bool = False, retry_after: float = 0.0) -> None:
        """Tell the line how a call went that was begun at `begun`, on the monotonic clock."""
        self._line.called(self._wish, begun, succeeded=succeeded, overloaded=overloaded, retry_after=retry_after)

    def pass_on(self) -> None:
        """There is nothing to call any more: let the next one, while this one's answer is published."""
        if self._calling and self._line.try_pass_on(self._wish):
            self._calling = False

"""What this instance is working on: how much there is room for, who joins what, and whether it still takes more."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from handler.eventloop import Signal
from handler.outcome import Reason, Verdict


class Refused(Exception):
    """There is no room for another message now. `reason` says why."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


class Places:
    """So many may be in a `with` block at once; entering raises Refused when it is full, and never waits."""

    def __init__(self, number: int) -> None:
        self._free = number
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            if not self._free:
                raise Refused(Reason.BUSY)
            self._free -= 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._free += 1


@dataclass(slots=True)
class _Work:
    """A message being worked on, and the copy of it that waits for the verdict, if one does."""

    waiter: Signal[Verdict] | None = None


class Inflight:
    """Room for `limit` messages at once, and for `waiters` copies of those.

    More are refused, never queued: queueing would spend their ack deadline.
    """

    def __init__(self, limit: int, waiters: int) -> None:
        self._room = Places(limit)
        self._waiting_room = Places(waiters)
        self._draining = False
        self._drained: Signal[bool] = Signal()
        self._lock = threading.Lock()
        self._works: dict[str, _Work] = {}

    @property
    def draining(self) -> bool:
        """Whether the process is about to end and takes no more messages."""
        return self._draining

    def drain(self) -> None:
        """Take no more messages. Safe in a signal handler."""
        self._draining = True
        self._drained.set(True)

    def wait_for_drain(self, seconds: float) -> bool:
        """Sleep for `seconds`, or until draining; whether that is so."""
        return self._draining or self._drained.wait(seconds) is not None

    def answer(self, key: str, until: float, work: Callable[[], Verdict]) -> Verdict:
        """The verdict on the message `key`: that of `work`, or of the copy of the message that is being worked on.

        A copy waits until `until`, on the monotonic clock, and is released with IN_PROGRESS by a newer one: Pub/Sub has
        given up on the older push. Raises Refused.
        """
        if self.draining:
            raise Refused(Reason.DRAINING)
        waiter = self._join(key)
        if waiter is not None:
            return self._await(waiter, until)
        try:
            verdict = self._with_room(work)
        except BaseException:
            self._finish(key, Verdict(Reason.IN_PROGRESS, detail="the copy that was joined failed"))
            raise
        self._finish(key, _joined(verdict))
        return verdict

    def _join(self, key: str) -> Signal[Verdict] | None:
        """Become the waiter for a message that is being worked on; None where it is now the caller's to work on."""
        with self._lock:
            work = self._works.get(key)
            if work is None:
                self._works[key] = _Work()
                return None
            mine: Signal[Verdict] = Signal()
            released, work.waiter = work.waiter, mine
        if released is not None:
            released.set(Verdict(Reason.IN_PROGRESS, detail="a newer copy waits"))
        return mine

    def _await(self, waiter: Signal[Verdict], until: float) -> Verdict:
        with self._waiting_room:
            verdict = waiter.wait(until - time.monotonic())
        return verdict or Verdict(Reason.IN_PROGRESS, detail="waited to the end")

    def _with_room(self, work: Callable[[], Verdict]) -> Verdict:
        with self._room:
            return work()

    def _finish(self, key: str, verdict: Verdict) -> None:
        with self._lock:
            waiter = self._works.pop(key).waiter
        if waiter is not None:
            waiter.set(verdict)


def _joined(verdict: Verdict) -> Verdict:
    """What a copy of the message is told: the answer is not published again."""
    if verdict.status == 204:
        return Verdict(Reason.ALREADY_ANSWERED, detail="joined")
    return replace(verdict, detail=f"joined: {verdict.detail}")

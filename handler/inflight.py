"""What this instance is working on: how much there is room for, who joins what, and whether it still takes more."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

from handler.outcome import Reason, Verdict


class Refused(Exception):
    """There is no room for another message now. `reason` says why."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(slots=True)
class _Work:
    """A message being worked on, and the copy of it that waits for the verdict, if one does."""

    waiter: "Future[Verdict] | None" = None


class Inflight:
    """Room for `limit` messages at once, and for `waiters` copies of those.

    More are refused, never queued: queueing would spend their ack deadline.
    """

    def __init__(self, limit: int, waiters: int) -> None:
        self._room = threading.BoundedSemaphore(limit)
        self._waiting_room = threading.BoundedSemaphore(waiters)
        self._draining = threading.Event()
        self._lock = threading.Lock()
        self._works: dict[str, _Work] = {}

    @property
    def draining(self) -> bool:
        """Whether the process is about to end and takes no more messages."""
        return self._draining.is_set()

    def drain(self) -> None:
        """Take no more messages. Safe in a signal handler."""
        self._draining.set()

    def wait_for_drain(self, seconds: float) -> bool:
        """Sleep for `seconds`, or until draining; whether that is so."""
        return self._draining.wait(seconds)

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

    def _join(self, key: str) -> "Future[Verdict] | None":
        """Become the waiter for a message that is being worked on; None where it is now the caller's to work on."""
        with self._lock:
            work = self._works.get(key)
            if work is None:
                self._works[key] = _Work()
                return None
            released, work.waiter = work.waiter, Future()
        if released is not None:
            released.set_result(Verdict(Reason.IN_PROGRESS, detail="a newer copy waits"))
        return work.waiter

    def _await(self, waiter: "Future[Verdict]", until: float) -> Verdict:
        with _held(self._waiting_room), suppress(TimeoutError):
            return waiter.result(max(0.0, until - time.monotonic()))
        return Verdict(Reason.IN_PROGRESS, detail="waited to the end")

    def _with_room(self, work: Callable[[], Verdict]) -> Verdict:
        with _held(self._room):
            return work()

    def _finish(self, key: str, verdict: Verdict) -> None:
        with self._lock:
            waiter = self._works.pop(key).waiter
        if waiter is not None:
            waiter.set_result(verdict)


@contextmanager
def _held(places: threading.BoundedSemaphore) -> Iterator[None]:
    if not places.acquire(blocking=False):
        raise Refused(Reason.BUSY)
    try:
        yield
    finally:
        places.release()


def _joined(verdict: Verdict) -> Verdict:
    """What a copy of the message is told: the answer is not published again."""
    if verdict.status == 204:
        return Verdict(Reason.ALREADY_ANSWERED, detail="joined")
    return replace(verdict, detail=f"joined: {verdict.detail}")

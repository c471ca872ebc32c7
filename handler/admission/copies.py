"""Copies of a message that is being worked on, or waits to be: they join it instead of being worked on themselves."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import replace

from handler.admission import Refused
from handler.rules.verdict.outcome import Reason, Verdict


class Copies:
    """What this instance works on, by message; so many copies may wait for verdicts. Thread-safe."""

    def __init__(self, waiters: int) -> None:
        self._free = waiters
        self._lock = threading.Lock()
        # What is worked on, and the copy of it that waits for the verdict, if one does.
        self._waiters: dict[str, Future[Verdict] | None] = {}

    def answer(
        self, key: str, until: float, work: Callable[[], Verdict], on_join: Callable[[], None] = lambda: None
    ) -> Verdict:
        """The verdict on the message `key`: that of `work`, or of the copy of the message that is being worked on.

        A copy calls `on_join`, waits until `until`, on the monotonic clock, and is released with IN_PROGRESS by a newer
        one: Pub/Sub has given up on the older push. Raises Refused where too many copies wait already, and what `work`
        raises.
        """
        waiter = self._join(key)
        if waiter is not None:
            on_join()
            return self._await(key, waiter, until)
        told = Verdict(Reason.IN_PROGRESS, detail="the copy that was joined failed")
        try:
            verdict = work()
            told = _joined(verdict)
        finally:
            self._finish(key, told)
        return verdict

    def _join(self, key: str) -> "Future[Verdict] | None":
        """Become the waiter for a message that is being worked on; None where it is now the caller's to work on.

        A newer copy takes the place of the older, so that there is always one for whoever Pub/Sub still listens to.
        """
        with self._lock:
            if key not in self._waiters:
                self._waiters[key] = None
                return None
            older, newer = self._waiters[key], Future[Verdict]()
            if older is None:
                if not self._free:
                    raise Refused(Reason.BUSY, "as many copies of messages wait as may")
                self._free -= 1
            self._waiters[key] = newer
        if older is not None:
            older.set_result(Verdict(Reason.IN_PROGRESS, detail="a newer copy waits"))
        return newer

    def _await(self, key: str, waiter: "Future[Verdict]", until: float) -> Verdict:
        try:
            return waiter.result(max(0.0, until - time.monotonic()))
        except FutureTimeoutError:
            return self._leave(key, waiter)

    def _leave(self, key: str, waiter: "Future[Verdict]") -> Verdict:
        """Wait no more; the place is free, unless a newer copy has it."""
        with self._lock:
            if self._waiters.get(key) is waiter:
                self._waiters[key] = None
                self._free += 1
        return Verdict(Reason.IN_PROGRESS, detail="waited to the end")

    def _finish(self, key: str, told: Verdict) -> None:
        with self._lock:
            waiter = self._waiters.pop(key)
            if waiter is not None:
                self._free += 1
        if waiter is not None:
            waiter.set_result(told)


def _joined(verdict: Verdict) -> Verdict:
    """What a copy of the message is told: the answer is not published again."""
    if verdict.status == 204:
        return Verdict(Reason.ALREADY_ANSWERED, detail="joined")
    return replace(verdict, detail=f"joined: {verdict.detail}")

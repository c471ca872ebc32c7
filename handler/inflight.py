"""What this instance is working on: how much there is room for, and whether it still takes more."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from handler.outcome import Reason


class Refused(Exception):
    """There is no room for another message now. `reason` says why."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


class Inflight:
    """Room for `limit` messages at once. More are refused, never queued: queueing would spend their ack deadline."""

    def __init__(self, limit: int) -> None:
        self._room = threading.BoundedSemaphore(limit)
        self._draining = threading.Event()

    @property
    def draining(self) -> bool:
        """Whether the process is about to end and takes no more messages."""
        return self._draining.is_set()

    def drain(self) -> None:
        """Take no more messages. Safe in a signal handler."""
        self._draining.set()

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Hold a place while a message is worked on. Raises Refused where there is none."""
        if self.draining:
            raise Refused(Reason.DRAINING)
        if not self._room.acquire(blocking=False):
            raise Refused(Reason.BUSY)
        try:
            yield
        finally:
            self._room.release()

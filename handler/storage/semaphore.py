"""Bounds what is fetched and held in memory."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from handler.admission import Refused
from handler.rules.verdict.outcome import Reason


class ByteSemaphore:
    """A semaphore that counts bytes: so many may be held at once, and what is larger alone. Thread-safe."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._used = 0
        self._changed = threading.Condition()
        self._draining = False

    @contextmanager
    def taken(self, size: int, seconds: float) -> Iterator[None]:
        """Hold `size` bytes during the `with` block, once there is room.

        Raises Refused: BUSY where that takes too long, DRAINING.
        """
        with self._changed:
            has_room = self._changed.wait_for(lambda: self._draining or self._has(size), max(0.0, seconds))
            if self._draining:
                raise Refused(Reason.DRAINING)
            if not has_room:
                raise Refused(Reason.BUSY, f"MAX_WAITING_MB: bodies that were fetched have {self._used} bytes")
            self._used += size
        try:
            yield
        finally:
            with self._changed:
                self._used -= size
                self._changed.notify_all()

    def drain(self) -> None:
        """Send everybody who waits away, for good."""
        with self._changed:
            self._draining = True
            self._changed.notify_all()

    def _has(self, size: int) -> bool:
        return not self._used or self._used + size <= self._size

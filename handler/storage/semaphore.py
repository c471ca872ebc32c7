"""Bounds what is fetched and held in memory."""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from handler.admission import Refused
from handler.rules.verdict.outcome import Reason


class ByteSemaphore:
    """A semaphore that counts bytes: so many may be held at once, and what is larger alone. Thread-safe.

    First come, first served: a large body would never find room as long as small ones come.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._used = 0
        self._turns = deque[object]()  # of those who wait
        self._changed = threading.Condition()
        self._draining = False

    @contextmanager
    def taken(self, size: int, seconds: float) -> Iterator[None]:
        """Hold `size` bytes during the `with` block, once there is room.

        Raises Refused: BUSY where that takes too long, DRAINING.
        """
        with self._changed:
            has_room = self._wait(size, seconds)
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

    def _wait(self, size: int, seconds: float) -> bool:
        """Wait for one's turn, and then for room; whether there is some. Whoever comes next looks again then."""
        turn = object()
        self._turns.append(turn)
        try:
            return self._changed.wait_for(lambda: self._draining or self._has(turn, size), max(0.0, seconds))
        finally:
            self._turns.remove(turn)
            self._changed.notify_all()

    def _has(self, turn: object, size: int) -> bool:
        return self._turns[0] is turn and (not self._used or self._used + size <= self._size)

"""How much is taken in: so many pushes at once, and so many bytes of those that wait."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from handler.admission import Refused
from handler.config.settings import WAITERS_PER_SLOT
from handler.rules.verdict.outcome import Reason


class Held:
    """A push that was taken in, until the end of the `with` block, and the bytes that it takes while it waits."""

    def __init__(self, intake: "Intake", size: int) -> None:
        self._intake = intake
        self._size = size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._intake.add(-1, -self._size)

    def resize(self, size: int) -> None:
        """The push takes so many bytes now. 0 once it waits no longer: the model's slots bound what is at work."""
        if size != self._size:
            self._intake.add(0, size - self._size)
            self._size = size

    @contextmanager
    def aside(self) -> Iterator[bool]:
        """Take no place during the `with` block, where the push waits for another instance; its bytes are there still.

        Whether there is room aside. Where there is none, nothing has changed.
        """
        size = self._size
        has_room = self._intake.put_aside(size)
        try:
            yield has_room
        finally:
            if has_room:
                self._intake.take_back(size)


class Intake:
    """Takes pushes in before their bodies are received, or refuses them. Thread-safe.

    As long as there are fewer than the model has slots, a push is taken whatever its size: it will not wait. More are
    taken while all that wait, and the new one, have no more than `size` bytes together. Aside as many bytes may wait,
    or one push that has more: a slot that is free is no reason to hold what does not go to it.
    """

    def __init__(self, slots: int, pushes: int, size: int) -> None:
        self._slots = slots
        self._pushes = pushes
        self._size = size
        self._lock = threading.Lock()
        self._held = 0
        self._bytes = 0
        self._aside = 0
        self._aside_bytes = 0

    def take(self, size: int) -> Held:
        """Hold a push of at most `size` bytes, during a `with` block. Raises Refused with BUSY."""
        with self._lock:
            if self._held >= self._pushes:
                raise Refused(Reason.BUSY, f"MAX_WAITING: {self._held} pushes are held")
            if self._held >= self._slots and self._bytes and self._bytes + size > self._size:
                raise Refused(Reason.BUSY, f"MAX_WAITING_MB: those that wait have {self._bytes} bytes")
            self._held += 1
            self._bytes += size
        return Held(self, size)

    def add(self, pushes: int, size: int) -> None:
        """Count pushes and bytes more, or less."""
        with self._lock:
            self._held += pushes
            self._bytes += size

    def put_aside(self, size: int) -> bool:
        """Have a push of so many bytes wait elsewhere, if there is room for that; it has no place here meanwhile."""
        with self._lock:
            fits = not self._aside_bytes or self._aside_bytes + size <= self._size
            if not fits or self._aside >= self._slots * WAITERS_PER_SLOT:
                return False
            self._held -= 1
            self._aside += 1
            self._aside_bytes += size
        return True

    def take_back(self, size: int) -> None:
        """The push waits elsewhere no longer."""
        with self._lock:
            self._held += 1
            self._aside -= 1
            self._aside_bytes -= size

"""The ledger of one instance, in its memory: bounded, and gone with the process."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from handler.ledger import MAX_KEPT_SECONDS, Claim, State

MAX_ANSWERED = 100_000  # messages; about 20 MB
MAX_KEPT_BYTES = 64 * 2**20  # of responses, each of which may have 10 MB


class MemoryLedger:
    """Remembers what this process answered and kept. Thread-safe.

    Claims are granted unless the message is answered: the service joins copies of a message within a process before it
    asks, and of other processes nothing is known. For the same reason nobody counts failures.
    """

    troubles = 0

    def __init__(
        self,
        answered_seconds: float,
        kept_seconds: float = MAX_KEPT_SECONDS,
        *,
        max_answered: int = MAX_ANSWERED,
        max_kept_bytes: int = MAX_KEPT_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Remember for so many seconds by `clock`, within the bounds; the oldest goes when there is no room."""
        self._answered = Shelf(max_answered, answered_seconds, clock)
        self._kept = Shelf(max_kept_bytes, kept_seconds, clock)
        self._held: set[tuple[str, str]] = set()  # bounded by the room that the service has
        self._lock = threading.Lock()

    def claim(self, key: str, owner: str) -> Claim:
        """Grant the message, with what was kept of it, unless it is answered."""
        with self._lock:
            if self._answered.get(key) is not None:
                return Claim(State.ANSWERED)
            self._held.add((key, owner))
            return Claim(State.MINE, kept=self._kept.get(key))

    def holds(self, key: str, owner: str) -> bool:
        """Whether the owner's claim was granted and has not ended, and the message is not answered."""
        with self._lock:
            return (key, owner) in self._held and self._answered.get(key) is None

    def keep(self, key: str, owner: str, response: bytes) -> None:  # noqa: ARG002 - whoever paid for it
        """Keep a response until it is answered, is too old, or must make room; one that never fits is not kept."""
        with self._lock:
            if self._answered.get(key) is None:
                self._kept.put(key, response, size=len(response))

    def answered(self, key: str, owner: str) -> None:
        """Remember that the response is published, and forget it."""
        with self._lock:
            self._held.discard((key, owner))
            self._kept.drop(key)
            self._answered.put(key, b"", size=1)

    def release(self, key: str, owner: str, *, failed: bool) -> None:  # noqa: ARG002 - nobody counts here
        """End the claim."""
        with self._lock:
            self._held.discard((key, owner))

    def close(self) -> None:
        """There is nothing to stop."""


@dataclass(frozen=True, slots=True)
class _Item:
    value: bytes
    size: int
    until: float


class Shelf:
    """Values by key, each for the same time; the oldest make room. For one thread at a time."""

    def __init__(self, room: int, seconds: float, clock: Callable[[], float]) -> None:
        self._room = room
        self._seconds = seconds
        self._clock = clock
        self._items: OrderedDict[str, _Item] = OrderedDict()  # the oldest first
        self._used = 0

    def get(self, key: str) -> bytes | None:
        """The value, None if there is none any more."""
        item = self._items.get(key)
        return item.value if item and self._clock() < item.until else None

    def put(self, key: str, value: bytes, *, size: int) -> None:
        """Take in a value for a size of room, in the place of the key's last one; larger than the room it is not."""
        self.drop(key)
        if size > self._room:  # it would push out everything, itself at last
            return
        now = self._clock()
        self._items[key] = _Item(value, size, now + self._seconds)
        self._used += size
        while self._used > self._room or next(iter(self._items.values())).until <= now:
            self.drop(next(iter(self._items)))

    def drop(self, key: str) -> None:
        """Forget the key, which may be unknown."""
        item = self._items.pop(key, None)
        self._used -= item.size if item else 0

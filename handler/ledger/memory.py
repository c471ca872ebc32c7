"""The ledger of one instance, in its memory: bounded, and gone with the process."""

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from cachetools import TTLCache

from handler.ledger import MAX_KEPT_SECONDS, Claim, Counts, Stage, State
from handler.ledger.origin import Origin, Target

MAX_ANSWERED = 500_000  # messages; about 50 MB
MAX_COUNTED = 50_000  # messages whose deliveries are counted; about 20 MB
_GENERATIONS = 8
MAX_KEPT_BYTES = 64 * 2**20  # of responses, each of which may have 10 MB


@dataclass(frozen=True, slots=True)
class _Counts:
    """Deliveries of a message that ended without an answer."""

    failed: int = 0
    before: str = ""
    no_attempts: int = 0


_NONE = _Counts()


class MemoryLedger:
    """Remembers what this process answered, kept and could not answer. Thread-safe.

    Claims are granted unless the message is answered: the service joins copies of a message within a process before it
    asks, and of other processes nothing is known. So nothing can be cancelled or counted here: it would hold for this
    process alone, and nobody could tell.
    """

    troubles = 0
    is_up = True
    spread_seconds = 0.0

    def __init__(
        self,
        answered_seconds: float,
        kept_seconds: float = MAX_KEPT_SECONDS,
        *,
        max_answered: int = MAX_ANSWERED,
        max_kept_bytes: int = MAX_KEPT_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Remember for so many seconds by `clock`, within the bounds; what was asked for longest ago makes room."""
        self._answered = RecentKeys(max_answered, answered_seconds, clock)
        self._kept = TTLCache[str, bytes](max_kept_bytes, kept_seconds, clock, len)
        self._counts = TTLCache[str, _Counts](MAX_COUNTED, kept_seconds, clock)
        self._held: set[tuple[str, str]] = set()  # bounded by the room that the service has
        self._lock = threading.Lock()

    def claim(self, key: str, owner: str, origin: Origin | None = None) -> Claim:  # noqa: ARG002
        """Grant the message, with what was kept of it, unless it is answered."""
        with self._lock:
            if key in self._answered:
                return Claim(State.ANSWERED)
            self._held.add((key, owner))
            counts = self._counts.get(key, _NONE)
            return Claim(
                State.MINE,
                kept=self._kept.get(key),
                failed_here=counts.failed,
                before=counts.before,
                no_attempts=counts.no_attempts,
            )

    def grant_call(self, key: str, owner: str) -> bool:  # noqa: ARG002
        """Yes: nothing is ever cancelled here."""
        return True

    def holds(self, key: str, owner: str) -> bool:
        """Whether the owner's claim was granted and has not ended, and the message is not answered."""
        with self._lock:
            return (key, owner) in self._held and key not in self._answered

    def keep(self, key: str, owner: str, response: bytes) -> bool:
        """Keep a response until it is answered, is too old, or must make room; one that never fits is not kept.

        Whoever asks for that has paid for it; what it returns is what `holds` does.
        """
        with self._lock:
            if key not in self._answered:
                self._kept.pop(key, None)
                with suppress(ValueError):  # larger than all of the room
                    self._kept[key] = response
        return self.holds(key, owner)

    def fetch(self, key: str) -> bytes | None:
        """What is kept, which comes with the claim here."""
        with self._lock:
            return self._kept.get(key)

    def answered(self, key: str, owner: str, stage: Stage = Stage.ANSWERED) -> None:  # noqa: ARG002
        """Remember that the response is published, and forget it."""
        with self._lock:
            self._held.discard((key, owner))
            self._kept.pop(key, None)
            self._counts.pop(key, None)
            self._answered.add(key)

    def release(self, key: str, owner: str, *, failed: bool, detail: str = "") -> None:
        """End the claim."""
        with self._lock:
            self._held.discard((key, owner))
            if failed:
                counts = self._counts.get(key, _NONE)
                self._counts[key] = replace(counts, failed=counts.failed + 1, before=detail)

    def no_attempt(self, key: str) -> None:
        """Count it, as the failures are counted."""
        with self._lock:
            counts = self._counts.get(key, _NONE)
            self._counts[key] = replace(counts, no_attempts=counts.no_attempts + 1)

    def cancel(self, target: Target, published: int) -> Counts | None:  # noqa: ARG002
        """Cancel nothing."""
        return None

    def counts(self, target: Target) -> Counts | None:  # noqa: ARG002
        """Know of none."""
        return None

    def stages(self, target: Target) -> list[Stage]:  # noqa: ARG002
        """Know of none."""
        return []

    def close(self) -> None:
        """There is nothing to stop."""


class RecentKeys:
    """Keys, each remembered for the same time; in generations, since a time for each would take twice the memory.

    For one thread at a time. `room` is how many there are at most; the oldest generation makes room.
    """

    def __init__(self, room: int, seconds: float, clock: Callable[[], float]) -> None:
        self._generation_room = max(1, room // _GENERATIONS)
        self._generation_seconds = seconds / (_GENERATIONS - 1)
        self._seconds = seconds
        self._clock = clock
        self._generations: deque[tuple[float, set[bytes]]] = deque(maxlen=_GENERATIONS)  # since when; the newest first

    def __contains__(self, key: str) -> bool:
        self._expire()
        digest = key.encode()
        return any(digest in keys for _, keys in self._generations)

    def add(self, key: str) -> None:
        """Remember a key from now on."""
        self._expire()
        now = self._clock()
        if not self._generations or self._is_over(now, *self._generations[0]):
            self._generations.appendleft((now, set()))
        self._generations[0][1].add(key.encode())

    def _is_over(self, now: float, since: float, keys: set[bytes]) -> bool:
        return now >= since + self._generation_seconds or len(keys) >= self._generation_room

    def _expire(self) -> None:
        too_old = self._clock() - self._seconds - self._generation_seconds
        while self._generations and self._generations[-1][0] <= too_old:
            self._generations.pop()

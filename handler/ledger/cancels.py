"""What a process knows of cancels: whom it holds that may be cancelled, and when it heard last that somebody was."""

import threading
from collections.abc import Callable

from cachetools import TTLCache

from handler.ledger.leases import Pair
from handler.ledger.origin import Origin, Target

NEVER = -1  # before any cancel: a message that was claimed then is always asked for
MAX_NOTED = 10_000  # names that were cancelled by way of this process


class Cancels:
    """The messages that this process holds and that can be cancelled. Thread-safe.

    Redis says with each claim when something was cancelled last, and so do the renewals. A message of no batch needs to
    be asked for again only if that was after its own claim.
    """

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._lock = threading.Lock()
        self._held: dict[Pair, tuple[Origin, int]] = {}  # and the last cancel when it was claimed
        self._last = 0  # microseconds since 1970, by the clock of Redis
        self._noted = TTLCache[str, int](MAX_NOTED, seconds, clock)

    @property
    def follows(self) -> bool:
        """Whether anything is held."""
        return bool(self._held)

    def follow(self, pair: Pair, origin: Origin, last: int) -> None:
        """A message was claimed, when the last cancel was that one; 0 where Redis did not say."""
        with self._lock:
            self._held[pair] = (origin, last)
            self._last = max(self._last, last)

    def unfollow(self, pair: Pair) -> Origin | None:
        """The claim has ended: the origin of its message, if that can be cancelled."""
        with self._lock:
            held = self._held.pop(pair, None)
            return held and held[0]

    def origin(self, pair: Pair) -> Origin | None:
        """The origin of what is held, None where it cannot be cancelled."""
        with self._lock:
            held = self._held.get(pair)
            return held and held[0]

    def is_to_be_asked(self, pair: Pair) -> bool:
        """Whether Redis may know more of a message now than when it was claimed; always, where it counts it."""
        with self._lock:
            origin, last = self._held[pair]
            return bool(origin.batch) or last != self._last

    def hear(self, last: object) -> None:
        """Redis says when something was cancelled last; what is no number is the refusal of an operation."""
        with self._lock:
            self._last = max(self._last, last if isinstance(last, int) else 0)

    def note(self, target: Target, published: int) -> None:
        """Remember a cancel that came by way of this process, whatever becomes of it in Redis."""
        with self._lock:
            for name in target.names:
                self._noted[name] = max(published, self._noted.get(name, 0))

    def means(self, origin: Origin) -> bool:
        """Whether such a cancel means this message."""
        with self._lock:
            return any(origin.published <= self._noted.get(name, -1) for name in origin.names)

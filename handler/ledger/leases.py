"""The leases that this process holds, what it still has to tell Redis, and the thread that sees to both."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cachetools import TTLCache

from handler.ledger.scripts import Call

# What Redis has missed while it was bypassed: the latest so many.
MAX_OWED = 10_000
# Of these so many are sent at once, so that they neither take a timeout's time nor hold Redis up.
OWED_AT_ONCE = 500
RENEWED_AT_ONCE = 500  # of the leases, for the same reason
JOIN_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Pair:
    """A message and the owner who was granted it."""

    key: str
    owner: str


class Leases:
    """What this process holds, and what it owes Redis since that was bypassed. Thread-safe."""

    def __init__(self, taken: TTLCache[str, bool]) -> None:
        self._lock = threading.Lock()
        self._taken = taken
        self._held: dict[Pair, bool] = {}  # False: a renewal found it lost
        self._owed: list[Call] = []

    def grant(self, pair: Pair) -> None:
        """A claim was granted."""
        with self._lock:
            self._taken.pop(pair.key, None)
            self._held[pair] = True

    def note_taken(self, key: str) -> None:
        """The message is somebody else's."""
        with self._lock:
            self._taken[key] = True

    def is_taken(self, key: str) -> bool:
        """Whether the message was somebody else's when Redis was asked last, not longer ago than a lease lasts."""
        with self._lock:
            return key in self._taken

    def note(self, pair: Pair, *, ours: bool) -> bool:
        """Remember what Redis says of a claim. Returns False, and does nothing, if it has ended meanwhile."""
        with self._lock:
            if pair not in self._held:
                return False
            self._held[pair] = ours
            return True

    def drop(self, pair: Pair) -> None:
        """The claim has ended."""
        with self._lock:
            self._held.pop(pair, None)

    def is_ours(self, pair: Pair) -> bool:
        """Whether the claim is held, and was not found lost."""
        with self._lock:
            return self._held.get(pair, False)

    def held(self) -> Sequence[Pair]:
        """The claims that are held."""
        with self._lock:
            return [pair for pair, ours in self._held.items() if ours]

    def parts(self) -> Sequence[Sequence[Pair]]:
        """The same, as many together as are renewed at once; one part, with nothing in it, where none are held."""
        held = self.held()
        return [held[at : at + RENEWED_AT_ONCE] for at in range(0, max(1, len(held)), RENEWED_AT_ONCE)]

    def owe(self, calls: Sequence[Call], *, first: bool = False) -> None:
        """Add calls, in front of the others if they are `first`. The oldest are given up when there are too many."""
        with self._lock:
            both = [*calls, *self._owed] if first else [*self._owed, *calls]
            self._owed = both[-MAX_OWED:]

    def take_owed(self) -> Sequence[Call]:
        """Take the oldest calls off the book, as many as are sent at once."""
        with self._lock:
            owed, self._owed = self._owed[:OWED_AT_ONCE], self._owed[OWED_AT_ONCE:]
            return owed

    def owes(self) -> bool:
        """Whether there is still something to tell Redis."""
        with self._lock:
            return bool(self._owed)


class Renewal:
    """A thread that does its work every few seconds, and sooner after it has failed."""

    def __init__(self, work: Callable[[], bool], seconds: float) -> None:
        self._work = work
        self._seconds = seconds
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread unless it runs; in a process that was forked from one where it ran it does not."""
        with self._lock:
            if self._stopped.is_set() or (self._thread and self._thread.is_alive()):
                return
            self._thread = threading.Thread(target=self._run, name="ledger-renewal", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread; waits for what it is doing, a few timeouts at most."""
        with self._lock:
            self._stopped.set()
            if self._thread:
                self._thread.join(JOIN_SECONDS)

    def _run(self) -> None:
        pause = self._seconds
        while not self._stopped.wait(pause):
            pause = self._seconds if self._work() else self._seconds / 5

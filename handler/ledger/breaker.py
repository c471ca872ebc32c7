"""Whether Redis is asked, and what is logged of its troubles."""

import logging
import re
import threading
from collections.abc import Callable
from enum import Enum, auto

LOG_SECONDS = 60.0
_FOR_EVER = float("inf")
# What Redis and those in front of it call their troubles. No more of a reply is logged: it may quote what was sent.
TROUBLE = re.compile(
    r"\b(OOM|READONLY|LOADING|BUSY|MASTERDOWN|MISCONF|NOREPLICAS|NOAUTH|WRONGPASS|NOPERM|MOVED|CLUSTERDOWN)\b"
)

_log = logging.getLogger(__name__)


class Way(Enum):
    """How to ask now."""

    THROUGH = auto()
    PROBE = auto()  # the one question that finds out whether Redis is back
    AROUND = auto()  # not at all


class CircuitBreaker:
    """A circuit breaker before Redis.

    It opens for some seconds after each failure; then one greenlet probes, and the others go on without Redis
    meanwhile.
    """

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self.troubles = 0
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._open_until: float | None = None  # None: closed
        self._silent_until = -_FOR_EVER

    def is_open(self) -> bool:
        """Whether Redis is not to be asked now."""
        with self._lock:
            return self._open_until is not None and self._clock() < self._open_until

    @property
    def is_closed(self) -> bool:
        """Whether Redis answered when it was last asked: it stays False until a probe has worked."""
        return self._open_until is None

    def way(self) -> Way:
        """How to ask now. Whoever is told PROBE must do so, and say whether it worked or failed."""
        with self._lock:
            if self._open_until is None:
                return Way.THROUGH
            now = self._clock()
            if now < self._open_until:
                return Way.AROUND
            # For the others it stays open meanwhile; should this greenlet be killed, another probes after that time.
            self._open_until = now + self._seconds
            return Way.PROBE

    def worked(self) -> None:
        """Redis has answered the probe."""
        with self._lock:
            if self._open_until != _FOR_EVER:  # else open for good
                self._open_until = None

    def failed(self, error: Exception) -> None:
        """Redis has not answered."""
        now = self._clock()
        with self._lock:
            self.troubles += 1
            self._open_until = max(now + self._seconds, self._open_until or now)
            silent = now < self._silent_until
            if not silent:
                self._silent_until = now + LOG_SECONDS
        if not silent:
            _log.warning(
                "the ledger at LEDGER_URL is in trouble and bypassed, so that messages may be answered twice: %s",
                describe(error),
                extra={"error": describe(error), "troubles": self.troubles},
            )

    def close(self) -> None:
        """Ask no more, for good."""
        with self._lock:
            self._open_until = _FOR_EVER


def describe(error: Exception) -> str:
    """The kinds of the error and its cause, and Redis' own word; not the text, which may quote what was sent."""
    cause = error.__cause__ or error.__context__
    words = [type(error).__name__, type(cause).__name__ if cause else "", *TROUBLE.findall(str(error))]
    return " ".join(word for word in words if word)

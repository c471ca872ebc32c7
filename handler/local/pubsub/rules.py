"""What Google documents only in part, or not at all: one place to see what was chosen and to choose otherwise."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The uncertain rules. Times in seconds."""

    combine: Literal["max", "sum"] = "max"
    """The wait after a nack is the longer of push backoff and retry policy ("the maximum combined value"), or both."""

    push_backoff: bool = True
    """False turns the subscription-wide push backoff off, which the real service does not offer."""

    first_window: int = 3
    """Concurrent pushes at the start: documented as "a small single-digit"."""

    largest_window: int = 3000
    """Concurrent pushes at most; the real one may grow on slowly beyond it while the endpoint is quick."""

    backoff_growth: float = 2.0
    """The retry policy's exponent; its jitter is not documented and left out."""

    shortest_ack_deadline: int = 10
    """The service's least; a test that cannot wait for it lowers it."""

    pull_wait: float = 5.0
    """How long a unary pull waits for the first message: documented as "a bounded amount of time"."""

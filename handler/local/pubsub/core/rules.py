"""What Google documents in part or not at all: one place to see what was chosen, and to choose otherwise."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The uncertain rules, and limits that a test may need to lower. Times in seconds."""

    combine: Literal["max", "sum"] = "max"
    """After a nack: the longer of push backoff and retry policy ("maximum combined value"), or both together."""
    push_backoff: bool = True
    """Slow the whole subscription down after nacks. The real service cannot be told not to."""
    push_backoff_range: tuple[float, float] = (0.1, 60.0)
    """The shortest and the longest time between pushes after nacks: documented; shorter for what runs in less time."""
    window_growth: Literal["ack", "round trip"] = "ack"
    """Acks double the window, "exponentially": every single one does, or, as in TCP's slow start, which Google names,
    each adds one, so that it doubles in a round trip."""
    first_window: int = 3
    """Concurrent pushes at the start: "a small single-digit"."""
    largest_window: int = 3000
    """Concurrent pushes at most. The real window may grow slowly beyond it while the endpoint is quick."""
    backoff_growth: float = 2.0
    """What each failure multiplies the retry policy's wait by: "exponential". Its jitter is left out."""
    missing_differs: bool = True
    """Whether the filter `attributes.key != "v"` matches a message that has no such key."""
    shortest_ack_deadline: int = 10
    """The service's least."""
    pull_wait: float = 5.0
    """How long a pull waits for the first message: "a bounded amount of time"."""

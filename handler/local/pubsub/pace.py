"""How fast a subscription is pushed: the window of concurrent pushes and the push backoff. Pure.

The window doubles on every ack and halves on every failure. The backoff reproduces the two figures Google documents
(five messages a second with one nack a second: about 500 ms between pushes; with five: 30 to 60 s) by a score that a
nack raises by one and an ack shrinks by a factor: `100 ms * 2 ** (score - 1)`, up to 60 s.
"""

import math

from handler.local.pubsub.rules import Rules

_SHORTEST, _LONGEST = 0.1, 60.0
_TOP_SCORE = 1 + math.log2(_LONGEST / _SHORTEST)
_FORGIVEN = 0.927  # by an ack; with four acks to a nack the score settles where the wait is about 500 ms


class Pace:
    """Says whether one more push may start. Times in seconds."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self.window = rules.first_window
        self._score = 0.0
        self._last = -math.inf

    @property
    def backoff(self) -> float:
        """Seconds between pushes now; 0 when nothing failed lately."""
        if self._score < 1 or not self._rules.push_backoff:
            return 0.0
        return float(min(_LONGEST, _SHORTEST * 2 ** (self._score - 1)))

    def opens(self) -> float:
        """When the backoff lets the next push start."""
        return self._last + self.backoff

    def allows(self, outstanding: int, now: float) -> bool:
        """Whether a push may start now beside `outstanding` ones."""
        return outstanding < self.window and now >= self.opens()

    def started(self, now: float) -> None:
        """A push went out."""
        self._last = now

    def succeeded(self) -> None:
        """A push was acked."""
        self.window = min(self._rules.largest_window, self.window * 2)
        self._score *= _FORGIVEN

    def failed(self, now: float) -> None:
        """A push was nacked, timed out or did not arrive. The wait counts from now."""
        self.window = max(1, self.window // 2)
        self._score = min(_TOP_SCORE, self._score + 1)
        self._last = now

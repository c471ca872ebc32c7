"""How many calls the model gets at once: a number that the operator names, or one that follows what the model says.

The latter is additive increase, multiplicative decrease (AIMD), as TCP's congestion avoidance has it (RFC 5681). It
goes by refusals and by the model's own queue, never by how long calls take: answers differ in length. Pure, and not
thread-safe: the line has the lock.
"""

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

START = 8
DECREASE = 0.75


class FixedLimit:
    """As many as the operator says."""

    def __init__(self, slots: int) -> None:
        self.slots = slots

    def answered(self, begun: float, *, overloaded: bool, full: bool) -> None:
        """A call has ended; nothing follows from it."""


@dataclass(slots=True)
class AdaptiveLimit:
    """From one to `ceiling`: one more for each round trip without a complaint while all are used, less at each.

    Of all the complaints of one flight only the first counts: those calls were begun before its decrease could show.
    """

    ceiling: int
    clock: Callable[[], float] = monotonic
    _value: float = START
    _decreased_at: float = float("-inf")

    @property
    def slots(self) -> int:
        """How many calls the model gets at once now."""
        return max(1, min(self.ceiling, int(self._value)))

    def answered(self, begun: float, *, overloaded: bool, full: bool) -> None:
        """A call that was begun at `begun` has ended; `full` says whether all slots were in use."""
        if overloaded:
            if begun > self._decreased_at:
                self._value = max(1.0, self.slots * DECREASE)
                self._decreased_at = self.clock()
        elif full:
            self._value = min(float(self.ceiling), self._value + 1 / self.slots)


ConcurrencyLimit = FixedLimit | AdaptiveLimit

"""The model's slots as a picture: which are taken, and by which message."""

from typing import Any


class Slots:
    """Numbered places for calls, from 0; the lowest free one is taken next."""

    def __init__(self, limit: int | None) -> None:
        """None where the limit is not known."""
        self._limit = limit
        self._taken: dict[int, int] = {}

    def take(self, held: int | None, number: int) -> int:
        """Take a slot for a message's number (0: nobody's known): the one that is `held` already, or a free one."""
        slot = next(free for free in range(len(self._taken) + 1) if free not in self._taken) if held is None else held
        self._taken[slot] = number
        return slot

    def free(self, slot: int) -> None:
        """Give a slot back."""
        self._taken.pop(slot, None)

    def view(self) -> dict[str, Any]:
        """What the browser gets."""
        return {"limit": self._limit, "taken": self._taken.copy()}

"""What is known of messages that were delivered before: being worked on, kept, answered; and how often they failed."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class State(StrEnum):
    """What became of a message so far, for the one who wants to work on it."""

    MINE = "mine"  # nobody else works on it: the claim is granted
    TAKEN = "taken"  # another instance works on it
    ANSWERED = "answered"  # its response is published


@dataclass(frozen=True, slots=True)
class Claim:
    """The answer to a claim.

    With MINE, `kept` is a response that was made but not published yet, as `keep` was given it; `failures` counts the
    model failures so far, None where nobody counts.
    """

    state: State
    kept: bytes | None = None
    failures: int | None = None


class Ledger(Protocol):
    """What the relay asks. `key` names a message, `owner` one attempt at it. No method raises for its own trouble."""

    def claim(self, key: str, owner: str) -> Claim:
        """Ask to work on a message; what is granted lasts until `release` or `answered`, or as long as this process."""
        ...

    def holds(self, key: str, owner: str) -> bool:
        """Whether the message is still the owner's: asked just before publishing."""
        ...

    def keep(self, key: str, owner: str, response: bytes) -> None:
        """Keep a response, so that a redelivery publishes it instead of calling the model again."""
        ...

    def answered(self, key: str, owner: str) -> None:
        """Remember that the response is published; forget the rest. Ends the claim."""
        ...

    def release(self, key: str, owner: str, *, failed: bool) -> None:
        """Give the message back; `failed` counts one more failure of the model."""
        ...

"""What is known of messages that were delivered before: being worked on, kept, answered; and how often they failed."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from handler.ledger.origin import Origin, Target

# How long a response that was made but not published, and the count of failures, may wait for the next delivery. It is
# as long as Pub/Sub keeps a message by default.
MAX_KEPT_SECONDS = 7 * 86_400.0


class State(StrEnum):
    """What became of a message so far, for the one who wants to work on it."""

    MINE = "mine"  # nobody else works on it: the claim is granted
    TAKEN = "taken"  # another instance works on it
    ANSWERED = "answered"  # its response is published


class Stage(StrEnum):
    """Where a message of a batch stands; the last three are for good."""

    WAITING = "w"  # in an instance's line, or given back to Pub/Sub
    WORKING = "m"  # the model has it
    ANSWERED = "a"
    FAILED = "f"  # answered with an error
    CANCELLED = "c"


@dataclass(frozen=True, slots=True)
class Counts:
    """How many messages of a batch stand where, each in one place; those that no instance has seen are in none.

    `complete` is False where the batch has more messages than are counted. `cancelled_before`: what was published
    until then, in milliseconds since 1970, is cancelled; 0 where nothing is.
    """

    waiting: int = 0
    working: int = 0
    answered: int = 0
    failed: int = 0
    cancelled: int = 0
    complete: bool = True
    cancelled_before: int = 0


@dataclass(frozen=True, slots=True)
class Claim:
    """The answer to a claim.

    With MINE, `kept` is a response that was made but not published yet, as `keep` was given it; or `kept_bytes` is the
    size of one that is to be had with `fetch`, where it is too large to come along. With MINE and TAKEN,
    `failures` counts the failed attempts so far that all instances know of, None where they do not tell each other;
    `failed_here` counts those that this process has seen, `before` is how the last of them went, and `no_attempts`
    counts the deliveries to it that ended without an answer and without a failure of the model. With MINE, `cancelled`
    says that its requester wants no call.
    """

    state: State
    kept: bytes | None = field(default=None, repr=False)
    failures: int | None = None
    failed_here: int = 0
    before: str = ""
    no_attempts: int = 0
    cancelled: bool = False
    kept_bytes: int = 0

    @property
    def is_made(self) -> bool:
        """Whether the response is there, and no call is to be made."""
        return self.kept is not None or self.kept_bytes > 0


class Ledger(Protocol):
    """What the relay asks; every method may be called by any thread, and none raises for the ledger's own trouble.

    `key` names a message: a hash in hexadecimal, the same in every instance. `owner` names one attempt at it: a random
    token, unlike that of any other attempt here or elsewhere.
    """

    @property
    def troubles(self) -> int:
        """How many operations failed so far because the ledger was down, slow or full; those bypassed do not count."""
        ...

    @property
    def is_up(self) -> bool:
        """Whether it answered when it was last asked."""
        ...

    def claim(self, key: str, owner: str, origin: Origin | None = None) -> Claim:
        """Ask to work on a message; what is granted lasts until `release` or `answered`, or as long as this process.

        With its origin it can be cancelled, and is counted if it is of a batch.
        """
        ...

    def grant_call(self, key: str, owner: str) -> bool:
        """Ask for a call of the model, as the owner whose claim was granted: False if the message was cancelled.

        From then on the message counts as one that the model has.
        """
        ...

    def holds(self, key: str, owner: str) -> bool:
        """Whether the owner, whose claim was granted, may publish: nobody else took the message over or answered it."""
        ...

    def keep(self, key: str, owner: str, response: bytes) -> bool:
        """Keep a response, so that a redelivery publishes it instead of calling the model again.

        Returns what `holds` would: nearly each message wants both, and has them in one round trip.
        """
        ...

    def fetch(self, key: str) -> bytes | None:
        """The kept response of a claim that has only its size. None where it is not to be had now."""
        ...

    def answered(self, key: str, owner: str, stage: Stage = Stage.ANSWERED) -> None:
        """Remember that the response is published; forget the rest. Ends the claim.

        `stage` says what the response was, for those who count.
        """
        ...

    def release(self, key: str, owner: str, *, failed: bool, detail: str = "") -> None:
        """Give the message back; `failed` counts one failed attempt. What was kept stays. Ends the claim.

        `detail` says how it failed, in words that hold nothing of the request.
        """
        ...

    def no_attempt(self, key: str) -> None:
        """Count a delivery without an answer and without a failure of the model: refused, cut off, not published."""
        ...

    def cancel(self, target: Target, published: int) -> Counts | None:
        """Cancel what is meant and was published until then, in milliseconds since 1970: the counts at that moment.

        None where nothing was noted that other instances see. Who waits without a batch learns of it within
        `spread_seconds`, the others at once.
        """
        ...

    def counts(self, target: Target) -> Counts | None:
        """Where the messages of a batch stand. None where it is not known what other instances do."""
        ...

    def stages(self, target: Target) -> list[Stage] | None:
        """Where the messages of one request stand that are known as such: those of a batch. None if it does not say."""
        ...

    @property
    def spread_seconds(self) -> float:
        """How long it takes at most, while all is well, until every instance knows that something was cancelled."""
        ...

    def close(self) -> None:
        """Stop what runs in the background. Call it last; claims that are still held end by themselves."""
        ...

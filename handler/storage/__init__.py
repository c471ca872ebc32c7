"""Cloud Storage, for what no message can hold: the claim check pattern. Only objects.py knows Google's library."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from handler.rules.message.reference import Reference, Stored


class StorageFailed(Exception):
    """Cloud Storage's own trouble, or its operator's: a later try may succeed. The message names no object."""


class NoSuchObject(Exception):
    """There is no such object, or no such generation of it."""


class TooLarge(Exception):
    """What was to be written has more bytes than it may have."""


@dataclass(frozen=True, slots=True)
class Found:
    """An object as it was found, its size in bytes; `reference` names the one generation that is read."""

    reference: Reference
    size: int
    content_type: str
    content_encoding: str


class Objects(Protocol):
    """What reads and writes objects."""

    def find(self, reference: Reference) -> Found:
        """Look an object up, and pin its generation. Raises NoSuchObject and StorageFailed."""
        ...

    def read(self, found: Found) -> Iterator[bytes]:
        """The bytes of an object's one generation, as they lie there. Raises NoSuchObject and StorageFailed."""
        ...

    def write(self, reference: Reference, content_type: str, parts: Iterator[bytes], limit: int) -> Stored:
        """Write an object of unknown size, in the place of one that has its name; nothing of it where that fails.

        Raises TooLarge beyond `limit` bytes, StorageFailed, and whatever `parts` raises.
        """
        ...

    def close(self) -> None:
        """Disconnect."""
        ...

"""A body that is too large to be held. Pure."""

from collections.abc import Iterator
from typing import Protocol


class Streamed(Protocol):
    """A body that is read while it is sent, anew each time; its length is that in bytes."""

    content_type: str

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[bytes]: ...

"""A body that is too large to be held. Pure."""

from collections.abc import Iterator
from typing import Protocol


class File(Protocol):
    """A file that is to be sent in a form: its bytes, read anew each time, of which there are `size`.

    `name` is its path, `content_type` "" where nobody knows it.
    """

    name: str
    content_type: str
    size: int

    def __iter__(self) -> Iterator[bytes]: ...


class Streamed(Protocol):
    """A body that is read while it is sent, anew each time; its length is that in bytes, of which `held` are here."""

    content_type: str
    held: int

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[bytes]: ...

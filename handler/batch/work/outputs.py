"""The output file and the error file: appended to as answers come, and cut back to what the journal knows of.

A line is written, then noted in the journal, and only then acked at Pub/Sub. What a killed run wrote beyond the last
note is cut off at the next start, and its answers come again.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Self

from handler.batch.errors import CannotRun
from handler.batch.options import listed
from handler.batch.work.journal import Journal, LineState
from handler.rules import strictjson

_KEYS = {LineState.SUCCEEDED: "output", LineState.FAILED: "errors"}


class Appended:
    """A file that is only appended to; `length` is where the next line goes."""

    def __init__(self, path: Path, length: int) -> None:
        self.path = path
        self._file = path.open("ab")
        self.length = length
        self._dirty = False
        self._file.truncate(length)

    def cut(self, length: int) -> None:
        """Forget what was written beyond this length."""
        self._file.flush()
        self._file.truncate(length)
        self.length = length

    def append(self, line: bytes) -> tuple[int, int]:
        """Write a line; its offset and length."""
        offset = self.length
        self._file.write(line)
        self.length += len(line)
        self._dirty = True
        return offset, len(line)

    def sync(self) -> None:
        """Have everything on the disk."""
        if self._dirty:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._dirty = False

    def close(self) -> None:
        """Close it."""
        self._file.close()


class Outputs:
    """Both files of a batch. In vLLM's style there is one: both names are the same then."""

    def __init__(self, journal: Journal, output: Path, errors: Path) -> None:
        self._journal = journal
        self._paths = {LineState.SUCCEEDED: output, LineState.FAILED: errors}
        self._open()

    def _open(self) -> None:
        lengths: dict[LineState, int] = {}
        for state in self._states():
            self._finish_replacing(state)
            lengths[state] = self._journal.number(f"{_KEYS[state]}_length")
            self._see_that_it_is_there(self._paths[state], lengths[state])
        self._files = {state: Appended(self._paths[state], length) for state, length in lengths.items()}
        self._journal.on_rollback = self._roll_back

    def _roll_back(self) -> None:
        """Cut off what was written in a transaction that came to nothing: it will be written again."""
        with suppress(OSError):  # of a disk that is full: nothing more is written then, and the next run cuts it off
            for state, file in self._files.items():
                file.cut(self._journal.number(f"{_KEYS[state]}_length"))

    def _see_that_it_is_there(self, path: Path, length: int) -> None:
        if length > (path.stat().st_size if path.exists() else 0):
            raise CannotRun(f"{path} is shorter than the journal says. {self._what_to_do()}")

    def _what_to_do(self) -> str:
        belonging = dict.fromkeys((self._journal.path, *self._paths.values()))
        return (
            f"Bring it back as it was, or remove {listed(belonging)} to begin anew (that sends, and pays for, "
            "everything again)"
        )

    def _states(self) -> tuple[LineState, ...]:
        one = self._paths[LineState.SUCCEEDED] == self._paths[LineState.FAILED]
        return (LineState.SUCCEEDED,) if one else (LineState.SUCCEEDED, LineState.FAILED)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            file.close()
        self._files = {}

    def append(self, state: LineState, line: bytes) -> tuple[int, int]:
        """Write a line to the file of this state; its offset and length."""
        return self._files.get(state, self._files[LineState.SUCCEEDED]).append(line)

    def commit(self) -> None:
        """Have everything on the disk, and note the lengths; inside of a transaction."""
        for state, file in self._files.items():
            file.sync()
            self._journal.note(**{f"{_KEYS[state]}_length": file.length})

    def rewrite(self, change: Callable[[], None] = lambda: None) -> None:
        """Write both files anew, in the order of the input, with the lines alone that the journal has in them.

        `change` changes the journal first, in the same transaction. The new files stand beside the old ones until it is
        on the disk; a killed run finishes what was begun, or has not begun it.
        """
        with self._journal.transaction():
            change()
            for state in self._files:
                self._write_new(state)
        self.__exit__()
        self._open()

    def _write_new(self, state: LineState) -> None:
        path, key = self._paths[state], _KEYS[state]
        states = (state,) if len(self._files) > 1 else tuple(_KEYS)
        with path.open("rb") as old, _new(path).open("wb") as new:
            for _, custom_id, offset, length in self._journal.places(*states):
                old.seek(offset)
                new.write(self._found(path, custom_id, old.read(length)))
            length = new.tell()
            _to_disk(new)
        self._journal.move(self._new_places(states))
        self._journal.note(**{f"{key}_length": length, f"{key}_replace": 1})

    def _found(self, path: Path, custom_id: str | None, line: bytes) -> bytes:
        if line.find(b"\n") != len(line) - 1 or (custom_id is not None and strictjson.dumps(custom_id) not in line):
            raise CannotRun(f"{path} was changed since: the journal finds its lines no more. {self._what_to_do()}")
        return line

    def _new_places(self, states: tuple[LineState, ...]) -> Iterator[tuple[int, int]]:
        at = 0
        for line, _, _, length in self._journal.places(*states):
            yield at, line
            at += length

    def _finish_replacing(self, state: LineState) -> None:
        key = f"{_KEYS[state]}_replace"
        if self._journal.number(key):
            if _new(self._paths[state]).exists():
                _new(self._paths[state]).replace(self._paths[state])
            with self._journal.transaction():
                self._journal.note(**{key: None})


def _new(path: Path) -> Path:
    return path.with_name(path.name + ".new")


def _to_disk(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())

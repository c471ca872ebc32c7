"""The journal: what became of every line, in SQLite beside the output. Survives SIGKILL and a reboot.

A line is `pending`, then `sending` before its message is published, then `sent` with its message id, and in the
end `succeeded` or `failed`. What a killed run leaves as `sending` may or may not have been published: only its
answer tells.
"""

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, Self

from handler.batch.errors import CannotRun

_PAGE = 1_000
_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS lines (
    line INTEGER PRIMARY KEY, custom_id TEXT UNIQUE, state INTEGER NOT NULL,
    sends INTEGER NOT NULL DEFAULT 0, message_id TEXT, sent_at REAL, answered_at REAL,
    status_code INTEGER, code TEXT, model TEXT, tokens_in INTEGER, tokens_out INTEGER, offset INTEGER, length INTEGER
);
CREATE INDEX IF NOT EXISTS pending ON lines (line) WHERE state = 0;
CREATE INDEX IF NOT EXISTS sending ON lines (line) WHERE state = 1;
CREATE TABLE IF NOT EXISTS settled (message_id TEXT PRIMARY KEY) WITHOUT ROWID;
"""


class LineState(IntEnum):
    """Where a line stands."""

    PENDING = 0
    SENDING = 1
    SENT = 2
    SUCCEEDED = 3
    FAILED = 4


@dataclass(frozen=True, slots=True)
class LineCounts:
    """How many lines stand where. `waiting` for an answer are those that were sent, or may have been."""

    pending: int = 0
    sending: int = 0
    sent: int = 0
    succeeded: int = 0
    failed: int = 0

    @property
    def total(self) -> int:
        """All lines."""
        return self.pending + self.waiting + self.done

    @property
    def waiting(self) -> int:
        """Lines that an answer may come for."""
        return self.sending + self.sent

    @property
    def done(self) -> int:
        """Lines that are in one of the two files."""
        return self.succeeded + self.failed


@dataclass(frozen=True, slots=True)
class KnownLine:
    """A custom id's line, as an answer finds it."""

    line: int
    state: LineState


@dataclass(frozen=True, slots=True)
class LineOutcome:
    """How a line ended, and where it stands in its file."""

    line: int
    state: LineState
    offset: int
    length: int
    message_id: str | None = None
    status_code: int | None = None
    code: str | None = None
    model: str | None = None
    tokens_in: int = 0
    tokens_out: int = 0


class Journal:
    """One batch's journal. All methods may be called from any thread; writes happen in `transaction()`."""

    def __init__(self, path: Path, *, create: bool = False) -> None:
        if not create and not path.exists():
            raise CannotRun(f"{path} does not exist: no batch was begun with this output file here")
        self.path = path
        self._lock = threading.RLock()
        self._db = _connect(path)
        self._counts: list[int] | None = None  # until somebody asks: to count reads the whole table
        self._tokens = 0
        self.on_rollback: Callable[[], None] = lambda: None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._db.close()

    def remove(self) -> None:
        """Close it, so that SQLite's own files beside it go, and delete it."""
        self.__exit__()
        self.path.unlink(missing_ok=True)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, and on the disk when it is over. Raises CannotRun where the disk does not take it."""
        with self._lock, _written(self.path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # after some errors, as when the disk is full, it is no more
                    self._db.execute("ROLLBACK")
                self._counts = None
                self.on_rollback()
                raise

    def _all(self, query: str, *values: Any) -> list[Any]:
        with self._lock:
            return self._db.execute(query, values).fetchall()

    # --- facts about the whole

    def fact(self, key: str) -> str | None:
        """A fact, if it is known."""
        rows = self._all("SELECT value FROM facts WHERE key = ?", key)
        return rows[0][0] if rows else None

    def number(self, key: str) -> int:
        """A fact that is a count; 0 where it is not known."""
        return int(self.fact(key) or 0)

    def note(self, **facts: object) -> None:
        """Write facts; None forgets one."""
        for key, value in facts.items():
            if value is None:
                self._db.execute("DELETE FROM facts WHERE key = ?", (key,))
            else:
                self._db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (key, str(value)))

    def add(self, key: str, count: int) -> None:
        """Add to a fact that is a count."""
        if count:
            self.note(**{key: self.number(key) + count})

    def counts(self) -> LineCounts:
        """How many lines stand where, as far as this process knows."""
        with self._lock:
            return LineCounts(*self._counted())

    @property
    def tokens(self) -> int:
        """Tokens of all answers, in and out, as far as this process knows."""
        with self._lock:
            self._counted()
            return self._tokens

    def _counted(self) -> list[int]:
        if self._counts is None:
            found = dict(self._all("SELECT state, count(*) FROM lines GROUP BY state"))
            self._counts = [found.get(state, 0) for state in LineState]
            self._tokens = int(self._all("SELECT coalesce(sum(tokens_in + tokens_out), 0) FROM lines")[0][0])
        return self._counts

    def _moved(self, number: int, before: LineState | None, after: LineState) -> None:
        if self._counts is None:
            return
        if before is not None:
            self._counts[before] -= number
        self._counts[after] += number

    # --- lines on their way out

    def enter(self, line: int, custom_id: str) -> bool:
        """Take in a line that is to be sent; False where another has its id."""
        cursor = self._db.execute(
            "INSERT OR IGNORE INTO lines (line, custom_id, state) VALUES (?, ?, ?)",
            (line, custom_id, LineState.PENDING),
        )
        self._moved(cursor.rowcount, None, LineState.PENDING)
        return cursor.rowcount == 1

    def pending(self) -> Iterator[tuple[int, str]]:
        """The lines to be sent, in order, and their ids. What becomes pending meanwhile, behind, is not seen."""
        last = 0
        query = "SELECT line, custom_id FROM lines WHERE state = 0 AND line > ? ORDER BY line LIMIT ?"
        while page := self._all(query, last, _PAGE):
            yield from page
            last = page[-1][0]

    def begin_sending(self, lines: Sequence[int]) -> list[int]:
        """Note that these are about to be published; those that no longer are to be are left out."""
        now, begun = time.time(), []
        for line in lines:
            cursor = self._db.execute(
                "UPDATE lines SET state = 1, sends = sends + 1, sent_at = ? WHERE line = ? AND state = 0", (now, line)
            )
            if cursor.rowcount:
                begun.append(line)
        self._moved(len(begun), LineState.PENDING, LineState.SENDING)
        return begun

    def confirm_sent(self, lines: Sequence[int], message_ids: Sequence[str]) -> None:
        """Note the message ids. What has been answered already stays so."""
        moved = self._db.executemany(
            "UPDATE lines SET state = 2, message_id = ? WHERE line = ? AND state = 1",
            zip(message_ids, lines, strict=True),
        )
        self._moved(moved.rowcount, LineState.SENDING, LineState.SENT)

    def not_sent(self, lines: Sequence[int]) -> None:
        """Note that these were surely not published, and are to be sent."""
        moved = self._db.executemany(
            "UPDATE lines SET state = 0, sends = sends - 1, sent_at = NULL WHERE line = ? AND state = 1",
            [(line,) for line in lines],
        )
        self._moved(moved.rowcount, LineState.SENDING, LineState.PENDING)

    def send_again(self) -> int:
        """Make the lines `pending` whose publish has an unknown outcome; how many."""
        moved = self._db.execute("UPDATE lines SET state = 0 WHERE state = 1").rowcount
        self._moved(moved, LineState.SENDING, LineState.PENDING)
        return moved

    def latest_unsure(self) -> float:
        """When the last of the lines was sent whose publish has an unknown outcome, by the clock of the day."""
        return float(self._all("SELECT coalesce(max(sent_at), 0) FROM lines WHERE state = 1")[0][0])

    # --- lines on their way in

    def find(self, custom_id: str) -> KnownLine | None:
        """The line with this id."""
        rows = self._all("SELECT line, state FROM lines WHERE custom_id = ?", custom_id)
        return KnownLine(rows[0][0], LineState(rows[0][1])) if rows else None

    def is_settled(self, message_id: str) -> bool:
        """Whether this message had failed, with an answer or without one, before its line was to be sent again."""
        return bool(self._all("SELECT 1 FROM settled WHERE message_id = ?", message_id))

    def end(self, outcome: LineOutcome, before: LineState) -> None:
        """Note how a line ended that stood at `before`."""
        self._db.execute(
            "UPDATE lines SET state = ?, offset = ?, length = ?, message_id = coalesce(?, message_id), status_code = ?,"
            " code = ?, model = ?, tokens_in = ?, tokens_out = ?, answered_at = ? WHERE line = ?",
            (
                *(outcome.state, outcome.offset, outcome.length, outcome.message_id, outcome.status_code),
                *(outcome.code, outcome.model, outcome.tokens_in, outcome.tokens_out, time.time(), outcome.line),
            ),
        )
        self._moved(1, before, outcome.state)
        self._tokens += outcome.tokens_in + outcome.tokens_out

    def enter_bad(self, outcome: LineOutcome) -> None:
        """Take in a line that cannot be sent. It has no id here, or it would bar the line that has a right to it."""
        self._db.execute(
            "INSERT INTO lines (line, state, code, offset, length) VALUES (?, ?, ?, ?, ?)",
            (outcome.line, outcome.state, outcome.code, outcome.offset, outcome.length),
        )
        self._moved(1, None, outcome.state)

    def unfinished(self) -> list[tuple[int, str, LineState]]:
        """Some of the lines that are in neither file: line, id and state."""
        rows = self._all("SELECT line, custom_id, state FROM lines WHERE state < 3 ORDER BY line LIMIT ?", _PAGE)
        return [(line, custom_id, LineState(state)) for line, custom_id, state in rows]

    def rewind_failed(self, codes: Sequence[str]) -> int:
        """Make failed lines pending again: all that were ever sendable, or those with one of these codes; how many."""
        wanted = (not codes, json.dumps(codes))
        self._db.execute(
            "INSERT OR IGNORE INTO settled SELECT message_id FROM lines WHERE state = 4 AND message_id NOT NULL"
            " AND (? OR code IN (SELECT value FROM json_each(?)))",
            wanted,
        )
        moved = self._db.execute(
            "UPDATE lines SET state = 0, message_id = NULL, code = NULL, status_code = NULL"
            " WHERE state = 4 AND custom_id NOT NULL AND (? OR code IN (SELECT value FROM json_each(?)))",
            wanted,
        ).rowcount
        self._moved(moved, LineState.FAILED, LineState.PENDING)
        return moved

    # --- the two files

    def places(self, *states: LineState) -> Iterator[tuple[int, str | None, int, int]]:
        """Line, id (of one that could be sent), offset and length of each that ended so, in the input's order."""
        last = 0
        low, high = min(states), max(states)
        query = (
            "SELECT line, custom_id, offset, length FROM lines WHERE state BETWEEN ? AND ? AND line > ?"
            " ORDER BY line LIMIT ?"
        )
        while page := self._all(query, low, high, last, _PAGE):
            yield from page
            last = page[-1][0]

    def move(self, places: Iterable[tuple[int, int]]) -> None:
        """Note where lines stand after their file was written anew: offset and line."""
        self._db.executemany("UPDATE lines SET offset = ? WHERE line = ?", places)

    def ask(self, query: str, *values: Any) -> list[Any]:
        """Rows for a summary."""
        return self._all(query, *values)


@contextmanager
def _written(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        held = error.sqlite_errorname.startswith("SQLITE_BUSY")
        advice = "another process holds it: let it finish, or end it" if held else "make room on its disk"
        raise CannotRun(
            f"the journal {path} cannot be written: {error}; {advice}, and run it again to go on: what was sent and "
            "answered until now is noted"
        ) from None


def _connect(path: Path) -> sqlite3.Connection:
    try:
        db = sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")  # a commit is on the disk, or a reboot could lose what was acked
        db.executescript(_SCHEMA)
    except sqlite3.Error as error:
        raise CannotRun(
            f"the journal {path} cannot be used: {error}. It needs a local disk with room: --journal puts it elsewhere."
        ) from None
    return db

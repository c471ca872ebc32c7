"""Reads a whole request file before anything is sent: what is in it, and everything that is wrong with it."""

import sqlite3
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from dataclasses import replace as replaced
from typing import IO, Any

from handler.batch.errors import CannotRun
from handler.batch.lines import files, formats
from handler.batch.lines.formats import BadLine, Form, RequestLine

_TELLING = 1_000  # lines, at most, until one must have told the file's form


@dataclass(frozen=True, slots=True)
class Problem:
    """A line that cannot be sent. `custom_id` is its own, where it could be read."""

    line: int
    code: str
    message: str
    param: str | None = None
    custom_id: str | None = None

    def __str__(self) -> str:
        return f"line {self.line}: {self.message}"


@dataclass(slots=True)
class Contents:
    """What a request file comes to. Tokens are a rough guess; `unlimited` are requests without a limit of their own."""

    form: Form | None = None
    good: int = 0
    bad: int = 0
    bytes: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    unlimited: int = 0
    models: Counter[str] = field(default_factory=Counter)
    paths: Counter[str] = field(default_factory=Counter)

    def count(self, request: RequestLine, size: int) -> None:
        """Add a request, whose line has so many bytes."""
        tokens_out = formats.longest_answer(request)
        self.good += 1
        self.bytes += size
        self.tokens_in += formats.estimated_tokens(size)
        self.tokens_out += tokens_out
        self.unlimited += not tokens_out
        self.models[str(request.body.get("model"))] += 1
        self.paths[request.path] += 1


class Ids:
    """The custom ids that were seen, on disk rather than in memory once there are many."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.execute("CREATE TABLE ids (id TEXT PRIMARY KEY) WITHOUT ROWID")
        self._db.execute("BEGIN")

    def enter(self, _line: int, custom_id: str) -> bool:
        """Take in an id; False where it was there."""
        return self._db.execute("INSERT OR IGNORE INTO ids VALUES (?)", (custom_id,)).rowcount == 1

    def close(self) -> None:
        """Forget all."""
        self._db.close()


@dataclass(frozen=True, slots=True)
class LineRules:
    """How lines are read: the paths that are allowed, the batch's deadline, and the model that replaces theirs."""

    allowed_paths: Collection[str] = formats.DEFAULT_PATHS
    deadline: str | None = None
    model: str | None = None

    def read(self, line: int, text: bytes | None, form: Form) -> RequestLine:
        """Read a line. Raises BadLine."""
        if text is None:
            raise BadLine("request_too_large", f"The line is longer than {files.MAX_LINE_BYTES >> 20} MiB.")
        request = formats.read(line, text, form, self.allowed_paths)
        return self._with_model(request, self.model) if self.model else request

    def _with_model(self, request: RequestLine, model: str) -> RequestLine:
        if request.body_ref is not None:
            message = "The model cannot be replaced in a body that is in Cloud Storage: leave --model out."
            raise BadLine("invalid_request", message, param="body_ref", custom_id=request.custom_id)
        return replaced(request, body={**request.body, "model": model})


def hopeless(name: str, contents: Contents) -> str | None:
    """Why nothing of a file can be sent, and what a line looks like; None where something can."""
    if contents.good:
        return None
    what = f"none of its {contents.bad:,} lines can be sent" if contents.bad else "it has no requests"
    return f"{name}: {what}. Nothing was sent. A request is a line of JSON: `inference-relay batch --help` shows one."


def form_of(stream: IO[bytes]) -> Form:
    """The form of a file, told by its first line that tells."""
    for number, text in files.lines(stream):
        if text is not None and (form := formats.told_by(text)):
            return form
        if number >= _TELLING:
            break
    return Form.OPENAI


def examine(
    name: str, rules: LineRules, enter: Callable[[int, str], bool], wrong: Callable[[Problem], None], tick: Any = None
) -> Contents:
    """Read a request file to its end.

    `enter` takes a line and its id, and says whether the id is new; `wrong` gets each problem, `tick` each number.
    """
    with files.opened(name) as stream:
        contents = Contents(form=form_of(stream))
    with files.opened(name) as stream:
        for line, text in files.lines(stream):
            try:
                _take(rules, line, text, contents, enter)
            except BadLine as bad:
                contents.bad += 1
                wrong(Problem(line, bad.code, bad.message, bad.param, bad.custom_id))
            if tick:
                tick(line)
    return contents


def _take(
    rules: LineRules, line: int, text: bytes | None, contents: Contents, enter: Callable[[int, str], bool]
) -> None:
    request = rules.read(line, text, contents.form or Form.OPENAI)
    if text is None or not formats.fits_surely(text):
        formats.encode(request, "x" * formats.LONGEST_BATCH_ID, rules.deadline)
    if not enter(line, request.custom_id):
        message = f"`custom_id` {request.custom_id!r} was given to an earlier line already."
        raise BadLine("duplicate_custom_id", message, param="custom_id", custom_id=request.custom_id)
    contents.count(request, len(text or b""))


def again(name: str, wanted: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str, bytes | None]]:
    """The wanted lines of a file that was examined before, by number and id; None for one that is too long.

    Raises CannotRun where the file has none of that number any more.
    """
    want = next(wanted, None)
    if want is None:
        return
    with files.opened(name) as stream:
        for line, text in files.lines(stream):
            if line == want[0]:
                yield *want, text
                want = next(wanted, None)
                if want is None:
                    return
    raise CannotRun(changed(name, want[0]))


def changed(name: str, line: int) -> str:
    """That a file is not what it was when it was examined, and what to do."""
    return (
        f"{name} has changed since it was checked: line {line} is not the request that it was. Bring the file back as "
        "it was, and run it again: what was sent is noted"
    )

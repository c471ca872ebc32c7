"""What can be chosen for a batch, and where its files are."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from handler.batch.errors import CannotRun
from handler.batch.lines import files, objects
from handler.batch.lines.answers import Style

UNSURE_SECONDS = 600.0
DRAIN_SECONDS = 30.0
WORKING_SECONDS = 600.0  # the longest that the relay may take for a request that the model has: Pub/Sub's, for a push
EXPIRY_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Everything that can be chosen for a batch. None leaves it open, or to what the batch was begun with.

    `topic`, `responses` and `subscription` are full or short names, the short ones in `project`. `subscription` is a
    given one to read answers from, instead of one of the batch's own on `responses`.
    """

    topic: str | None = None
    responses: str | None = None
    subscription: str | None = None
    project: str | None = None
    batch_id: str | None = None
    errors: str | None = None
    journal: str | None = None
    style: Style = Style.OPENAI
    in_order: bool = False
    fetch_bodies: bool = False  # what the relay has put into Cloud Storage goes into the output
    strict: bool = False  # send nothing if one line is bad
    allowed_paths: Sequence[str] | None = None  # of a new batch: the service's default
    model: str | None = None  # replaces the model in every request
    priority: str | None = None
    deadline: str | None = None  # RFC 3339; becomes the form that the contract takes
    rate: float | None = None  # requests a second
    max_in_flight: int | None = None  # sent, and not answered yet; `submit` ends with so many
    max_tokens_total: int | None = None
    unsure_seconds: float = UNSURE_SECONDS  # how long an answer of a request is waited for that may not have been sent
    give_up_seconds: float | None = None  # without any answer; what is left then becomes `request_timeout`

    def __post_init__(self) -> None:
        """Raises CannotRun where the deadline is no time, or has no offset."""
        if self.deadline is not None:
            object.__setattr__(self, "deadline", in_utc(self.deadline))


def in_utc(text: str) -> str:
    """A time of ISO 8601 with an offset, in the form that the contract takes. Raises CannotRun."""
    try:
        time = datetime.fromisoformat(text.upper())
        if time.tzinfo is not None:
            return time.astimezone(UTC).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError):
        pass
    raise CannotRun(f"{text!r} is no time with an offset: write 2030-01-31T12:00:00Z")


@dataclass(frozen=True, slots=True)
class Paths:
    """Where a batch's files are. `deliver` is the name that the finished output goes to, where it is not `output`."""

    journal: Path
    output: Path
    errors: Path
    deliver: str | None

    @classmethod
    def of(cls, answers: str, options: Options) -> "Paths":
        """The files that belong to the name of an output file."""
        output, deliver = _working(answers, options.journal)
        errors = Path(options.errors) if options.errors else _beside(output)
        journal = Path(options.journal) if options.journal else output.with_name(output.name + ".journal")
        return cls(journal, output, output if options.style is Style.VLLM else errors, deliver)

    @property
    def outputs(self) -> tuple[Path, ...]:
        """The files that lines are written to: one where errors stand in the output."""
        return tuple(dict.fromkeys((self.output, self.errors)))

    @property
    def spool(self) -> Path:
        """The copy of standard input."""
        return self.journal.with_name(self.journal.name + ".requests")


def listed(names: Iterable[object]) -> str:
    """Names in a sentence: a, b and c."""
    *first, last = map(str, names)
    return " and ".join(filter(None, (", ".join(first), last)))


def _working(answers: str, journal: str | None) -> tuple[Path, str | None]:
    """The plain local file that answers are appended to, and where it goes in the end if that is elsewhere."""
    if files.is_standard(answers):
        return Path(f"{journal}.answers" if journal else "batch-answers.jsonl"), answers
    name = answers.rsplit("/", 1)[-1] if objects.is_object(answers) else answers
    for packed in (".gz", ".zst"):
        if name.endswith(packed):
            return Path(name.removesuffix(packed)), answers
    return Path(name), answers if objects.is_object(answers) else None


def _beside(output: Path) -> Path:
    return output.with_name(f"{output.stem}.errors{output.suffix or '.jsonl'}")

"""The options of the commands, and the values that they take."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from handler.batch.errors import CannotRun
from handler.batch.lines.answers import Style
from handler.batch.options import UNSURE_SECONDS, Options, in_utc
from handler.batch.work.summary import Price

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LONGEST = 366 * 86400.0


class Deadline(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on
    """An RFC 3339 time, or a time from now: 90m, 8h, 2d."""

    name = "time"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The time in RFC 3339."""
        time = _time(value)
        if time is None:
            self.fail(f"{value!r} is no time: write 8h, 90m, 2d or 2030-01-31T12:00:00Z", param, ctx)
        return time


def _time(value: str) -> str | None:
    try:
        if value[-1:] in _UNITS:
            then = datetime.now(UTC) + timedelta(seconds=float(value[:-1]) * _UNITS[value[-1]])
            return in_utc(then.isoformat(timespec="seconds"))
        return in_utc(value)
    except (ValueError, OverflowError, CannotRun):
        return None


class Seconds(click.ParamType):  # type: ignore[type-arg]
    """How long: 45s, 10m, 8h, 2d, or seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The seconds."""
        try:
            seconds = float(value[:-1]) * _UNITS[value[-1]] if str(value)[-1:] in _UNITS else float(value)
        except (ValueError, TypeError):
            seconds = 0.0
        if not 0 < seconds < _LONGEST:
            self.fail(f"{value!r} is no duration: write 45s, 10m, 8h or 2d", param, ctx)
        return seconds


class Priced(click.ParamType):  # type: ignore[type-arg]
    """in=0.15,out=0.60."""

    name = "in=..,out=.."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Price:
        """The price."""
        try:
            given = dict(part.split("=") for part in value.split(","))
            return Price(float(given.pop("in", 0)), float(given.pop("out", 0)), **given)
        except (ValueError, TypeError):
            self.fail(f"{value!r} is no price: write in=0.15,out=0.60, money for a million tokens", param, ctx)


def _grouped(*options: Any) -> Callable[[Any], Any]:
    def decorate(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


output = click.option(
    "-o",
    "--output",
    "answers",
    required=True,
    metavar="ANSWERS",
    help="The output file: lines that succeeded, as they come. Its journal, ANSWERS.journal, stands beside it.",
)
files = _grouped(
    click.option("--errors", metavar="FILE", help="The error file.  [default: ANSWERS with .errors before its ending]"),
    click.option("--journal", metavar="FILE", help="Where the journal is.  [default: ANSWERS.journal]"),
)
topic = click.option(
    "--topic",
    envvar="REQUEST_TOPIC",
    help="Where requests go.  [default: inference-relay-requests; with PUBSUB_EMULATOR_HOST requests]",
)
_names = (
    click.option("--project", envvar="GOOGLE_CLOUD_PROJECT", help="Google Cloud project of names without one."),
    topic,
    click.option(
        "--responses",
        envvar="RESPONSE_TOPIC",
        help="Where answers come from.  [default: inference-relay-responses; with PUBSUB_EMULATOR_HOST responses]",
    ),
)
places = _grouped(
    *_names,
    click.option(
        "--subscription",
        help="Read answers from this one, instead of one that is made for the batch and deleted at its end.",
    ),
    click.option("--batch-id", help="A name for the batch.  [default: a random one]"),
)
where = _grouped(
    *_names,
    click.option("--subscription", help="Read the response from this one, instead of one that is made and deleted."),
)
timeout = click.option(
    "--timeout", type=Seconds(), default="60s", show_default=True, help="How long to wait for the relay's response."
)
deadline = click.option("--deadline", type=Deadline(), help="When to give up: 8h, 90m, or 2030-01-31T12:00:00Z.")
allowed_paths = click.option(
    "--allowed-paths",
    metavar="PATHS",
    help="What the service's ALLOWED_PATHS is.  [default: the service's own default]",
)
content = _grouped(
    click.option("--model", help="Put this model's name into every request."),
    deadline,
    click.option("--priority", help="Becomes the attribute `priority` of every message."),
    allowed_paths,
    click.option("--strict", is_flag=True, help="Send nothing if one line cannot be sent."),
    click.option(
        "--format",
        "style",
        type=click.Choice([style.value for style in Style]),
        default="openai",
        show_default=True,
        help="Of the output.",
    ),
)
price = click.option("--price", type=Priced(), help="Money for a million tokens, to have the cost: in=0.15,out=0.60.")
reporting = _grouped(
    click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON, on standard output."),
    click.option("--quiet", is_flag=True, help="No progress."),
    click.option(
        "--notify", metavar="TOPIC|COMMAND", help="When it is over: a message to projects/P/topics/T, or run this."
    ),
)
rate = click.option(
    "--rate", type=click.FloatRange(min=0, min_open=True), help="Send so many requests a second at most."
)
tokens = click.option(
    "--max-tokens-total",
    type=click.IntRange(min=1),
    help="Send no more once the answers have, or will have, so many tokens.",
)
ending = _grouped(
    click.option(
        "--fetch-bodies",
        is_flag=True,
        help="Answers over 10 MB, which are in Cloud Storage: write them out, instead of where they are.",
    ),
    click.option("--in-order", is_flag=True, help="In the end, put both files in the order of the input."),
    click.option(
        "--unsure-after",
        "unsure_seconds",
        type=Seconds(),
        default=f"{UNSURE_SECONDS / 60:g}m",
        show_default=True,
        help="After a kill: how long to wait for answers of what may have been sent, before it is sent again.",
    ),
    click.option(
        "--give-up-after",
        "give_up_seconds",
        type=Seconds(),
        help="When no answer has come for so long, the rest fails with request_timeout.  [default: wait]",
    ),
)


@dataclass(frozen=True, slots=True)
class Reporting:
    """How a command that takes long says what comes of it."""

    as_json: bool
    quiet: bool
    notify: str | None


def reporting_of(given: dict[str, Any]) -> Reporting:
    """Take what `reporting` has given out of the options."""
    return Reporting(**{name: given.pop(name) for name in ("as_json", "quiet", "notify")})


def options_of(given: dict[str, Any]) -> Options:
    """The options that were given on the command line."""
    if given.get("allowed_paths") is not None:
        given["allowed_paths"] = tuple(path.strip() for path in given["allowed_paths"].split(","))
    if "style" in given:
        given["style"] = Style(given["style"])
    return Options(**given)

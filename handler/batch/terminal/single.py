"""The commands beside `batch`: `ask` and `replay`."""

import sys
from datetime import UTC, datetime
from typing import Any

import click
from rich.console import Console

from handler.batch import asking, replaying
from handler.batch.asking import NoAnswer, Where, text_of
from handler.batch.lines.answers import ParsedResponse
from handler.batch.names import emulated
from handler.batch.replaying import Found, Which
from handler.batch.terminal import choices
from handler.batch.terminal.choices import Seconds
from handler.batch.terminal.cli import handled
from handler.rules import strictjson

_LOCAL_MODEL = "smollm2"
_INTERRUPTED = "if the request was sent, it is answered all the same, and paid for"


@click.command()
@click.argument("prompt")
@click.option("--model", envvar="MODEL", help="The model's name.  [default: smollm2 with a local Pub/Sub]")
@click.option("--system", help="A system message.")
@click.option("--max-tokens", type=click.IntRange(min=1), default=256, show_default=True, help="The longest answer.")
@choices.where
@click.option("--timeout", type=Seconds(), default="10m", show_default=True, help="How long to wait for the answer.")
@click.option("--json", "as_json", is_flag=True, help="Print the model's whole answer as JSON.")
def ask(
    prompt: str,
    model: str | None,
    system: str | None,
    max_tokens: int,
    timeout: float,
    as_json: bool,
    **places: str | None,
) -> None:
    """Ask the model one thing through Pub/Sub and the relay, and print its answer.

    \b
    inference-relay ask "Name three colours." --model llama3.2
    cat letter.txt | inference-relay ask - --model llama3.2 --system "Summarise this in a sentence."

    With `make up` in another shell: export PUBSUB_EMULATOR_HOST=127.0.0.1:8085, and ask.

    Exit status: 0 answered, 1 an error or no answer, 2 it could not run.
    """  # noqa: D301
    body = {"model": _model(model), "messages": _messages(prompt, system), "max_tokens": max_tokens}
    with handled(_INTERRUPTED), Console(stderr=True).status("waiting for the answer"):
        answer = _answer(body, Where(**places), timeout)
    text = answer.body.decode() if as_json else text_of(answer.body) or answer.body.decode()
    click.echo(text, err=bool(answer.code) and not as_json)
    sys.exit(1 if answer.code else 0)


def _model(given: str | None) -> str:
    if given or emulated():
        return given or _LOCAL_MODEL
    raise click.UsageError("which model? Give --model, or set MODEL")


def _messages(prompt: str, system: str | None) -> list[dict[str, str]]:
    """A chat; a prompt of `-` is standard input."""
    messages = [{"role": "system", "content": system}] if system else []
    return [*messages, {"role": "user", "content": sys.stdin.read() if prompt == "-" else prompt}]


def _answer(body: dict[str, Any], where: Where, seconds: float) -> ParsedResponse:
    try:
        return asking.ask("/v1/chat/completions", body, where, seconds=seconds)
    except NoAnswer as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)


def _pairs(_ctx: click.Context, _param: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    """The attributes of `--where KEY=VALUE`."""
    pairs = [one.partition("=") for one in given]
    if not all(separator for _, separator, _ in pairs):
        raise click.UsageError("--where is KEY=VALUE")
    return {key: value for key, _, value in pairs}


@click.command()
@click.argument("subscription")
@click.option("--project", envvar="GOOGLE_CLOUD_PROJECT", help="Google Cloud project of names without one.")
@choices.topic
@click.option("--older-than", type=Seconds(), help="Only requests published longer ago: 2h, 3d.")
@click.option("--younger-than", type=Seconds(), help="Only requests published since: 2h, 3d.")
@click.option("--reason", help="Only those whose last error, as Pub/Sub noted it, has this text.")
@click.option(
    *("--where", "attributes"),
    multiple=True,
    callback=_pairs,
    metavar="KEY=VALUE",
    help="Only those with this attribute.",
)
@click.option("--count", type=click.IntRange(min=1), help="No more than so many.")
@click.option(
    "--wait", type=Seconds(), default="10s", show_default=True, help="It is over when no new one has come for so long."
)
@click.option("--go", is_flag=True, help="Do it. Without this, only look.")
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
def replay(
    subscription: str,
    project: str | None,
    topic: str | None,
    wait: float,
    go: bool,
    as_json: bool,
    **meant: Any,
) -> None:
    """Publish dead letters to the requests topic again: those in SUBSCRIPTION, the dead-letter topic's.

    First it only looks, and says what it would do; with --go each is published, confirmed, and only then acked. Mend
    what killed them first, or they will be back.

    \b
    inference-relay replay inference-relay-dead-letters
    inference-relay replay inference-relay-dead-letters --younger-than 1d --count 10 --go
    inference-relay replay inference-relay-dead-letters --where batch_id=batch-7f3a --go

    Exit status: 0 done, 2 it could not run.
    """  # noqa: D301
    with handled(), Console(stderr=True).status("looking"):
        found = replaying.replay(subscription, topic, Which(**meant), project=project, go=go, quiet_seconds=wait)
    _tell(found, go=go, as_json=as_json)


def _tell(found: Found, *, go: bool, as_json: bool) -> None:
    if as_json:
        names = ("looked_at", "meant", "replayed", "oldest", "newest", "reasons")
        click.echo(strictjson.pretty({name: getattr(found, name) for name in names}))
        return
    click.echo(f"{found.looked_at:,} dead letters, of which {found.meant:,} are meant")
    if found.oldest and found.newest:
        click.echo(f"requests published from {_time(found.oldest)} to {_time(found.newest)}")
    for reason, number in found.reasons.most_common(10):
        click.echo(f"{number:>8,}  {reason}")
    click.echo(f"{found.replayed:,} replayed" if go else "nothing was changed: give --go to replay them")


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")

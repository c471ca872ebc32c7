"""The commands beside `batch`: `ask` and `replay`."""

import sys
from datetime import UTC, datetime

import click
from rich.console import Console

from handler.batch import asking, replaying
from handler.batch.asking import NoAnswer, Where, text_of
from handler.batch.pubsub import emulated
from handler.batch.replaying import Found, Which
from handler.batch.terminal.choices import Seconds
from handler.batch.terminal.cli import handled
from handler.rules import strictjson

_LOCAL_MODEL = "smollm2"


@click.command()
@click.argument("prompt")
@click.option("--model", envvar="MODEL", help="The model's name.  [default: smollm2 with a local Pub/Sub]")
@click.option("--system", help="A system message.")
@click.option("--max-tokens", type=click.IntRange(min=1), default=256, show_default=True, help="The longest answer.")
@click.option("--project", envvar="GOOGLE_CLOUD_PROJECT", help="Google Cloud project of names without one.")
@click.option("--topic", envvar="REQUEST_TOPIC", help="Where the request goes.  [default: inference-relay-requests]")
@click.option(
    "--responses", envvar="RESPONSE_TOPIC", help="Where answers come from.  [default: inference-relay-responses]"
)
@click.option("--subscription", help="Read the answer from this one, instead of one that is made and deleted.")
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
    model = model or (_LOCAL_MODEL if emulated() else None)
    if model is None:
        raise click.UsageError("which model? Give --model, or set MODEL")
    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": sys.stdin.read() if prompt == "-" else prompt})
    body = {"model": model, "messages": messages, "max_tokens": max_tokens}
    with handled(), Console(stderr=True).status("waiting for the answer"):
        try:
            answer = asking.ask("/v1/chat/completions", body, Where(**places), seconds=timeout)
        except NoAnswer as error:
            click.echo(f"Error: {error}", err=True)
            sys.exit(1)
    text = answer.body.decode() if as_json else text_of(answer.body) or answer.body.decode()
    click.echo(text, err=bool(answer.code) and not as_json)
    sys.exit(1 if answer.code else 0)


@click.command()
@click.argument("subscription")
@click.option("--project", envvar="GOOGLE_CLOUD_PROJECT", help="Google Cloud project of names without one.")
@click.option("--topic", envvar="REQUEST_TOPIC", help="Where they go.  [default: inference-relay-requests]")
@click.option("--older-than", type=Seconds(), help="Only requests published longer ago: 2h, 3d.")
@click.option("--younger-than", type=Seconds(), help="Only requests published since: 2h, 3d.")
@click.option("--reason", help="Only those whose last error, as Pub/Sub noted it, has this text.")
@click.option("--where", "wanted", multiple=True, metavar="KEY=VALUE", help="Only those with this attribute.")
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
    wanted: tuple[str, ...],
    go: bool,
    as_json: bool,
    older_than: float | None,
    younger_than: float | None,
    reason: str | None,
    count: int | None,
    wait: float,
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
    pairs = [one.partition("=") for one in wanted]
    if not all(separator for _, separator, _ in pairs):
        raise click.UsageError("--where is KEY=VALUE")
    which = Which(
        older_than=older_than,
        younger_than=younger_than,
        reason=reason,
        attributes={key: value for key, _, value in pairs},
        count=count,
    )
    with handled(), Console(stderr=True).status("looking"):
        found = replaying.replay(subscription, topic, which, project=project, go=go, quiet_seconds=wait)
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

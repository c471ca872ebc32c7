"""The commands of `inference-relay batch`."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import click
from rich.console import Console

from handler.batch import api
from handler.batch.asking import NoAnswer
from handler.batch.controlling import NotDone
from handler.batch.errors import CannotRun
from handler.batch.lines.check import Problem, hopeless
from handler.batch.options import Options
from handler.batch.terminal import choices, report
from handler.batch.terminal.choices import Reporting
from handler.batch.terminal.notify import notify
from handler.batch.terminal.progress import Display, duration
from handler.batch.work.summary import Price, Summary
from handler.rules import strictjson

_MOST_PROBLEMS = 20


@click.group("batch")
def batch() -> None:
    """A file of requests in, a file of answers out, over Pub/Sub.

    \b
    inference-relay batch check requests.jsonl                  what is in it, offline
    inference-relay batch run requests.jsonl -o answers.jsonl   send, collect, go on after a crash
    inference-relay batch status answers.jsonl                  from another shell
    inference-relay batch retry answers.jsonl                   and run again: only what failed

    A request is a line of JSON: OpenAI's {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions",
    "body": {...}}, or the relay's own {"path": ..., "metadata": {"id": "1"}, "body": {...}}. Files may be -, end
    with .gz or .zst, or be gs://BUCKET/NAME.

    Exit status: 0 all answered, 1 some failed or are still to come, 2 it could not run.
    """  # noqa: D301 - click's \b keeps a paragraph's lines


@contextmanager
def handled(interrupted_says: str = "run it again to go on") -> Iterator[None]:
    """What keeps a command from running is a sentence and exit status 2; SIGTERM ends it in order, as Ctrl-C does."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupted)
    try:
        yield
    except (CannotRun, OSError) as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        click.echo(f"interrupted: {interrupted_says}", err=True)
        sys.exit(130)


class Wrong:
    """Prints the lines that cannot be sent: the first ones, and how many there are."""

    def __init__(self, most: int = _MOST_PROBLEMS) -> None:
        self.count, self._most = 0, most

    def __call__(self, problem: Problem) -> None:
        """Take in one."""
        self.count += 1
        if self.count <= self._most:
            click.echo(str(problem), err=True)

    def sum_up(self) -> None:
        """Say how many more there are."""
        if self.count > self._most:
            click.echo(f"... and {self.count - self._most:,} more lines that cannot be sent", err=True)


class Work:
    """What the commands that take long have in common: progress, the problems of the file, the summary."""

    def __init__(self, reporting: Reporting) -> None:
        self._reporting = reporting
        self.wrong = Wrong()
        self.display = Display(Console(stderr=True, quiet=reporting.quiet))

    def do(self, action: Callable[..., Summary], *arguments: Any, **options: Any) -> Summary:
        """Do it, and show how it goes."""
        with self.display.shown():
            try:
                return action(*arguments, wrong=self.wrong, progress=self.display, **options)
            finally:
                self.wrong.sum_up()

    def tell(self, summary: Summary) -> None:
        """Give the summary to machines, and to whoever is to be notified."""
        if self._reporting.as_json:
            click.echo(strictjson.pretty(summary.as_dict()))
        if self._reporting.notify:
            notify(self._reporting.notify, summary)

    def finish(self, summary: Summary) -> None:
        """Tell everybody, and exit."""
        if not self._reporting.as_json:
            report.show(Console(stderr=True), summary)
        self.tell(summary)
        sys.exit(130 if summary.end == "stopped" else summary.exit_status)


@batch.command()
@click.argument("requests")
@choices.output
@choices.files
@choices.places
@choices.content
@choices.rate
@click.option("--max-in-flight", type=click.IntRange(min=1), help="At most so many requests sent and not answered.")
@choices.tokens
@choices.ending
@choices.price
@choices.reporting
@click.option("--dry-run", is_flag=True, help="Send nothing: what would be sent and made, and how long it takes.")
@click.option("--slots", type=click.IntRange(min=1), help="With --dry-run: requests that the model takes at once.")
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), help="With --dry-run: seconds of one answer.")
def run(
    requests: str,
    answers: str,
    price: Price | None,
    dry_run: bool,
    slots: int | None,
    seconds: float | None,
    **given: Any,
) -> None:
    """Send REQUESTS and write each answer to ANSWERS as it comes.

    The same command goes on after Ctrl-C, a crash or a reboot: nothing is lost, and nothing is sent twice but what was
    under way when it was killed, or Pub/Sub went away (2,000 lines at most, each time), if that gets no answer for
    --unsure-after.

    \b
    inference-relay batch run requests.jsonl -o answers.jsonl
    inference-relay batch run requests.jsonl.gz -o answers.jsonl --in-order --price in=0.15,out=0.60
    inference-relay batch run requests.jsonl -o answers.jsonl --max-in-flight 500 --deadline 8h
    inference-relay batch run requests.jsonl -o answers.jsonl --dry-run --slots 64 --seconds 4
    """  # noqa: D301
    work, options = Work(choices.reporting_of(given)), choices.options_of(given)
    with handled():
        if dry_run:
            _dry_run(requests, options, slots, seconds)
        work.finish(work.do(api.run, requests, answers, options, price=price, tick=work.display.reading))


def _dry_run(requests: str, options: Options, slots: int | None, seconds: float | None) -> NoReturn:
    wrong = Wrong()
    contents = api.check(requests, options, wrong=wrong)
    wrong.sum_up()
    if reason := hopeless(requests, contents):
        raise CannotRun(reason)
    console = Console()
    report.show_contents(console, requests, contents)
    made = (
        "nothing"
        if options.subscription
        else "a subscription of the batch's own to the topic of responses, until its end"
    )
    console.print(f"It would make: {made}.", highlight=False)
    if slots and seconds:
        console.print(f"It would take: {duration(contents.good * seconds / slots)}.", highlight=False)
    console.print("Nothing was sent.", highlight=False)
    sys.exit(1 if contents.bad else 0)


@batch.command()
@click.argument("requests")
@choices.output
@choices.files
@choices.places
@choices.content
@choices.rate
@choices.tokens
@choices.reporting
def submit(requests: str, answers: str, **given: Any) -> None:
    """Send REQUESTS and end; `batch collect` takes the answers, later or elsewhere.

    \b
    inference-relay batch submit requests.jsonl -o answers.jsonl
    inference-relay batch collect -o answers.jsonl
    """  # noqa: D301
    work, options = Work(choices.reporting_of(given)), choices.options_of(given)
    with handled():
        summary = work.do(api.submit, requests, answers, options, tick=work.display.reading)
        work.tell(summary)
        rest = f"; {summary.not_sent:,} are not sent" if summary.not_sent else ""
        click.echo(f"sent {summary.waiting + summary.answered:,} requests as {summary.batch_id}{rest}", err=True)
        sys.exit(130 if summary.end == "stopped" else 0 if summary.end == "submitted" else 1)


@batch.command()
@click.argument("requests", required=False)
@choices.output
@choices.files
@choices.places
@choices.content
@choices.ending
@choices.price
@choices.reporting
def collect(requests: str | None, answers: str, price: Price | None, **given: Any) -> None:
    """Write the answers of a submitted batch to ANSWERS as they come.

    On the machine that submitted it, or with its files copied from there once nothing runs: answers.jsonl,
    answers.errors.jsonl, and every answers.jsonl.journal*. Without them, give the request file and the batch's id:

    \b
    inference-relay batch collect -o answers.jsonl
    inference-relay batch collect requests.jsonl -o answers.jsonl --batch-id batch-7f3a...
    """  # noqa: D301
    work, options = Work(choices.reporting_of(given)), choices.options_of(given)
    with handled():
        work.finish(work.do(api.collect, answers, options, requests=requests, price=price))


named = click.argument("answers")


@batch.command()
@named
@choices.files
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@choices.price
def status(answers: str, as_json: bool, price: Price | None, **given: Any) -> None:
    """Show where the batch of ANSWERS stands, by its journal, also while it runs."""
    with handled():
        summary = api.status(answers, choices.options_of(given), price=price)
        if as_json:
            click.echo(strictjson.pretty(summary.as_dict()))
        else:
            report.show(Console(), summary)
        sys.exit(summary.exit_status)


@batch.command()
@named
@choices.files
@click.option("--code", "codes", multiple=True, help="Only lines with this error; as often as you like.")
@choices.deadline
def retry(answers: str, codes: tuple[str, ...], **given: Any) -> None:
    """Take what failed out of the error file of ANSWERS, to be sent again.

    \b
    inference-relay batch retry answers.jsonl --code model_timeout
    inference-relay batch run requests.jsonl -o answers.jsonl

    Lines that cannot be sent as they are stay in the error file. Where the batch's deadline has passed, it needs a new
    --deadline.
    """  # noqa: D301
    with handled():
        number = api.retry(answers, choices.options_of(given), codes=codes)
        if number:
            click.echo(
                f"{number:,} lines will be sent again by the next `inference-relay batch run` with this output file"
            )
        else:
            click.echo(
                "no line to send again. Those that cannot be sent as they are stay: mend them in a file of their own"
            )


@batch.command()
@named
@choices.files
@choices.timeout
def cancel(answers: str, timeout: float, **given: Any) -> None:
    """Have the batch of ANSWERS end early.

    The `run`, `submit` or `collect` that works on it sends nothing more, takes the answers that still come within
    half a minute of each other, and where the model has some within ten minutes, and notes the rest as
    `batch_cancelled`. Where none is running, the next one does.
    The relay is told, too: where its operator allows that (CONTROL_MESSAGES), what it and Pub/Sub have is not called
    for any more, but for what the model has already. Where not, that is still answered, and paid for.

    Exit status: 0 noted, 2 it could not run.
    """
    with handled():
        options = choices.options_of(given)
        counts = api.cancel(answers, options)
        click.echo(
            f"noted: {counts.pending:,} requests are not sent any more; {counts.waiting:,} are sent. `inference-relay "
            "batch collect` ends it, unless a `batch run` is working on it."
        )
        click.echo(_told(answers, options, timeout))


def _told(answers: str, options: Options, seconds: float) -> str:
    """What the relay says to it."""
    try:
        reply = api.cancel_sent(answers, options, seconds=seconds)
    except (NotDone, NoAnswer, CannotRun) as error:
        return f"the relay has not confirmed it, so what is sent may still be answered, and paid for: {error}"
    if reply is None:
        return "Everything that was sent is answered: the relay has nothing to cancel."
    return (
        f"cancelled: the model is not called any more for what was published before {reply.cancelled_before}. So far: "
        f"{report.counted(reply)}"
    )


@batch.command()
@click.argument("requests")
@click.option("--model", help="Put this model's name into every request.")
@choices.allowed_paths
def check(requests: str, **given: Any) -> None:
    """Read REQUESTS, offline, and list every line that cannot be sent.

    Exit status: 0 all can, 1 some cannot, 2 it could not be read.
    """
    with handled():
        wrong = Wrong(sys.maxsize)
        contents = api.check(requests, choices.options_of(given), wrong=wrong)
        if reason := hopeless(requests, contents):
            click.echo(f"Error: {reason}", err=True)
        else:
            report.show_contents(Console(), requests, contents)
        sys.exit(1 if contents.bad else 0 if contents.good else 2)

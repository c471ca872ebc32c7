"""The commands that ask the relay itself: `cancel` and `status`."""

import sys
from collections.abc import Callable

import click
from rich.console import Console

from handler.batch.asking import NoAnswer, Where
from handler.batch.controlling import NotDone, Reply, cancel_requests, requests_status
from handler.batch.terminal import choices, report
from handler.batch.terminal.cli import handled
from handler.rules import strictjson

request_id = click.argument("request_id", required=False)
batch_id = click.option("--batch", "batch_id", help="The batch's id: the attribute `batch_id` of its messages.")
as_json = click.option("--json", "as_json", is_flag=True, help="Print the relay's response as JSON.")


@click.command()
@request_id
@batch_id
@choices.where
@choices.timeout
@as_json
def cancel(request_id: str | None, batch_id: str | None, as_json: bool, timeout: float, **places: str | None) -> None:
    """Have requests cancelled that Pub/Sub or the relay has: a whole batch, or one by REQUEST_ID.

    What waits is answered with the error `cancelled`, without the model; what the model has is finished; what is done
    stays done. It means what was published before: end whoever still publishes first. REQUEST_ID is the message id that
    publishing returned, or the message's attribute `custom_id`.

    \b
    inference-relay cancel --batch batch-7f3a
    inference-relay cancel 9381274619283
    inference-relay cancel r17 --batch batch-7f3a

    For a batch of `inference-relay batch run` there is `inference-relay batch cancel`. The relay's operator has to have
    switched this on (CONTROL_MESSAGES).

    Exit status: 0 cancelled, 1 the relay did not do it or sent no response, 2 it could not run.
    """  # noqa: D301
    reply = _asked(cancel_requests, batch_id, request_id, Where(**places), timeout)
    if not as_json:
        click.echo(f"cancelled: what was published before {reply.cancelled_before}")
    _show(reply, as_json=as_json)


@click.command()
@request_id
@batch_id
@choices.where
@choices.timeout
@as_json
def status(request_id: str | None, batch_id: str | None, as_json: bool, timeout: float, **places: str | None) -> None:
    """Ask the relay where the requests of a batch stand, or one of them by REQUEST_ID.

    It knows those that Pub/Sub has delivered so far. Of a request without a batch it knows only whether it was
    cancelled.

    \b
    inference-relay status --batch batch-7f3a
    inference-relay status r17 --batch batch-7f3a

    `inference-relay batch status` says what the requester's own journal has.

    Exit status: 0 answered, 1 the relay does not say or sent no response, 2 it could not run.
    """  # noqa: D301
    reply = _asked(requests_status, batch_id, request_id, Where(**places), timeout)
    if reply.cancelled_before and not as_json:
        click.echo(f"cancelled: what was published before {reply.cancelled_before}")
    _show(reply, as_json=as_json)


def _asked(
    question: Callable[..., Reply], batch_id: str | None, request_id: str | None, where: Where, seconds: float
) -> Reply:
    if not (batch_id or request_id):
        raise click.UsageError("which requests? Give --batch, a REQUEST_ID, or both")
    with handled(), Console(stderr=True).status("waiting for the relay"):
        try:
            return question(batch_id, request_id, where, seconds=seconds)
        except (NoAnswer, NotDone) as error:
            click.echo(f"Error: {error}", err=True)
    sys.exit(1)


def _show(reply: Reply, *, as_json: bool) -> None:
    if as_json:
        click.echo(strictjson.pretty(reply.body))
    elif reply.counts is None:
        click.echo(report.PLACES.get(reply.state or "", reply.state))
    else:
        click.echo(report.counted(reply))

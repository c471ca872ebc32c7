"""The command that runs a local Pub/Sub until it is stopped."""

import asyncio
import signal

import click

from handler.local.pubsub.rules import Rules
from handler.local.pubsub.server import Broker


@click.command("pubsub")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8085, show_default=True, help="Port to listen on; 0 picks a free one.")
@click.option(
    "--push-backoff/--no-push-backoff",
    default=True,
    show_default=True,
    help="Slow the whole subscription down after nacks (100 ms to 60 s), as the real service always does.",
)
@click.option(
    "--shortest-ack-deadline",
    default=10,
    show_default=True,
    help="Seconds; the real service's least is 10.",
)
def command(host: str, port: int, push_backoff: bool, shortest_ack_deadline: int) -> None:
    """A Pub/Sub on this machine, for the real client libraries, with push.

    Prints a line to evaluate in the shell of the program that uses it, then serves until Ctrl-C or SIGTERM. Topics,
    subscriptions and messages are kept in memory and gone afterwards.

    \b
    In one shell:    inference-relay local pubsub --port 8085
    In another one:  export PUBSUB_EMULATOR_HOST=127.0.0.1:8085
                     python my_program_that_uses_google_cloud_pubsub.py
    """
    rules = Rules(push_backoff=push_backoff, shortest_ack_deadline=shortest_ack_deadline)
    try:
        asyncio.run(_serve(Broker(host, port, rules)))
    except OSError as error:
        raise click.ClickException(f"{error}. Choose another --port, or 0 for a free one.") from None


async def _serve(broker: Broker) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await broker.start()
    click.echo(f"export PUBSUB_EMULATOR_HOST={broker.address}")
    await stopped.wait()
    await broker.stop()

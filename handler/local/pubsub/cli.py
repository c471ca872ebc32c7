"""The command that runs a local Pub/Sub until it is stopped."""

import asyncio
import signal

import click

from handler.local.pubsub.core.rules import Rules
from handler.local.pubsub.faults import Fault
from handler.local.pubsub.server import Broker


@click.command("pubsub")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8085, show_default=True, help="Port to listen on; 0 picks a free one.")
@click.option("--no-push-backoff", is_flag=True, help="Never slow a push subscription down after nacks.")
@click.option("--shortest-ack-deadline", default=10, show_default=True, help="Seconds; the real least is 10.")
@click.option("--fault", "faults", multiple=True, help="Trouble on demand, such as push-twice,every=10.")
def command(host: str, port: int, no_push_backoff: bool, shortest_ack_deadline: int, faults: tuple[str, ...]) -> None:
    """Run a Pub/Sub on this machine, for the real client libraries, with push.

    It prints a line to evaluate in the shell of the program that is to use it, and serves until Ctrl-C or SIGTERM.
    Topics, subscriptions and messages are kept in memory, and gone afterwards.

    \b
    in one shell:    inference-relay local pubsub --port 8085
    in another one:  export PUBSUB_EMULATOR_HOST=127.0.0.1:8085
                     python a_program_that_uses_google_cloud_pubsub.py

    A --fault is publish-fails, publish-answer-lost, publish-late, push-twice, push-late or push-cut, followed by
    any of ,every=N ,times=N ,match=PART_OF_A_NAME ,seconds=S ,status=GRPC_STATUS. Give it as often as you like.
    """  # noqa: D301 - click's \b keeps a paragraph's lines
    broker = Broker(port, Rules(push_backoff=not no_push_backoff, shortest_ack_deadline=shortest_ack_deadline), host)
    try:
        for fault in faults:
            broker.faults.add(Fault.parse(fault))
        asyncio.run(_serve(broker))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--fault") from None
    except OSError as error:
        raise click.ClickException(f"{error}, or choose another --port (0: a free one)") from None


async def _serve(broker: Broker) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await broker.open()
    click.echo(f"export PUBSUB_EMULATOR_HOST={broker.address} PUSH_CERTS_URL={broker.certs_url}")
    await stopped.wait()
    await broker.close()

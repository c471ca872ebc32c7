"""The commands of `inference-relay local`."""

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

import click
from rich.console import Console

from handler.local.model import ModelMissing
from handler.local.pubsub.cli import command as pubsub
from handler.local.runner import run, up
from handler.local.service import ServiceFailed

P = ParamSpec("P")
R = TypeVar("R")

_PAGE_PORT = 8090


@click.group("local")
def local() -> None:
    """The whole relay on this machine, without a cloud: Pub/Sub, a small real model and the service."""


@local.command("run")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Keep the answers in this file.")
@click.option("--model", help="Name of the model to put into every request, for a MODEL_URL of your own.")
def run_command(file: Path, output: Path | None, model: str | None) -> None:
    """Answer the requests in FILE with `inference-relay batch run`, show the answers, and stop.

    The model is SmolLM2-135M on this machine's processor, or the service that MODEL_URL names:

    \b
    inference-relay local run examples/requests.jsonl
    MODEL_URL=http://localhost:11434 inference-relay local run examples/requests.jsonl --model llama3.2

    Exit status: 0 when every line was answered, if only with an error; 2 when it could not run; 130 interrupted.
    """  # noqa: D301 - click's \b keeps a paragraph's lines
    status = _started(run, Console(), file, output, model)
    raise SystemExit(0 if status == 1 else status)


@local.command("up")
@click.option("--pubsub-port", default=8085, show_default=True, help="Port of Pub/Sub; 0 picks a free one.")
@click.option("--port", default=8080, show_default=True, help="Port of the service; 0 picks a free one.")
@click.option("--page-port", type=int, help="Port of the page to look at.  [default: 8090, or a free one]")
def up_command(pubsub_port: int, port: int, page_port: int | None) -> None:
    """Leave the relay running, and print how to publish to it, read from it and push to it.

    A page in the browser shows each message live: in the line, at the model, delivered again, answered; and has
    buttons to break the model and to kill the service, and see that nothing is lost.
    """
    page_ports = (_PAGE_PORT, 0) if page_port is None else (page_port,)
    _started(up, Console(), pubsub_port, port, page_ports)


local.add_command(pubsub)


def _started(action: Callable[P, R], *arguments: P.args, **options: P.kwargs) -> R:
    """Run `action`; what keeps it from starting is a message, not a traceback.

    SIGTERM, or that the terminal is closed, ends its children too.
    """
    for ending in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(ending) is not signal.SIG_IGN:  # as under nohup
            signal.signal(ending, lambda number, _: sys.exit(128 + number))
    try:
        return action(*arguments, **options)
    except (ModelMissing, ServiceFailed, OSError) as error:
        raise click.ClickException(str(error)) from None

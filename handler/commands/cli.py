"""The command line of a person at a terminal. The service does not use it."""

import os
from collections.abc import Mapping
from importlib.util import find_spec

import click
from pydantic import BaseModel

from handler.commands import check as checks
from handler.config.routing import RoutingFile
from handler.config.settings import Settings
from handler.config.table import as_markdown
from handler.rules import strictjson
from handler.rules.message.contract import InferenceRequest, InferenceResponse
from handler.rules.message.control import ControlMessage
from handler.telemetry import exposition

_SCHEMAS: Mapping[str, type[BaseModel]] = {
    "request": InferenceRequest,
    "response": InferenceResponse,
    "routes": RoutingFile,
    "control": ControlMessage,
}


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="inference-relay")
def main() -> None:
    """inference-relay: a Pub/Sub push handler that answers inference requests with a model service."""


@main.command()
@click.option(
    "--model",
    help="Also ask this model for one token, for a chat or an embedding: proof that it answers.",
)
def check(model: str | None) -> None:
    """Say whether the settings are right, the model answers and the topic takes a publish, before any traffic.

    Reads the same environment variables as the service. Publishes one message to RESPONSE_TOPIC, with the attribute
    `relay_check`, and writes one object into RESPONSE_BUCKET. Exits with 1 if anything is wrong.
    """
    ok = True
    for finding in checks.run(os.environ, model):
        ok = ok and finding.ok
        click.echo(
            f"{click.style('ok   ', fg='green') if finding.ok else click.style('WRONG', fg='red')}  {finding.text}"
        )
    raise SystemExit(0 if ok else 1)


@main.command()
@click.argument("of", type=click.Choice(sorted(_SCHEMAS)))
def schema(of: str) -> None:
    """Print the JSON Schema of a request, a response, a control message, or the file of routes."""
    click.echo(strictjson.pretty(_SCHEMAS[of].model_json_schema(mode="validation")))


@main.command()
def settings() -> None:
    """Print every setting as a Markdown table."""
    click.echo(as_markdown(Settings))


@main.command()
def metrics() -> None:
    """Print every metric of `GET /metrics` as Markdown tables."""
    click.echo(exposition.as_markdown())


def _missing(name: str, extra: str) -> click.Command:
    """Stands for a command whose extra is not installed."""
    how = f"pip install 'inference-relay[{extra}]'"

    @click.command(name, context_settings={"ignore_unknown_options": True}, help=f"Not installed: {how}.")
    @click.argument("arguments", nargs=-1)
    def missing(arguments: tuple[str, ...]) -> None:  # noqa: ARG001
        raise click.ClickException(f"this needs the extra `{extra}`: {how}")

    return missing


if find_spec("rich"):
    from handler.batch.terminal.cli import batch
    from handler.batch.terminal.control import cancel, status
    from handler.batch.terminal.single import ask, replay

    for _command in (batch, ask, cancel, status, replay):
        main.add_command(_command)
else:
    for _name in ("batch", "ask", "cancel", "status", "replay"):
        main.add_command(_missing(_name, "batch"))

if all(find_spec(needed) for needed in ("aiohttp", "lark", "rich", "handler.local")):
    from handler.local.cli import local

    main.add_command(local)
else:
    main.add_command(_missing("local", "local"))

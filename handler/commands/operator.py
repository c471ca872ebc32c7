"""The operator's commands, which need what the service needs: `check`, and what the pages are made of."""

import os
from collections.abc import Mapping

import click
from pydantic import BaseModel

from handler.commands import check as checks
from handler.commands import tables
from handler.config.routesfile import RoutingFile
from handler.rules import strictjson
from handler.rules.message.contract import InferenceRequest, InferenceResponse
from handler.rules.message.control import ControlMessage
from handler.telemetry import logs

_SCHEMAS: Mapping[str, type[BaseModel]] = {
    "request": InferenceRequest,
    "response": InferenceResponse,
    "routes": RoutingFile,
    "control": ControlMessage,
}


@click.command()
@click.option(
    "--model",
    help="Also ask this model for as little as one of its paths takes, such as one token: proof that it answers.",
)
def check(model: str | None) -> None:
    """Say whether the settings are right, the model answers and the topics take a publish, before any traffic.

    Reads the same environment variables as the service. Publishes one message to each topic that responses may go to,
    with the attribute `relay_check`, and writes one object into RESPONSE_BUCKET. Exits with 1 if anything is WRONG;
    what it has DOUBTs about may be meant so.
    """
    logs.configure("WARNING")  # what a finding calls "logged above", with its reason
    ok = True
    for finding in checks.run(os.environ, model):
        ok = ok and finding.ok
        click.echo(f"{_mark(finding)}  {finding.text}")
    raise SystemExit(0 if ok else 1)


def _mark(finding: checks.Finding) -> str:
    if finding.doubtful:
        return click.style("DOUBT", fg="yellow")
    return click.style("ok   ", fg="green") if finding.ok else click.style("WRONG", fg="red")


@click.command()
@click.argument("of", type=click.Choice(sorted(_SCHEMAS)))
def schema(of: str) -> None:
    """Print the JSON Schema of a request, a response, a control message, or the file of routes."""
    click.echo(strictjson.pretty(_SCHEMAS[of].model_json_schema(mode="validation")))


@click.command()
def settings() -> None:
    """Print every setting as a Markdown table."""
    click.echo(tables.of_settings())


@click.command()
def metrics() -> None:
    """Print every metric of `GET /metrics` as Markdown tables."""
    click.echo(tables.of_metrics())


@click.command()
def errors() -> None:
    """Print every error code of the relay's own as a Markdown table."""
    click.echo(tables.of_errors())

"""The command line of a person at a terminal. The service does not use it.

Whoever has not installed what a command needs has the others all the same.
"""

from importlib.util import find_spec

import click


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="inference-relay")
def main() -> None:
    """inference-relay: a Pub/Sub push handler that answers inference requests with a model service."""


def _have(*modules: str) -> bool:
    return all(find_spec(name) for name in modules)


def _missing(name: str, what: str, distribution: str) -> click.Command:
    """Stands for a command whose requirements are not installed."""
    how = f"pip install '{distribution}'"

    @click.command(name, context_settings={"ignore_unknown_options": True}, help=f"Not installed: {how}.")
    @click.argument("arguments", nargs=-1)
    def missing(arguments: tuple[str, ...]) -> None:  # noqa: ARG001
        raise click.ClickException(f"this needs {what}: {how}")

    return missing


if _have("cachetools", "flask", "gevent", "jwt", "prometheus_client", "pythonjsonlogger", "yaml"):
    from handler.commands.operator import check, errors, metrics, schema, settings

    for _command in (check, errors, metrics, schema, settings):
        main.add_command(_command)
else:
    for _name in ("check", "errors", "metrics", "schema", "settings"):
        main.add_command(_missing(_name, "what the service needs", "inference-relay"))

if _have("rich"):
    from handler.batch.terminal.cli import batch
    from handler.batch.terminal.control import cancel, status
    from handler.batch.terminal.single import ask, replay

    for _command in (batch, ask, cancel, status, replay):
        main.add_command(_command)
else:
    for _name in ("batch", "ask", "cancel", "status", "replay"):
        main.add_command(_missing(_name, "the extra `batch`", "inference-relay[batch]"))

if _have("aiohttp", "flask", "lark", "rich", "handler.local"):
    from handler.local.cli import local

    main.add_command(local)
else:
    main.add_command(_missing("local", "the extra `local`", "inference-relay[local]"))

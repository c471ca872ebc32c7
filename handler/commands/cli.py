"""The command line of a person at a terminal. The service does not use it.

A command is loaded when it is asked for: what the service or the local Pub/Sub needs takes a second, and whoever has
not installed it has the other commands all the same.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from pkgutil import resolve_name
from typing import NamedTuple

import click


class _Kit(NamedTuple):
    """Commands, where they are, and what has to be installed for them: the modules, and the distribution with them."""

    commands: dict[str, str]
    modules: Sequence[str]
    what: str
    distribution: str


_KITS = (
    _Kit(
        {name: f"handler.commands.operator:{name}" for name in ("check", "errors", "metrics", "schema", "settings")},
        ("cachetools", "flask", "gevent", "jwt", "prometheus_client", "pythonjsonlogger", "yaml"),
        "what the service needs",
        "inference-relay",
    ),
    _Kit(
        {"batch": "handler.batch.terminal.cli:batch"}
        | {name: f"handler.batch.terminal.control:{name}" for name in ("cancel", "status")}
        | {name: f"handler.batch.terminal.single:{name}" for name in ("ask", "replay")},
        ("rich",),
        "the extra `batch`",
        "inference-relay[batch]",
    ),
    _Kit(
        {"local": "handler.local.cli:local"},
        ("aiohttp", "flask", "lark", "rich", "handler.local"),
        "the extra `local`",
        "inference-relay[local]",
    ),
)
_KIT_OF = {name: kit for kit in _KITS for name in kit.commands}


class _Lazy(click.Group):
    """A group whose commands are those of the kits."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Their names, as --help lists them."""
        return sorted(_KIT_OF)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command of that name, loaded; None if there is none."""
        kit = _KIT_OF.get(cmd_name)
        if kit is None:
            return None
        if not all(find_spec(module) for module in kit.modules):
            return _missing(cmd_name, kit)
        command: click.Command = resolve_name(kit.commands[cmd_name])
        return command


def _missing(name: str, kit: _Kit) -> click.Command:
    """Stands for a command whose requirements are not installed."""
    how = f"pip install '{kit.distribution}'"

    @click.command(name, context_settings={"ignore_unknown_options": True}, help=f"Not installed: {how}.")
    @click.argument("arguments", nargs=-1)
    def missing(arguments: tuple[str, ...]) -> None:  # noqa: ARG001
        raise click.ClickException(f"this needs {kit.what}: {how}")

    return missing


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="inference-relay")
def main() -> None:
    """inference-relay: a Pub/Sub push handler that answers inference requests with a model service."""

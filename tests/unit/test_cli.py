"""The table of commands: each is there, and loads what it needs and no more."""

import subprocess
import sys

import click
import pytest

from handler.commands.cli import main

LOADED = """
import sys
from handler.commands.cli import main
main(sys.argv[1:], standalone_mode=False)
print(sorted({"gevent", "aiohttp", "google.cloud.pubsub_v1"} & set(sys.modules)))
"""


def test_every_command_of_the_table_is_one_of_that_name():
    """What --help lists can be called."""
    with click.Context(main) as context:
        names = main.list_commands(context)
        assert [main.get_command(context, name).name for name in names] == names
        assert main.get_command(context, "nothing") is None


@pytest.mark.parametrize(
    ("arguments", "loaded"),
    [
        (["--version"], []),
        (["batch", "--help"], ["google.cloud.pubsub_v1"]),
        (["schema", "request"], ["gevent"]),
    ],
    ids=lambda value: "-".join(value),
)
def test_a_command_loads_nothing_that_only_others_need(arguments, loaded):
    """A second's worth of the service's dependencies is not in the way of a file of prompts, nor that in theirs."""
    child = subprocess.run([sys.executable, "-c", LOADED, *arguments], capture_output=True, text=True, check=True)
    assert child.stdout.splitlines()[-1] == str(loaded)

"""The words of the glossary, where people read them."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from handler.batch.terminal import cli, control

SCHEMA = Path(__file__).parents[2] / "docs/schemas/control.json"


@pytest.mark.parametrize("command", [control.cancel, control.status, cli.cancel])
def test_what_a_control_message_gets_is_a_response(command):
    """A reply is what came back from a call of the model."""
    said = CliRunner().invoke(command, ["--help"], catch_exceptions=False).output
    assert "response" in said
    assert "repl" not in said.lower()


def test_the_schema_of_control_messages_speaks_of_a_response():
    """A reply is what came back from a call of the model."""
    said = SCHEMA.read_text()
    assert "response" in said
    assert "repl" not in said.lower()

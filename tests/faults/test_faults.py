"""Nothing is lost and nothing paid twice, in a few short runs; `make faults` has the long ones."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.parts import redisserver

HERE = Path(__file__).parent


@pytest.fixture
def redis_server():
    """A real Redis, where there is one; in CI there has to be."""
    return redisserver.needed()


def run(scenarios, name):
    """Run scenarios in a process of their own; its exit status and what it printed."""
    # Not measured: what is killed has no chance to say what it ran.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    command = [sys.executable, HERE, "--list", scenarios, "--only", name]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as running:
        try:
            output, _ = running.communicate()
        finally:
            running.terminate()  # so that it ends what it has started, should the test be over time
    return running.returncode, output


@pytest.mark.parametrize("name", ["a bad model", "publishing fails", "copies", "ends", "the ledger is killed"])
def test_nothing_is_lost_and_nothing_paid_twice(name, redis_server):
    """Every request is answered, once and for one call, but for the named exceptions."""
    status, output = run("short", name)
    assert status == 0, output
    assert output.startswith("| ")


@pytest.mark.parametrize(
    ("name", "faults"),
    [
        ("without a ledger", ["more calls without a reason", "more answers without a reason"]),
        ("a loss", ["never sent: lost"]),
    ],
)
def test_the_check_finds_what_is_lost_or_paid_twice(name, faults, redis_server):
    """A run in which that happens fails, and says what happened to which request."""
    status, output = run("control", name)
    assert status == 1
    assert [fault for fault in faults if fault not in output] == []

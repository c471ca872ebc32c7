"""Nothing is lost and nothing paid twice, in a few short runs; `make faults` has the long ones."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.parts import redisserver
from tests.parts.processes import inherited

HERE = Path(__file__).parent


def run(scenarios):
    """Run a list of scenarios in a process of their own: its exit status, and what it printed of each, by name."""
    redisserver.needed()
    # Not measured: what is killed has no chance to say what it ran.
    with subprocess.Popen(
        [sys.executable, HERE, "--list", scenarios],
        env=inherited(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as running:
        try:
            output, _ = running.communicate()
        finally:
            running.terminate()  # so that it ends what it has started, should the test be over time
    return running.returncode, {row[2:].partition(" |")[0]: row for row in re.split(r"(?m)^(?=\| )", output)}


@pytest.fixture(scope="module")
def short():
    """What came of the short runs, one after the other."""
    return run("short")


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    "name", ["a bad model", "publishing fails for 10 s", "copies", "ends", "the ledger is killed for 2 s"]
)
def test_nothing_is_lost_and_nothing_paid_twice(name, short):
    """Every request is answered, once and for one call, but for the named exceptions."""
    _, found = short
    assert name in found, found
    assert "FAULT" not in found[name], found[name]


@pytest.mark.timeout(400)
def test_a_run_in_which_all_is_well_says_so(short):
    """By its exit status."""
    status, found = short
    assert status == 0, found


@pytest.fixture(scope="module")
def control():
    """What came of the runs in which something has to go wrong."""
    return run("control")


@pytest.mark.timeout(200)
@pytest.mark.parametrize(
    ("name", "faults"),
    [
        ("two instances without a ledger", ["more calls without a reason", "more answers without a reason"]),
        ("a loss", ["never sent: lost"]),
    ],
)
def test_the_check_finds_what_is_lost_or_paid_twice(name, faults, control):
    """A run in which that happens fails, and says what happened to which request."""
    status, found = control
    assert status == 1
    assert [fault for fault in faults if fault not in found[name]] == [], found

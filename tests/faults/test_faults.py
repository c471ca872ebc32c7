"""Nothing is lost and nothing paid twice, in a few short runs; `make faults` has the long ones."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture
def redis_server():
    """A real Redis, where there is one; in CI there has to be."""
    if shutil.which("redis-server") is None:
        if os.environ.get("CI"):
            pytest.fail("redis-server is not installed, and CI needs it")
        pytest.skip("needs redis-server (apt-get install redis-server)")


@pytest.mark.parametrize("name", ["a bad model", "publishing fails", "copies", "ends", "the ledger is killed"])
def test_nothing_is_lost_and_nothing_paid_twice(name, redis_server):
    """Every request is answered, once and for one call, but for the named exceptions."""
    command = [sys.executable, HERE, "--short", "--only", name]
    # Not measured: what is killed has no chance to say what it ran.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as run:
        try:
            output, _ = run.communicate()
        finally:
            run.terminate()  # so that it ends what it has started, should this test be over time
    assert run.returncode == 0, output
    assert output.startswith("| ")

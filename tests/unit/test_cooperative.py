"""Runs tests/cooperative in a process that is patched before anything else is imported, as the service's is."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(300)
def test_what_waits_in_greenlets():
    """Deadlines end whatever waits, in the model's client and in the download of keys."""
    command = [sys.executable, "-m", "gevent.monkey", "--module", "pytest", "-q", "-p", "no:cacheprovider"]
    child = subprocess.run(
        [*command, "-p", "no:pytest_cov", "tests/cooperative"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stdout[-10_000:] + child.stderr[-2_000:]

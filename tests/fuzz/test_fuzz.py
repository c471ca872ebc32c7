"""Fuzzing, as far as a test may take: FUZZ_CASES=10000000 make test PYTEST_ARGS=tests/fuzz goes on for longer."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.parts.processes import inherited, missing

HERE = Path(__file__).parent
CASES = int(os.environ.get("FUZZ_CASES", "20000"))
SHARES = {"envelope": 0.4, "contract": 0.4, "token": 0.2}


@pytest.fixture(scope="module")
def fuzzer():
    """The fuzzer, where there is one for this machine and Python; in CI there has to be."""
    if importlib.util.find_spec("atheris") is None:
        missing("needs atheris, which may have no wheel for this machine or this Python")


@pytest.mark.timeout(max(120, CASES // 500))
@pytest.mark.parametrize("target", SHARES)
def test_no_bytes_whatsoever(fuzzer, target, tmp_path):
    """No bytes raise anything but the one error that is promised, and every response is JSON."""
    cases = int(CASES * SHARES[target])
    options = [f"-runs={cases}", "-seed=1", "-max_len=4096", "-timeout=10", "-rss_limit_mb=1024", "-verbosity=1"]
    found = tmp_path / "found"
    found.mkdir()
    fuzzing = subprocess.run(
        [sys.executable, HERE / "fuzz.py", target, *options, f"-artifact_prefix={tmp_path}/", found, HERE / "corpus"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=inherited(),  # the fuzzer measures its own coverage alone
        cwd=HERE.parents[1],
        check=False,
    )
    assert fuzzing.returncode == 0, fuzzing.stdout[-5000:]
    assert re.search(rf"Done {cases} runs", fuzzing.stdout), fuzzing.stdout[-5000:]

"""What the other tests fork is as what they would start."""

import os
import signal
import subprocess

import pytest

from tests.parts.processes import BIN

RELAY = BIN / "inference-relay"
LINES = '{"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": {"prompt": "hi"}}\nno JSON\n'


@pytest.mark.parametrize(
    ("arguments", "code"), [(("batch", "check", "-"), 1), (("nonsense",), 2)], ids=["wrong lines", "a wrong command"]
)
def test_a_forked_command_says_what_a_started_one_says(forks, tmp_path, arguments, code):
    """With the same input it prints the same, to the same streams, and ends with the same exit code."""
    environment = {"COLUMNS": "200"}
    forked = forks.run([RELAY, *arguments], environment, cwd=tmp_path, measured=True, stdin=LINES)
    started = subprocess.run(
        [RELAY, *arguments], env={**os.environ, **environment}, cwd=tmp_path, input=LINES, text=True, check=False,
        capture_output=True,
    )  # fmt: skip
    assert (forked.returncode, forked.stdout, forked.stderr) == (started.returncode, started.stdout, started.stderr)
    assert forked.returncode == code
    assert forked.stdout + forked.stderr


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_forked_process_gets_signals(forks, number):
    """It is killed by its own id, and nothing else with it; one that stands still is running."""
    one, other = (forks.spawn([RELAY, "local", "pubsub", "--port", "0"], stderr=subprocess.DEVNULL) for _ in range(2))
    try:
        one.send_signal(number)
        if number == signal.SIGSTOP:
            assert one.poll() is None
            one.kill()
        assert one.wait(20) == -signal.SIGKILL
        assert other.poll() is None
    finally:
        other.kill()
    assert other.wait(20) == -signal.SIGKILL

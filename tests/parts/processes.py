"""Child processes, the ports that they get, and waiting for what they do."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


def missing(what):
    """Skip a test for what this machine has not; in CI everything has to be there."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(what)


def free_port():
    """A port for a server that is yet to start, which the system gives to nobody else for the next minute.

    A connection to it is left in TIME_WAIT: it keeps others from being given the port, while a server that asks for it
    by its number, and sets SO_REUSEADDR as they all do, gets it. Linux and macOS.
    """
    with socket.create_server(("127.0.0.1", 0)) as probe, socket.create_connection(probe.getsockname()):
        accepted, _ = probe.accept()
        accepted.close()  # who closes first is the one that waits
        return probe.getsockname()[1]


def holds(condition, seconds):
    """Whether `condition()` comes to hold within so many seconds."""
    deadline, pause = time.monotonic() + seconds, 0.001
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
        pause = min(2 * pause, 0.02)
    return True


def until(condition, seconds=20):
    """Wait until `condition()` holds; a test that waits in vain fails."""
    assert holds(condition, seconds), "waited in vain"


def listening(port):
    """Whether somebody accepts connections on this port."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@contextmanager
def interruptible():
    """Children that are started here can be interrupted, though this process may ignore it (nohup, some CI)."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def inherited(*, measured=False):
    """The environment that a child gets from here, without what has its coverage measured unless that is wanted."""
    return {name: value for name, value in os.environ.items() if measured or not name.startswith("COV")}


def spawn(command, environment=None, *, cwd=ROOT, measured=False, **options):
    """A child process. Its coverage costs as much again as what it does: it is for what no other test runs."""
    command = [str(part) for part in command]
    around = {**inherited(measured=measured), **(environment or {})}
    with interruptible():
        return subprocess.Popen(command, cwd=cwd, env=around, text=True, **options)


def reap(child):
    """Wait for a child that was told to end; one that does not is a failure."""
    try:
        child.wait(30)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
        raise


@contextmanager
def process(command, environment=None, **options):
    """A child process, ended with SIGTERM."""
    with spawn(command, environment, **options) as child:
        try:
            yield child
        finally:
            child.terminate()
            reap(child)

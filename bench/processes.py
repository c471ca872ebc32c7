"""The processes of a run: how they are started and ended, and what the system under test takes of the machine."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import psutil

ROOT = Path(__file__).parents[1]
_SAMPLE_SECONDS = 0.25
_LONGEST_ERROR = 2000  # of what a stand-in said last
_END_SECONDS = 60.0  # for a stand-in to write down what it saw


class BenchError(Exception):
    """A run cannot go on. The message says what to do about it."""


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class StandIn:
    """A process around the system under test (see standin.py). It ends with its block."""

    def __init__(self, module: str, **options: float | str) -> None:
        self.name = module
        self._first: Mapping[str, Any] | None = None
        self._command = [sys.executable, "-m", f"bench.{module}"]
        self._command += [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]

    def __enter__(self) -> Self:
        self._errors = tempfile.TemporaryFile("w+")
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            self._command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=self._errors, text=True, start_new_session=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def ready(self) -> Mapping[str, Any]:
        """What it says when it is ready: waited for only where that is needed, so that others start meanwhile."""
        if self._first is None:
            self._first = self.hear()
        return self._first

    @property
    def port(self) -> int:
        """Where it listens, on this machine."""
        return int(self.ready()["port"])

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def go(self) -> None:
        """Tell it to begin, when it is ready."""
        self.ready()
        assert self._process.stdin
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def hear(self) -> Mapping[str, Any]:
        """Wait for the next thing that it says."""
        assert self._process.stdout
        return self._read(self._process.stdout.readline())

    def speaks(self, seconds: float) -> bool:
        """Wait so long for it to say something; whether it does."""
        assert self._process.stdout
        return bool(select.select([self._process.stdout], [], [], seconds)[0])

    def finish(self) -> Mapping[str, Any]:
        """Let it end, and take what it saw."""
        self.ready()
        output, _ = self._process.communicate(timeout=_END_SECONDS)
        return self._read(output)

    def _read(self, said: str) -> Mapping[str, Any]:
        if said:
            return dict(json.loads(said))
        self._errors.seek(0)
        raise BenchError(f"the bench's own {self.name} has ended:\n{self._errors.read()[-_LONGEST_ERROR:]}")


class Program:
    """The system under test: a tree of processes, killed at the end of its block. Its log is kept in a file."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.name = name
        self._command = command
        self._environment = {**os.environ, **environment}

    def __enter__(self) -> Self:
        number, name = tempfile.mkstemp(prefix=f"bench-{self.name}-", suffix=".log")
        self.log = Path(name)
        self.begun = time.monotonic()
        with os.fdopen(number, "w") as log:
            try:
                self._process = self._start(log)
            except OSError as error:
                raise BenchError(f"{self.name} cannot be started with {self._command[0]!r}: {error.strerror}") from None
        return self

    def _start(self, log: Any) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            self._command,
            cwd=ROOT,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # The run is over, and whatever it would still do well is not measured.
        for process in _tree(self._process.pid):
            with suppress(psutil.Error):
                process.kill()
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    @property
    def pid(self) -> int:
        """Its first process."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether it is over before anybody ended it."""
        return self._process.poll() is not None

    def tail(self, lines: int = 20) -> str:
        """The end of its log, and where the rest is."""
        text = self.log.read_text(errors="replace").splitlines()[-lines:]
        return "\n".join([f"the end of {self.log}:", *(f"  {line}" for line in text)])


def _tree(pid: int) -> list[psutil.Process]:
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and its children, those that have ended included."""
    total = 0.0
    for process in _tree(pid):
        with suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def threads_cpu_seconds(pid: int) -> float:
    """The time that the threads which there are now have run, of a process and its children.

    The kernel keeps it in nanoseconds, where `cpu_seconds` goes by hundredths of a second.
    """
    nanoseconds = 0
    for process in _tree(pid):
        for schedule in Path(f"/proc/{process.pid}/task").glob("*/schedstat"):
            with suppress(OSError):
                nanoseconds += int(schedule.read_text().split(maxsplit=1)[0])
    return nanoseconds / 1e9


def memory_bytes(pid: int) -> int:
    """The memory of a process and its children, where what they share counts once (PSS)."""
    total = 0
    for process in _tree(pid):
        with suppress(OSError, ValueError, IndexError):
            rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
            total += int(rollup.partition("\nPss:")[2].split(maxsplit=1)[0]) * 1024
    return total


class Memory:
    """Looks at the memory of a process tree every quarter of a second, while its block runs."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.before = self.peak = memory_bytes(pid)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._over.wait(_SAMPLE_SECONDS):
            self.peak = max(self.peak, memory_bytes(self._pid))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self.peak = max(self.peak, memory_bytes(self._pid))

"""The service itself as a child process, run as in production."""

import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Self

_ROOT = Path(__file__).parents[2]
_START_SECONDS, _STOP_SECONDS = 30.0, 15.0
_COMMAND = ["-m", "gunicorn", "-c", "gunicorn.conf.py", 'functions_framework:create_app("handle","main.py")']


class ServiceFailed(Exception):
    """The service did not become ready. The message says where to look."""


class Service:
    """gunicorn with the project's configuration, listening on `port`; ready when entered.

    What it prints goes to `log`, or to this process' standard error; `on_line` hears each line too.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        port: int,
        log: IO[str] | None = None,
        on_line: Callable[[str], None] | None = None,
    ) -> None:
        if not (_ROOT / "main.py").exists():
            raise ServiceFailed(f"{_ROOT} has no main.py: run this from a checkout of the project")
        self.url = f"http://127.0.0.1:{port}"
        self._environment = {**os.environ, **environment, "PORT": str(port)}
        self._log, self._on_line = log, on_line

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
        self._end_of_lines()

    def start(self) -> None:
        """Start it, and wait until it takes pushes. Raises ServiceFailed, or OSError where there can be no process."""
        output = subprocess.PIPE if self._on_line else self._log
        self._process = subprocess.Popen(
            [sys.executable, *_COMMAND],
            cwd=_ROOT,
            env=self._environment,
            stdout=output,
            stderr=subprocess.STDOUT if self._on_line else output,
            process_group=0,  # its worker is killed with it, and Ctrl-C ends it only when everything else has been told
            text=True,
            errors="replace",
        )
        self._reader = threading.Thread(target=self._read, name="service-log", daemon=True)
        self._reader.start()
        try:
            self._await_ready()
        except BaseException:
            self.__exit__()
            raise

    def kill(self) -> None:
        """End it as a crash or a power cut would: at once, with whatever it was doing."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._end_of_lines()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            with suppress(OSError, ValueError):  # nobody reads it any more: the service must not wait for that
                print(line, end="", file=self._log or sys.stderr, flush=True)
            if self._on_line:
                self._on_line(line)

    def _end_of_lines(self) -> None:
        self._reader.join(_STOP_SECONDS)
        if self._process.stdout:
            self._process.stdout.close()

    def _await_ready(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise ServiceFailed(f"the service did not start{self._where_to_look()}")
            time.sleep(0.05)

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health/ready", timeout=2) as response:
                return bool(response.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def _where_to_look(self) -> str:
        return f"; it said, in {self._log.name}:\n{Path(self._log.name).read_text()}" if self._log else ""

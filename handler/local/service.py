"""The service itself as a child process, run as in production."""

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Self

_ROOT = Path(__file__).parents[2]
_START_SECONDS, _STOP_SECONDS = 30.0, 15.0


class ServiceFailed(Exception):
    """The service did not become ready. The message says where to look."""


class Service:
    """gunicorn with the project's configuration, listening on `port`; ready when entered."""

    def __init__(self, environment: Mapping[str, str], port: int, log: IO[str] | None = None) -> None:
        if not (_ROOT / "main.py").exists():
            raise ServiceFailed(f"{_ROOT} has no main.py: run this from a checkout of the project")
        self.url = f"http://127.0.0.1:{port}"
        self._environment = {**os.environ, **environment, "PORT": str(port)}
        self._log = log

    def __enter__(self) -> Self:
        command = ["-m", "gunicorn", "-c", "gunicorn.conf.py", 'functions_framework:create_app("handle","main.py")']
        self._process = subprocess.Popen(
            [sys.executable, *command], cwd=_ROOT, env=self._environment, stderr=self._log, stdout=self._log
        )
        try:
            self._await_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

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

"""The processes of a run: instances of the service, and the Redis of the ledger. Each ends with its block."""

import os
import signal
import subprocess
import time
import urllib.request
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from tests.parts import redisserver
from tests.parts.forks import Child
from tests.parts.processes import free_port, holds
from tests.parts.service import SERVERS

START_SECONDS = 30


def end(child, number=signal.SIGTERM):
    """Tell a process group to end, and see that it does."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, number)
    try:
        child.wait(20)
    except subprocess.TimeoutExpired:
        pass
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


@dataclass(slots=True)
class Life:
    """One process of an instance, from its start to its end."""

    url: str
    child: Child
    killed: float | None = None  # when it got SIGKILL


class Instance:
    """The service under gunicorn: started, ended in two ways, and started again. It ends with its block."""

    def __init__(self, log, settings, forks):
        self._log, self._port, self._forks = log, free_port(), forks
        self._settings = {**settings, "PORT": str(self._port)}
        self.life = None
        self.events: list[tuple[float, str]] = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.life:
            end(self.life.child, signal.SIGKILL)  # the run is over: nothing is left to be done well

    def start(self):
        """Start it; it takes pushes when this returns."""
        with self._log.open("a") as log:
            files = {"stdout": log, "stderr": subprocess.STDOUT}
            child = self._forks.spawn(SERVERS["gunicorn"], self._settings, start_new_session=True, **files)
        self._note("starts")
        self.life = Life(f"http://127.0.0.1:{self._port}/", child)
        if not holds(lambda: child.poll() is not None or self._is_ready(), START_SECONDS) or child.poll() is not None:
            raise RuntimeError(f"the service did not start:\n{self._log.read_text()[-2000:]}")

    def kill(self):
        """SIGKILL, for the whole of it at once."""
        self._note("SIGKILL")
        self.life.killed = time.time()
        end(self.life.child, signal.SIGKILL)

    def terminate(self):
        """SIGTERM, as a platform sends it, and wait for the end."""
        self._note("SIGTERM")
        self.life.child.terminate()
        end(self.life.child, 0)
        self._note("ended")

    def _note(self, what):
        self.events.append((time.time(), f"{self._log.stem} {what}"))

    @contextmanager
    def frozen(self):
        """Let it stand still while the block runs."""
        os.killpg(self.life.child.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self.life.child.pid, signal.SIGCONT)

    def _is_ready(self):
        with suppress(OSError), urllib.request.urlopen(f"{self.life.url}health/ready", timeout=5) as response:
            return response.status == 200
        return False


class RedisServer(redisserver.Server):
    """A real Redis with an append-only file, so that killing it forgets nothing that it confirmed."""

    def __init__(self, folder):
        super().__init__(folder, "--appendonly", "yes", "--maxmemory-policy", "noeviction")

    def fill(self):
        """Let it have no memory for anything more: it refuses writes."""
        self.admin.config_set("maxmemory", 1)

    def empty(self):
        """Let it have memory again."""
        self.admin.config_set("maxmemory", 0)

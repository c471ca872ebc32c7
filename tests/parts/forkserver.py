"""A program that is loaded once and forked for each use: python -P forkserver.py PROGRAM SOCKET.

Each use is a process of its own, as if it had been started: with the arguments, environment, folder and files that are
asked for over the socket, and an end of its own. What it has not is a second of imports, and a third of a second in
which Python takes apart at the end what was imported.
"""

import atexit
import gc
import importlib
import json
import os
import posix  # gevent has its own of `os.fork` and `os.waitpid`, for processes in which it waits already
import signal
import socket
import struct
import sys
from contextlib import suppress

NUMBER = struct.Struct("i")  # a process id, then its exit code


def loaded(*modules):
    """Import modules, the last of which is returned."""
    return [importlib.import_module(name) for name in modules][-1]


def commands():
    """`inference-relay`, with what its commands import."""
    loaded("handler.batch.terminal.cli", "handler.batch.terminal.control", "handler.batch.terminal.single")
    loaded("google.cloud.pubsub_v1", "handler.commands.operator", "handler.local.cli", "certifi")
    return loaded("handler.commands.cli").main


def service():
    """gunicorn, with what the service imports after gunicorn.conf.py has made the process cooperative."""
    gunicorn = loaded("gunicorn.app.wsgiapp")
    loaded("handler.greenlets").patch()
    loaded("gunicorn.workers.ggevent", "functions_framework", "google.cloud.pubsub_v1")
    loaded("handler.app", "handler.server", "handler.config.doubts")
    return gunicorn.run


PROGRAMS = {program.__name__: program for program in (commands, service)}


def kept(files):
    """Be the parent of a new process, and tell its id and its exit code; returns in the new process alone."""
    *standard, report = files
    pid = posix.fork()
    if pid == 0:
        for number, file in enumerate(standard):
            os.dup2(file, number)
        return
    with suppress(OSError):  # whoever asked is gone
        os.write(report, NUMBER.pack(pid))
        _, status = posix.waitpid(pid, 0)
        os.write(report, NUMBER.pack(os.waitstatus_to_exitcode(status)))
    os._exit(0)


def asked(channel):
    """Fork for each use that is asked for until nobody asks any more; returns in the new processes alone."""
    while True:
        said, files, _, _ = socket.recv_fds(channel, 1 << 20, 4)
        with suppress(ChildProcessError):  # those that have ended meanwhile
            while posix.waitpid(-1, posix.WNOHANG)[0]:
                pass
        if not said:
            sys.exit()
        keeper = posix.fork()
        if keeper == 0:
            kept(files)
        for file in files:
            os.close(file)
        if keeper == 0:
            return json.loads(said)


_codes = []  # the exit code of a use that has ended as it should


def run(program):
    """Run it to its end, and remember how it ended."""
    try:
        sys.exit(program())
    except SystemExit as end:
        _codes.append(end.code if isinstance(end.code, int) else int(end.code is not None))
        raise


def end_at_once():
    """Leave the rest of a use's end out: what is registered with `atexit` is done by then."""
    if _codes:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(_codes[0])


def main():
    atexit.register(end_at_once)  # first of all, to be done last
    channel = socket.socket(fileno=int(sys.argv[2]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    program = PROGRAMS[sys.argv[1]]()
    gc.freeze()  # what is shared is not looked at, nor copied for that
    with channel:
        use = asked(channel)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # even if the tests ignore it (nohup, some CI)
    if use["start_new_session"]:
        os.setsid()
    os.chdir(use["cwd"])
    os.environ.clear()
    os.environ.update(use["environment"])
    sys.argv = use["command"]
    run(program)


if __name__ == "__main__":
    main()

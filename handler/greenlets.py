"""Greenlets, and deadlines that end what they wait for: the only module that knows gevent.

The service is plain synchronous code. `patch` makes everything in the process that would block a thread set its
greenlet aside instead, so that thousands of messages can wait at once; it has to come before anything else is imported.
"""

import select
from collections.abc import Callable
from importlib import metadata
from socket import socket

import gevent
from gevent import monkey
from gevent.baseserver import BaseServer
from gevent.timeout import Timeout
from greenlet import greenlet

# gRPC calls and look-ups of names block a thread of their own each, of which gevent keeps ten unless told otherwise.
# Those of a name server that is silent must not leave publishing without one.
NATIVE_THREADS = 64


def patch() -> bool:
    """Make the standard library cooperative, before anything else is imported; whether it was not so already."""
    if monkey.is_module_patched("socket"):
        return False
    gevent.config.threadpool_size = NATIVE_THREADS
    _patch_all()
    return True


def _patch_all() -> None:
    """What gevent does, with the installed packages read once: it looks for plugins among them at each of 25 steps."""
    look_up, found = metadata.entry_points, metadata.entry_points()
    metadata.entry_points = found.select
    try:
        monkey.patch_all()
    finally:
        metadata.entry_points = look_up


def prepare_grpc() -> None:
    """Make gRPC cooperative too, where the rest is. To be called in the process that calls, before it connects."""
    if monkey.is_module_patched("threading"):
        from grpc.experimental import gevent as grpc_gevent  # not before `patch`

        grpc_gevent.init_gevent()


def accept_in_turn() -> None:
    """Let servers take one connection at a time, and not a hundred.

    Greenlets run in the order in which they were woken. Of thousands of connections that come at once all would go
    ahead of those that have a call to make or an answer to give, and the model would idle meanwhile.
    """
    BaseServer.max_accept = 1


def spawn(work: Callable[[], None]) -> None:
    """Have `work` done soon, by a greenlet of its own."""
    gevent.spawn(work)


def is_readable(connection: socket) -> bool:
    """Whether there is something to be read, or the peer has closed it. Looks, and never waits."""
    looking = _poll()
    looking.register(connection, select.POLLIN)
    return bool(looking.poll(0))


# gevent's own would look at it by way of the event loop, which takes many times as long.
_poll = monkey.get_original("select", "poll")


class DeadlinePassed(Exception):
    """What was done inside a `with Deadline(...)` took too long, and was broken off."""


class DeadlineCut(Exception):
    """What was done inside a `with Deadline(...)` was broken off by `Deadline.cut`."""


class Deadline:
    """One absolute deadline for everything that waits inside the `with` block, however many waits there are.

    Raises DeadlinePassed once the seconds have passed, and DeadlineCut once `cut` is called from another greenlet. The
    block is broken off where it stands, as by any exception. In a process that is not patched nothing is broken off.
    """

    def __init__(self, seconds: float) -> None:
        self._timeout = Timeout(max(0.0, seconds))
        self._greenlet: greenlet | None = None
        self._is_cut = False

    def __enter__(self) -> "Deadline":
        self._greenlet = gevent.getcurrent()
        self._timeout.start()
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        self._greenlet = None
        self._timeout.close()
        self._timeout.__traceback__ = None  # or its frames, which hold this deadline, and it hold each other
        if error is self._timeout:
            raise (DeadlineCut if self._is_cut else DeadlinePassed) from None

    def cut(self) -> None:
        """Break off the block, if it is still running."""
        gevent.get_hub().loop.run_callback(self._cut)

    def _cut(self) -> None:
        # In the hub, as gevent's own timers: the block may have ended since `cut` was called.
        if self._greenlet is not None:
            self._is_cut = True
            self._greenlet.throw(self._timeout)


class Deadlines:
    """Deadlines of what the end of the process shall not wait for."""

    def __init__(self) -> None:
        self.running: set[Deadline] = set()
        self.are_cut = False

    def within(self, seconds: float) -> Deadline:
        """A deadline for a `with` block. Raises DeadlinePassed, and DeadlineCut from when `cut` is called."""
        return _OneOf(self, seconds)

    def cut(self) -> None:
        """Break off every block that is running, and all that are still to begin."""
        self.are_cut = True
        for deadline in tuple(self.running):
            deadline.cut()


class _OneOf(Deadline):
    """A deadline that is cut with others; no generator, since each call of the model has one."""

    def __init__(self, deadlines: Deadlines, seconds: float) -> None:
        super().__init__(seconds)
        self._deadlines = deadlines

    def __enter__(self) -> Deadline:
        if self._deadlines.are_cut:
            raise DeadlineCut
        self._deadlines.running.add(self)
        return super().__enter__()

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._deadlines.running.discard(self)
        super().__exit__(kind, error, traceback)

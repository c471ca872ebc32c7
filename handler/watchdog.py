"""Ends the wait for peers that send too slowly.

A socket's timeout starts anew with every byte, so that it bounds nothing against a peer that sends one now and then.
Here the receiving half of a socket is shut at a fixed time: whoever waits for more finds the end, and can still answer.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from socket import SHUT_RD, socket

_TICK_SECONDS = 0.5  # how late a socket may be shut


class Watchdog:
    """Watches sockets, each until a time. One instance, with one thread of its own, serves all threads."""

    def __init__(self) -> None:
        self._until: dict[socket, float] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def watch(self, connection: socket, seconds: float) -> None:
        """Shut the receiving half of `connection` in `seconds` from now, unless it is released before."""
        with self._lock:
            self._until[connection] = time.monotonic() + seconds
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
                self._thread.start()

    def release(self, connection: socket) -> None:
        """Let `connection` be. Once this has returned it will not be shut."""
        with self._lock:
            self._until.pop(connection, None)

    @contextmanager
    def watching(self, connection: socket | None, seconds: float) -> Iterator[None]:
        """Watch while the block runs. Without a socket (another server than gunicorn) nothing is bounded."""
        if connection is None:
            yield
            return
        self.watch(connection, seconds)
        try:
            yield
        finally:
            self.release(connection)

    def _run(self) -> None:
        while True:
            time.sleep(_TICK_SECONDS)
            self.shut_overdue(time.monotonic())

    def shut_overdue(self, now: float) -> None:
        """Shut what should have been released before `now`, on the monotonic clock."""
        with self._lock:
            for connection in [one for one, until in self._until.items() if until <= now]:
                del self._until[connection]
                with suppress(OSError):  # the peer, or its thread, was faster
                    connection.shutdown(SHUT_RD)

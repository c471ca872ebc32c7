"""gunicorn's gevent worker, and what happens when it is told to end.

gunicorn serves, gevent waits. What is added: the service hears of its end, connections that only wait for a next
request are ended then instead of after their time, and the oldest of them make room where there are too many.
"""

import socket
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from gunicorn.glogging import Logger
from gunicorn.workers.ggevent import GeventWorker

from handler.greenlets import Deadline, DeadlineCut, DeadlinePassed, accept_in_turn, spawn

LINGER_SECONDS = 2.0  # for a peer to close
# How long a peer may leave its responses unread before the system ends the connection. Not every system knows the
# option, by which Linux ends it.
UNREAD_MS = 10_000
_USER_TIMEOUT = getattr(socket, "TCP_USER_TIMEOUT", socket.TCP_NODELAY)


class Quiet(Logger):  # type: ignore[misc]
    """Logs gunicorn's own errors, and no requests: the service writes a line for each, which says more."""

    def access(self, *_: Any) -> None:
        """Nothing. gunicorn would put a line together for each request, whether or not it is written anywhere."""


class Worker(GeventWorker):  # type: ignore[misc]
    """Serves the WSGI application; gunicorn.conf.py sets `on_stop`, which is called when the process is told to end."""

    on_stop: Callable[[], None] = staticmethod(lambda: None)

    def init_process(self) -> None:
        """Start serving, in the worker process."""
        accept_in_turn()
        self._silent: OrderedDict[Deadline, None] = OrderedDict()  # waiting for a request, the longest first
        for listener in self.sockets:  # every connection inherits it
            listener.sock.setsockopt(socket.IPPROTO_TCP, _USER_TIMEOUT, UNREAD_MS)
        super().init_process()

    @contextmanager
    def timeout_ctx(self) -> Iterator[None]:
        """Bound the wait for the head of a request; gunicorn closes a connection that got none."""
        wait = Deadline(self.cfg.keepalive if self.alive else 0)
        self._silent[wait] = None
        if len(self._silent) > self.worker_connections // 2:
            next(iter(self._silent)).cut()
        try:
            with wait:
                yield
        except (DeadlinePassed, DeadlineCut):
            pass
        finally:
            del self._silent[wait]

    def handle_request(self, *arguments: Any) -> None:
        """Answer a request; a peer that does not read the response is not worth a line in the log."""
        try:
            super().handle_request(*arguments)
        except TimeoutError:
            raise StopIteration from None  # how gunicorn is told to close the connection
        except StopIteration:
            _linger(arguments[2])
            raise

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: BaseException) -> None:
        """Answer what is no request; its sender is to read why, too."""
        super().handle_error(req, client, addr, exc)
        _linger(client)

    def handle_exit(self, _signal: int, _frame: Any) -> None:
        """Begin to end. In a greenlet: the one that hears signals must not wait for anything."""
        spawn(self._drain)

    def _drain(self) -> None:
        self.on_stop()
        self.alive = False
        for wait in tuple(self._silent):
            wait.cut()


def _linger(connection: socket.socket) -> None:
    """Let a peer whose connection ends read its response, and not a reset for what it still sends (RFC 9112 9.6)."""
    with suppress(OSError, DeadlinePassed), Deadline(LINGER_SECONDS):
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(1 << 16):
            pass

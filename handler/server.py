"""gunicorn's threaded worker, made to bear peers that are slow on purpose.

As gunicorn has it, a connection holds a thread while the head of its request arrives, however long that takes; the main
loop itself waits up to two seconds for each peer to close; and connections that never say a word keep others from being
accepted for as long as the keep-alive lasts. A hundred connections, or five, are enough to stop the service.

Here only a few threads may wait for slow peers at a time, each for a few seconds; the main loop never does; and when
connections run short, those that have been silent the longest make room. The bodies of pushes are the app's business.
"""

import errno
import struct
import threading
from contextlib import suppress
from socket import MSG_DONTWAIT, MSG_PEEK, SHUT_RD, SHUT_WR, SO_SNDTIMEO, SOL_SOCKET, socket
from typing import Any

from gunicorn.workers.gthread import _DEFER, ThreadWorker

from handler.config import PATIENT_THREADS
from handler.watchdog import Watchdog

HEAD_SECONDS = 5.0  # for the head of a request from its first byte; Pub/Sub's come in one packet or two
LINGER_SECONDS = 2.0  # for a peer to close, so that it reads its response and not a reset (RFC 9112 9.6)
SEND_SECONDS = 10  # for a peer to take some of its response
_MAX_LINGER_BYTES = 1 << 16
_MAX_PEEK_BYTES = 1 << 16


class Worker(ThreadWorker):  # type: ignore[misc]
    """A ThreadWorker whose threads are not at the mercy of its peers."""

    def init_process(self) -> None:
        """Start serving, in the worker process."""
        self._patience = _Patience(PATIENT_THREADS)
        super().init_process()

    def handle(self, conn: Any) -> Any:
        """Serve one request, in a thread. Returns whether the connection goes on."""
        if not (conn.initialized or conn.wait_for_data(0)):
            return _DEFER  # the main loop waits for the first byte
        conn.sock.setsockopt(SOL_SOCKET, SO_SNDTIMEO, struct.pack("ll", SEND_SECONDS, 0))
        if not (_head_is_there(conn.sock) or self._patience.begin(conn.sock, HEAD_SECONDS)):
            return self._hang_up(conn.sock)
        try:
            goes_on = super().handle(conn)
        finally:
            self._patience.end(conn.sock)
        return goes_on or self._hang_up(conn.sock)

    def handle_request(self, req: Any, conn: Any) -> Any:
        """The head is there. From here on the app bounds what is waited for."""
        self._patience.end(conn.sock)
        try:
            return super().handle_request(req, conn)
        except BlockingIOError:  # after SEND_SECONDS; gunicorn knows resets, and would log this one with its traceback
            raise ConnectionResetError(errno.ECONNRESET, "the peer does not read") from None

    def _keepalive_after(self, conn: Any, keepalive: Any) -> bool:
        """Read what is left of the body; a peer in no hurry gets a thread only if there is one."""
        if not (keepalive and self._patience.begin(conn.sock, LINGER_SECONDS)):
            return False
        try:
            return bool(super()._keepalive_after(conn, keepalive))
        finally:
            self._patience.end(conn.sock)

    def _hang_up(self, connection: socket) -> bool:
        """Wait for the peer to close, and leave nothing for the main loop to wait for. Returns False."""
        with suppress(OSError):
            connection.shutdown(SHUT_WR)
            if self._patience.begin(connection, LINGER_SECONDS):
                try:
                    _read_to_end(connection)
                finally:
                    self._patience.end(connection)
            connection.shutdown(SHUT_RD)
        return False

    def murder_pending(self) -> None:
        """The main loop calls this each time around."""
        super().murder_pending()
        while self.nr_conns > self.worker_connections - self.cfg.threads and self._drop_one():
            pass

    def _drop_one(self) -> bool:
        idle = self.pending_conns or self.keepalived_conns
        if not idle:
            return False
        conn = idle.popleft()
        self.poller.unregister(conn.sock)
        self.nr_conns -= 1
        conn.close()
        return True


class _Patience:
    """The threads that may wait for slow peers: some at a time, each for a while."""

    def __init__(self, threads: int) -> None:
        self._places = threading.BoundedSemaphore(threads)
        self._waiting: set[socket] = set()  # each is added and removed by its own thread
        self._watchdog = Watchdog()

    def begin(self, connection: socket, seconds: float) -> bool:
        """Take a place for at most `seconds`; False if there is none."""
        if not self._places.acquire(blocking=False):
            return False
        self._waiting.add(connection)
        self._watchdog.watch(connection, seconds)
        return True

    def end(self, connection: socket) -> None:
        """Give the place back, if `connection` has one."""
        if connection in self._waiting:
            self._watchdog.release(connection)
            self._waiting.remove(connection)
            self._places.release()


def _head_is_there(connection: socket) -> bool:
    with suppress(OSError):
        return b"\r\n\r\n" in connection.recv(_MAX_PEEK_BYTES, MSG_PEEK | MSG_DONTWAIT)
    return False


def _read_to_end(connection: socket) -> None:
    connection.setblocking(True)
    left = _MAX_LINGER_BYTES
    while left > 0 and (data := connection.recv(8192)):
        left -= len(data)

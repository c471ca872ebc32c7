"""requests' own adapter, over connections that are dialled, watched and retired as a long-lived service needs it."""

import http.client
import socket
import time
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError

from handler.greenlets import Deadline, DeadlinePassed, is_readable
from handler.http.dial import Options, Resolver, connect

# Connections end after some minutes, so that replicas of the model service that came later get their share, and before
# those in between forget them: Google's VPC does after ten minutes of silence.
MAX_AGE_SECONDS = 300.0
MAX_IDLE_SECONDS = 60.0
# A node that died without a word acknowledges nothing. TCP itself would go on for a quarter of an hour, and the
# message end as if the model had been slow. Linux takes a model that does not read for so long for dead, too, although
# its node answers: a busy one may leave the rest of a large body for some seconds where it is.
UNACKNOWLEDGED_MS = 60_000
# After the last byte either way. A model that thinks for minutes is silent too, but its node answers probes.
_KEEP_ALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 4, "TCP_USER_TIMEOUT": UNACKNOWLEDGED_MS}
ONE_PIECE_BYTES = 1 << 16
# A peer that had closed a kept connection says so at once; whoever takes longer has read the request.
STALE_SECONDS = 1.0


# A response with nothing in it. Each has its own jar of cookies and history otherwise, which are made and left empty.
_BLANK = vars(requests.Response())


class StaleConnection(ConnectionError):
    """A kept connection ended at once and without a word, as one does that the peer had closed before."""


def _options() -> Options:
    """Socket options; their names differ between systems, Linux has them all."""
    named = [(socket.IPPROTO_TCP, getattr(socket, name, None), value) for name, value in _KEEP_ALIVE.items()]
    return (
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        *((level, name, value) for level, name, value in named if name is not None),
    )


class _Watched(HTTPConnection):
    """What HTTP and HTTPS connections have in common here. `timeout` bounds all of connecting, TLS included."""

    _resolver: Resolver
    _socket_options = _options()
    _connected_at = _used_at = 0.0
    _is_fresh = True
    _head: Any = b""
    _holds_back = False

    def connect(self) -> None:
        """Connect. Whatever goes wrong, nothing was sent, and the errors say so."""
        try:
            with Deadline(float(self.timeout or 0)):
                super().connect()
        except DeadlinePassed:
            raise ConnectTimeoutError(self, "no connection in time") from None
        except (NewConnectionError, ConnectTimeoutError):
            raise
        except (OSError, ValueError, HTTPError) as error:  # of TLS; of a name that is none
            raise NewConnectionError(self, f"no connection: {type(error).__name__}") from error
        self._connected_at = self._used_at = time.monotonic()
        self._is_fresh = True

    def _new_conn(self) -> socket.socket:
        addresses = self._resolver.addresses(self._dns_host, self.port or self.default_port)
        return connect(addresses, self.timeout, self._socket_options)

    @property
    def is_connected(self) -> bool:
        """Whether it may carry another request."""
        now = time.monotonic()
        retired = now > self._connected_at + MAX_AGE_SECONDS or now > self._used_at + MAX_IDLE_SECONDS
        return self.sock is not None and not retired and not is_readable(self.sock)

    def request(self, *arguments: Any, **options: Any) -> None:
        """Send a request, head and body in one piece where that is small: a packet less, and the peer wakes up once."""
        self._head, self._holds_back = b"", True
        super().request(*arguments, **options)

    def send(self, data: Any) -> None:
        """Send what comes, within the time of whoever calls; the head waits for what comes next."""
        if self._holds_back and not self._head:
            self._head = data
            return
        if self.sock is None:
            self.connect()
        self.sock.settimeout(None)  # or that of connecting would hold for a whole body, which may take minutes
        head, self._head, self._holds_back = self._head, b"", False
        if head and len(data) > ONE_PIECE_BYTES:
            super().send(head)
            head = b""
        super().send(head + data if head else data)

    def getresponse(self) -> Any:
        """The response's head. Raises StaleConnection where a kept connection turns out to have been closed."""
        if self._head:
            self.send(b"")
        was_kept, self._is_fresh = not self._is_fresh, False
        asked_at = self._used_at = time.monotonic()
        try:
            response = super().getresponse()
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError) as error:
            if was_kept and time.monotonic() < asked_at + STALE_SECONDS:
                raise StaleConnection from error
            raise
        self._used_at = time.monotonic()
        return response


class _WatchedTLS(_Watched, HTTPSConnection):
    """The same over TLS."""


class Adapter(HTTPAdapter):
    """An adapter of requests; it keeps up to so many connections a service, each watched and not for ever."""

    def __init__(self, connections: int, services: int = 1) -> None:
        super().__init__(pool_connections=services, pool_maxsize=connections)
        self._has_one_pool = services == 1
        self._pool: Any = None
        resolver = Resolver()
        plain = type("Connection", (_Watched,), {"_resolver": resolver})
        tls = type("TLSConnection", (_WatchedTLS,), {"_resolver": resolver})
        self.poolmanager.pool_classes_by_scheme = {
            "http": type("Pool", (HTTPConnectionPool,), {"ConnectionCls": plain}),
            "https": type("TLSPool", (HTTPSConnectionPool,), {"ConnectionCls": tls}),
        }

    def get_connection_with_tls_context(self, request: Any, verify: Any, proxies: Any = None, cert: Any = None) -> Any:
        """The service's pool. Where there is one service it is kept: finding it takes as long as using it."""
        if self._pool is None or not self._has_one_pool:
            self._pool = super().get_connection_with_tls_context(request, verify, proxies, cert)
        return self._pool

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Have the pool trust who is to be trusted. Raises NewConnectionError where the file of those is gone."""
        try:
            super().cert_verify(conn, url, verify, cert)  # type: ignore[no-untyped-call]
        except OSError as error:
            raise NewConnectionError(conn, "no connection: no file of authorities") from error

    def request_url(self, request: Any, proxies: Any) -> str:  # noqa: ARG002
        """What is asked for. No proxy is looked for, since there is none."""
        url: str = request.path_url
        return url

    def build_response(self, req: Any, resp: Any) -> requests.Response:
        """The response without cookies, which nobody keeps; its headers are urllib3's, which know no case either."""
        response = requests.Response.__new__(requests.Response)
        vars(response).update(_BLANK)
        response.status_code, response.headers, response.raw = resp.status, resp.headers, resp
        response.url = req.url
        return response

    def drop_kept(self) -> None:
        """Close the connections that wait for their next request."""
        self._pool = None
        self.poolmanager.clear()

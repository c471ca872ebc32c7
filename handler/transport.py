"""HTTP/1.1 under requests: an adapter whose exchanges run on the event loop, each within one absolute deadline.

requests' own adapter waits in the caller's thread, read by read: its timeout starts anew with every byte. This one is
told when an exchange must be over, from looking up the name to the last byte, and says how far a failed one had come:

    requests.RequestException
    ├── requests.Timeout
    │   ├── requests.ConnectTimeout   no connection in time: nothing was sent
    │   └── requests.ReadTimeout      the deadline passed
    └── requests.ConnectionError      the exchange broke; the service may have worked on the request
        ├── requests.exceptions.SSLError    the peer cannot be trusted: nothing was sent
        ├── NotConnected              nobody listens, or the name is not known: nothing was sent
        ├── Stale                     a kept connection had been closed: the request was most likely not read
        └── Aborted                   by `LoopAdapter.abort`

No proxy is used, no redirect followed, no cookie kept, and no body unpacked.
"""

import asyncio
import socket
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache, partial
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import certifi
import httptools
import requests
from requests.adapters import BaseAdapter
from requests.cookies import RequestsCookieJar
from requests.structures import CaseInsensitiveDict

from handler import eventloop

MAX_HEAD_BYTES = 1 << 16
MAX_HEADERS = 100
_WIRE_FACTOR = 4  # chunk sizes, trailers and interim responses come on top of a body
_LOOK_UP_SECONDS = 1.0  # for which the addresses of a name are used again
_STALE_SECONDS = 1.0  # in which a peer that had closed a kept connection says so
_ONE_PIECE_BYTES = 1 << 16  # a body up to this size goes out in one piece with its head


class NotConnected(requests.ConnectionError):
    """There is no connection to be had. Nothing was sent."""


class Stale(requests.ConnectionError):
    """A kept connection ended at once and without a word, as one does that the peer had closed before."""


class Aborted(requests.ConnectionError):
    """Ended by this process."""


class Response(requests.Response):
    """A response that is all there. `truncated` says that its body went on beyond the adapter's limit."""

    def __init__(self, request: requests.PreparedRequest, received: "_Received") -> None:
        # Not the parent's, which makes a cookie jar, for a third of the time that all of an exchange takes.
        self._content = received.body  # where requests keeps a body that was read
        self._content_consumed = True
        self._next = None
        self.truncated = received.truncated
        self.status_code = received.status
        self.reason = _PHRASES.get(received.status, "")
        self.headers = CaseInsensitiveDict(
            (name.decode("latin-1"), value.decode("latin-1")) for name, value in received.headers
        )
        self.raw = self.encoding = None
        self.url = request.url or ""
        self.request = request
        self.history = []
        self.elapsed = timedelta(0)
        self.cookies = _NO_COOKIES


_PHRASES = {status.value: status.phrase for status in HTTPStatus}
_NO_COOKIES = RequestsCookieJar()


class LoopAdapter(BaseAdapter):
    """Sends requests from any thread or greenlet, over connections that are kept open."""

    def __init__(self, max_body_bytes: int) -> None:
        """Read no more than `max_body_bytes` of a body."""
        super().__init__()
        self._max_body_bytes = max_body_bytes
        self._pools: dict[tuple[_Origin, bool | str], _Pool] = {}
        self._aborted = False

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,  # noqa: ARG002 - nothing is streamed
        timeout: float | tuple[float, float] | tuple[float, None] | None = None,
        verify: bool | str = True,
        cert: Any = None,  # noqa: ARG002
        proxies: Mapping[str, str] | None = None,  # noqa: ARG002 - none is used
    ) -> Response:
        """Send a request, whose body is bytes or None, and return the whole response.

        `timeout` is (seconds for connecting, seconds for everything), or the latter. Raises what the module's docstring
        lists. `verify` is True for the public authorities or the PEM file of others.
        """
        connect, total = timeout if isinstance(timeout, tuple) else (timeout, timeout)
        if connect is None or total is None:
            raise ValueError("an exchange without a deadline could take for ever: give a timeout")
        target = _target(str(request.url))
        exchange = _Exchange(_head(request, target), _body(request), total, min(connect, total), self._max_body_bytes)
        outcome = eventloop.get().wait(partial(self._begin, exchange, (target.origin, verify)))
        if isinstance(outcome, Exception):
            raise outcome
        return Response(request, outcome)

    def _begin(self, exchange: "_Exchange", key: "tuple[_Origin, bool | str]", done: "_Done") -> None:
        if self._aborted:
            done(Aborted("the process is about to end"))
            return
        try:
            pool = self._pools.get(key) or self._pools.setdefault(key, _Pool(*key))
        except OSError as error:  # of reading the authorities' file: ssl.SSLError is one too
            done(requests.exceptions.SSLError(f"the authorities cannot be read: {error}"))
        else:
            pool.begin(exchange, done)

    def abort(self) -> None:
        """End every exchange under way, and all that are still to begin."""
        eventloop.get().call(self._abort)

    def _abort(self) -> None:
        self._aborted = True
        for pool in self._pools.values():
            pool.abort()

    def close(self) -> None:
        """End everything, as `abort` does."""
        self.abort()


class _Origin(NamedTuple):
    """Where a connection goes."""

    secure: bool
    host: str
    port: int


class _Target(NamedTuple):
    origin: _Origin
    netloc: str
    path: str


@lru_cache(1024)
def _target(url: str) -> _Target:
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    origin = _Origin(secure, parts.hostname or "", parts.port or (443 if secure else 80))
    return _Target(origin, parts.netloc, (parts.path or "/") + (f"?{parts.query}" if parts.query else ""))


def _head(request: requests.PreparedRequest, target: _Target) -> bytes:
    lines = [f"{request.method} {target.path} HTTP/1.1", f"Host: {target.netloc}"]
    lines += [f"{name}: {value}" for name, value in request.headers.items() if name != "Content-Length"]
    if request.body is not None:
        lines.append(f"Content-Length: {len(request.body)}")
    return "\r\n".join((*lines, "", "")).encode("latin-1")


def _body(request: requests.PreparedRequest) -> bytes:
    if request.body is not None and not isinstance(request.body, bytes):
        raise TypeError("the body has to be bytes")
    return request.body or b""


@dataclass(slots=True)
class _Received:
    """A response, as far as it has come."""

    status: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    head_bytes: int = 0
    chunks: list[bytes] = field(default_factory=list)
    body_bytes: int = 0
    truncated: bool = False

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    def header(self, name: bytes) -> bytes | None:
        return next((value for one, value in self.headers if one.lower() == name), None)


_Addresses = Sequence[tuple[Any, ...]]  # as getaddrinfo has them
_Done = Callable[[_Received | Exception], None]


@dataclass(slots=True, eq=False)
class _Exchange:
    """A request, its deadline, and how far it has come. The loop's thread's alone once it has begun."""

    head: bytes
    body: bytes
    seconds: float
    connect_seconds: float
    max_body_bytes: int
    begun: float = field(default_factory=time.monotonic)
    received: _Received = field(default_factory=_Received)
    wire_bytes: int = 0
    reused: bool = False  # its connection has served another before
    sent: bool = False  # something of the request has gone
    connection: "_Connection | None" = None
    timer: asyncio.TimerHandle | None = None
    done: _Done | None = None

    def end(self, outcome: "_Received | Exception") -> None:
        """Report the outcome, unless one was reported before."""
        done, self.done = self.done, None
        if done is None:
            return
        if self.timer is not None:
            self.timer.cancel()
        self.connection = None
        done(outcome)

    def broken(self, why: str) -> Exception:
        """What the end of its connection means."""
        at_once = time.monotonic() - self.begun < _STALE_SECONDS
        # Later than that the service did read the request, and went down over it.
        return (Stale if self.reused and not self.wire_bytes and at_once else requests.ConnectionError)(why)


class _Pool:
    """The connections to one origin. The loop's thread's alone."""

    def __init__(self, origin: _Origin, verify: bool | str) -> None:
        self._origin = origin
        self._context = _context(verify) if origin.secure else None
        self._idle: list[_Connection] = []  # the last used at the end: the others are left to be closed by the peer
        self._exchanges: set[_Exchange] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = eventloop.get().asyncio
        self._look_up: asyncio.Task[_Addresses] | None = None
        self._look_up_at = 0.0

    def begin(self, exchange: _Exchange, done: _Done) -> None:
        """Send a request over a kept connection, or a new one."""
        self._exchanges.add(exchange)
        exchange.done = partial(self._end, exchange, done)
        exchange.timer = self._loop.call_later(exchange.seconds, self._expire, exchange)
        kept = self._kept()
        if kept is not None:
            exchange.reused = True
            kept.begin(exchange)
        else:
            task = self._loop.create_task(self._connect(exchange))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _kept(self) -> "_Connection | None":
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closing:
                return connection
        return None

    def _end(self, exchange: _Exchange, done: _Done, outcome: _Received | Exception) -> None:
        self._exchanges.discard(exchange)
        done(outcome)

    def _expire(self, exchange: _Exchange) -> None:
        connection = exchange.connection
        exchange.end(requests.ReadTimeout("the deadline passed") if exchange.sent else _CONNECT_TIMEOUT())
        if connection is not None:
            connection.cut()

    async def _connect(self, exchange: _Exchange) -> None:
        try:
            connection = await self._connected(exchange.connect_seconds)
        except TimeoutError:
            exchange.end(_CONNECT_TIMEOUT())
        except ssl.SSLError as error:
            exchange.end(requests.exceptions.SSLError(str(error)))
        except OSError as error:
            exchange.end(NotConnected(str(error)))
        else:
            if exchange.done is None:
                connection.cut()
            else:
                connection.begin(exchange)

    async def _connected(self, seconds: float) -> "_Connection":
        """Try the addresses of the host in turn, each for `seconds`."""
        async with asyncio.timeout(seconds):
            addresses = await self._addresses()
        for number, (*_, address) in enumerate(addresses, 1):
            try:
                async with asyncio.timeout(seconds):
                    return await self._connected_to(address[0])
            except OSError:  # TimeoutError too
                if number == len(addresses):
                    raise
        raise OSError("the name has no address")

    async def _addresses(self) -> "_Addresses":
        """What the name stands for, asked once for all who connect at this moment: few look-ups run at a time."""
        if self._look_up is None or (self._look_up_at < time.monotonic() - _LOOK_UP_SECONDS and self._look_up.done()):
            self._look_up_at = time.monotonic()
            asked = self._loop.getaddrinfo(self._origin.host, self._origin.port, type=socket.SOCK_STREAM)
            self._look_up = self._loop.create_task(asked)
            self._look_up.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        return await asyncio.shield(self._look_up)

    async def _connected_to(self, address: str | int) -> "_Connection":
        _, connection = await self._loop.create_connection(
            partial(_Connection, self),
            str(address),
            self._origin.port,
            ssl=self._context,
            server_hostname=self._origin.host if self._context else None,
        )
        return connection

    def keep(self, connection: "_Connection") -> None:
        """Take back a connection for the next request."""
        self._idle.append(connection)

    def forget(self, connection: "_Connection") -> None:
        """A connection has ended."""
        if connection in self._idle:
            self._idle.remove(connection)

    def abort(self) -> None:
        """End everything."""
        for exchange in tuple(self._exchanges):
            connection = exchange.connection
            exchange.end(Aborted("the process is about to end"))
            if connection is not None:
                connection.cut()


_CONNECT_TIMEOUT = partial(requests.ConnectTimeout, "no connection in time")


def _context(verify: bool | str) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=verify if isinstance(verify, str) else certifi.where())


class _Connection(asyncio.Protocol):
    """One connection, with one exchange at a time."""

    def __init__(self, pool: _Pool) -> None:
        self._pool = pool
        self._exchange: _Exchange | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        _keep_alive(transport.get_extra_info("socket"))

    @property
    def is_closing(self) -> bool:
        return bool(self._transport.is_closing())

    def begin(self, exchange: _Exchange) -> None:
        self._exchange = exchange
        exchange.connection = self
        exchange.sent = True
        if len(exchange.body) < _ONE_PIECE_BYTES:
            self._transport.write(exchange.head + exchange.body)
        else:
            self._transport.write(exchange.head)
            self._transport.write(exchange.body)

    def cut(self) -> None:
        """End the connection at once, without a word to anybody."""
        self._exchange = None
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None:  # nothing was asked
            self.cut()
            return
        exchange.wire_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, _TooMuch, httptools.HttpParserUpgrade) as error:
            self._fail(f"not an HTTP response: {type(error).__name__}")
        else:
            if exchange is self._exchange and exchange.wire_bytes > _WIRE_FACTOR * exchange.max_body_bytes:
                self._fail("the service sends without end")

    def eof_received(self) -> None:
        # A response that does not say how long it is ends with its connection.
        if self._exchange is not None and self._exchange.received.status and self._is_endless(self._exchange.received):
            self._complete(keep=False)

    def _is_endless(self, received: _Received) -> bool:
        return received.header(b"content-length") is None and received.header(b"transfer-encoding") is None

    def connection_lost(self, error: Exception | None) -> None:
        self._pool.forget(self)
        if self._exchange is not None:
            self._fail(f"the connection ended: {error or 'closed by the service'}")

    def _fail(self, why: str) -> None:
        exchange, self._exchange = self._exchange, None
        self._transport.abort()
        if exchange is not None:
            exchange.end(exchange.broken(why))

    def _complete(self, *, keep: bool) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is None:
            return
        if keep:
            self._pool.keep(self)
        else:
            self._transport.abort()
        exchange.end(exchange.received)

    # --- What the parser calls. What these raise, it raises.

    def on_message_begin(self) -> None:
        if self._exchange is None:  # a response too many
            raise _TooMuch
        self._exchange.received = _Received()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._exchange is None:
            return
        received = self._exchange.received
        received.headers.append((name, value))
        received.head_bytes += len(name) + len(value)
        if received.head_bytes > MAX_HEAD_BYTES or len(received.headers) > MAX_HEADERS:
            raise _TooMuch

    def on_headers_complete(self) -> None:
        if self._exchange is not None:
            self._exchange.received.status = self._parser.get_status_code()

    def on_body(self, data: bytes) -> None:
        if self._exchange is None:
            return
        received = self._exchange.received
        left = self._exchange.max_body_bytes - received.body_bytes
        received.chunks.append(data[:left] if len(data) > left else data)
        received.body_bytes += len(data)
        if len(data) > left:
            received.truncated = True
            self._complete(keep=False)

    def on_message_complete(self) -> None:
        if self._exchange is None:
            return
        received = self._exchange.received
        if received.status < 200:  # an interim response: the real one is still to come
            received.status = 0
            return
        self._complete(keep=self._parser.should_keep_alive() and self._is_sent(self._exchange))

    def _is_sent(self, exchange: _Exchange) -> bool:
        """Whether all of the request has gone. What has not would be in the way of the next one."""
        # With TLS some may wait below what is asked here; who refuses a large body may not have read it.
        refused = exchange.received.status >= 400 and len(exchange.body) > _ONE_PIECE_BYTES
        return not (refused or self._transport.get_write_buffer_size())


class _TooMuch(Exception):
    """More than an answer can have."""


def _keep_alive(connection: socket.socket) -> None:
    """TCP keep-alive: a NAT or load balancer forgets idle connections after some minutes without telling anybody."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # The names differ between systems; Linux has them all.
    for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

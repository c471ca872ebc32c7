"""HTTP/1.1 as the service speaks it to whoever pushes: one connection, its requests one after the other.

A WSGI application is called in a greenlet for each request, as soon as the head is there: it may refuse before the body
has come. Waiting for a peer takes a connection and a bounded buffer, however slowly and however much is sent.
"""

import asyncio
import io
import logging
import sys
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import lru_cache, partial
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote_to_bytes

import httptools

from handler.eventloop import EventLoop

HEAD_SECONDS = 5.0  # for the head of a request from its first byte; Pub/Sub's come in one packet or two
LINGER_SECONDS = 2.0  # for a peer to close, so that it reads its response and not a reset (RFC 9112 9.6)
SEND_SECONDS = 10.0  # for a peer to take its responses
IDLE_SECONDS = 620.0  # above the 600 s for which Google's front ends keep connections: who forgets first resets
SWEEP_SECONDS = 10.0
MAX_TARGET_BYTES = 1 << 13
MAX_HEAD_BYTES = 1 << 16
MAX_HEADERS = 100
MAX_PIPELINED = 100  # requests that are sent before the one before them is answered; Pub/Sub sends none
_CACHED_NAME_BYTES = 64
_UNREAD_BYTES = 1 << 16  # of a body before somebody reads it; the rest stays with the peer
_CLOSE = [("Connection", "close")]
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one server takes: connections, and the bytes and seconds of one body."""

    connections: int
    body_bytes: int
    body_seconds: float


class Server:
    """What the connections of one listening address share. The loop's thread's alone."""

    def __init__(self, application: Application, bounds: Bounds, loop: EventLoop, port: int = 0) -> None:
        self.application = application
        self.bounds = bounds
        self.loop = loop
        self.busy = 0  # requests that are being answered
        self.draining = False
        self.environ = _environ(port)
        self._connections: set[_Connection] = set()
        self._idle: OrderedDict[_Connection, float] = OrderedDict()  # since when; the longest first
        self._on_idle: Callable[[], None] = lambda: None

    def connection(self) -> "_Connection":
        """Make the protocol of a new connection."""
        return _Connection(self)

    def add(self, connection: "_Connection") -> None:
        """Count a connection; where there are too many, those that have been silent the longest make room."""
        self._connections.add(connection)
        self.note_idle(connection)
        if len(self._connections) > self.bounds.connections:
            next(iter(self._idle)).cut()

    def forget(self, connection: "_Connection") -> None:
        """A connection has ended."""
        self._connections.discard(connection)
        self._idle.pop(connection, None)

    def note_idle(self, connection: "_Connection") -> None:
        """A connection has nothing to do, since now or for some time already."""
        self._idle.setdefault(connection, time.monotonic())

    def note_busy(self, connection: "_Connection") -> None:
        """A request has come over a connection."""
        self._idle.pop(connection, None)

    def begun(self) -> None:
        """A request is being answered."""
        self.busy += 1

    def ended(self) -> None:
        """A request is answered."""
        self.busy -= 1
        if self.draining and not self.busy:
            on_idle, self._on_idle = self._on_idle, lambda: None
            self.loop.asyncio.call_soon(on_idle)

    def drain(self, on_idle: Callable[[], None]) -> None:
        """Let each connection end with its next response, and call `on_idle` once nothing is being answered."""
        self.draining = True
        if self.busy:
            self._on_idle = on_idle
        else:
            on_idle()

    def sweep(self) -> None:
        """End the connections that have been silent for too long."""
        while self._idle and next(iter(self._idle.values())) < time.monotonic() - IDLE_SECONDS:
            next(iter(self._idle)).cut()

    def close(self) -> None:
        """End every connection, after what is being sent."""
        for connection in tuple(self._connections):
            connection.close()


def _environ(port: int) -> Mapping[str, Any]:
    """What is the same in every WSGI environment."""
    return {
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
        "SCRIPT_NAME": "",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": str(port),
    }


class Refused(Exception):
    """What was sent is no request that could be answered by the application. `status` says why."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class _Body(io.RawIOBase):
    """A request's body, as it arrives. Whoever reads it waits until it is there, or too long to be wanted."""

    def __init__(self, connection: "_Connection") -> None:
        self._connection = connection
        self._chunks: list[bytes] = []
        self._whole: io.BytesIO | None = None
        self._done: Callable[[None], None] | None = None
        self._ends = time.monotonic() + connection.server.bounds.body_seconds
        self.size = 0
        self.is_complete = False
        self.is_wanted = False
        self.problem = ""

    def feed(self, data: bytes) -> None:
        """Take what has arrived."""
        if self.is_full:
            return
        self._chunks.append(data)
        self.size += len(data)
        if self.is_full:
            self._notify()

    @property
    def is_full(self) -> bool:
        """Whether there is more than is taken."""
        return self.size > self._connection.server.bounds.body_bytes

    def complete(self) -> None:
        """It has ended as it should."""
        self.is_complete = True
        self._notify()

    def fail(self, problem: str) -> None:
        """It will never be whole."""
        if not self.is_complete:
            self.problem = self.problem or problem
            self._notify()

    def _notify(self) -> None:
        done, self._done = self._done, None
        if done is not None:
            done(None)

    def _is_settled(self) -> bool:
        return self.is_complete or self.is_full or bool(self.problem)

    def _wait(self) -> None:
        self.is_wanted = True
        left = self._ends - time.monotonic()
        loop = self._connection.server.loop

        def begin(done: Callable[[None], None]) -> None:
            self._done = done
            self._connection.wanted()
            if self._is_settled():
                self._notify()

        timer = loop.asyncio.call_later(max(0.0, left), self.fail, "it took too long")
        loop.wait(begin)
        timer.cancel()

    def _read_whole(self) -> io.BytesIO:
        if self._whole is None:
            if not self._is_settled():
                self._wait()
            if self.problem and not self.is_complete:
                raise ConnectionAbortedError(self.problem)
            self._whole = io.BytesIO(self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks))
            self._chunks.clear()
        return self._whole

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        whole = self._read_whole()
        data = whole.read(size)
        if whole.tell() == self.size:  # it may be large, and nobody asks for it again
            self._whole = io.BytesIO()
        return data

    def readline(self, size: int | None = -1) -> bytes:
        return self._read_whole().readline(size)


@dataclass(slots=True, eq=False)
class _Request:
    """A request, as far as its head has come."""

    body: _Body
    method: str = ""
    target: bytes = b""
    version: str = "1.1"
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    head_bytes: int = 0
    has_head: bool = False
    keep_alive: bool = False

    def values(self, name: bytes) -> list[bytes]:
        """What the header `name`, in small letters, says."""
        return [value for one, value in self.headers if one.lower() == name]


class _Connection(asyncio.Protocol):
    """One connection."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._transport: Any = None
        self._parser = httptools.HttpRequestParser(self)
        self._receiving: _Request | None = None
        self._waiting: deque[_Request | Refused] = deque()  # received, or begun to be, while another is answered
        self._answering: _Request | None = None
        self._head: _Request | None = None  # that is still incomplete, and the bytes that came for it since it began
        self._head_bytes = 0
        self._discarded_bytes = 0
        self._idle_bytes = 0  # that came for a body since some of it last did
        self._timer: asyncio.TimerHandle | None = None  # for a head, or for the peer to close
        self._send_timer: asyncio.TimerHandle | None = None
        self._is_over = False  # nothing is parsed any more
        self._is_half = False  # the peer sends nothing any more
        self._is_blocked = False  # the peer takes nothing
        self._is_paused = False  # we take nothing

    # --- What the loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self.server.add(self)

    def data_received(self, data: bytes) -> None:
        if self._is_over:
            self._discard(len(data))
            return
        body = self._receiving.body if self._receiving is not None else None
        size = body.size if body is not None else 0
        try:
            self._parser.feed_data(data)
            self._check_head(len(data))
            self._check_body(body, size, len(data))
        except httptools.HttpParserUpgrade:
            self._is_over = True  # what follows is no HTTP; the request itself is answered as any other
            self._set_timer(None)
        except (httptools.HttpParserError, Refused) as error:
            self._refuse(_status_of(error))
        self._go_on()
        if self._receiving is None and self._answering is None and not self._waiting:
            self.server.note_idle(self)  # blank lines are not a request
        else:
            self.server.note_busy(self)

    def eof_received(self) -> bool:
        if self._receiving is not None:
            self._receiving.body.fail("it was cut off")
        if self._answering is None and not self._waiting:
            return False
        self._is_over = self._is_half = True
        return True  # they are still answered

    def connection_lost(self, _error: Exception | None) -> None:
        self._is_over = True
        self._set_timer(None)
        if self._send_timer is not None:
            self._send_timer.cancel()
        self.server.forget(self)
        self._waiting.clear()
        for request in (self._receiving, self._answering):
            if request is not None:
                request.body.fail("it was cut off")

    def pause_writing(self) -> None:
        self._is_blocked = True
        self._send_timer = self.server.loop.asyncio.call_later(SEND_SECONDS, self.cut)
        self._set_reading()

    def resume_writing(self) -> None:
        self._is_blocked = False
        if self._send_timer is not None:
            self._send_timer.cancel()
        self._go_on()

    # --- What the parser calls.

    def on_message_begin(self) -> None:
        if len(self._waiting) == MAX_PIPELINED:  # thousands fit in what is received at once, and each takes memory
            raise Refused(429)
        self._receiving = _Request(_Body(self))

    def on_url(self, part: bytes) -> None:
        request = self._request()
        request.target += part
        if len(request.target) > MAX_TARGET_BYTES:
            raise Refused(414)

    def on_header(self, name: bytes, value: bytes) -> None:
        request = self._request()
        request.head_bytes += len(name) + len(value)
        if request.head_bytes > MAX_HEAD_BYTES or len(request.headers) == MAX_HEADERS:
            raise Refused(431)
        if not request.has_head:  # else it is a trailer, which must not be taken for a header (RFC 9110 6.5.1)
            request.headers.append((name, value))

    def on_headers_complete(self) -> None:
        request = self._request()
        request.method = self._parser.get_method().decode("latin-1")
        request.version = self._parser.get_http_version()
        request.keep_alive = self._parser.should_keep_alive()
        _check_coding(request)
        request.has_head = True
        self._waiting.append(request)

    def on_body(self, data: bytes) -> None:
        self._request().body.feed(data)

    def on_message_complete(self) -> None:
        self._request().body.complete()
        self._receiving = None

    def _request(self) -> _Request:
        if self._receiving is None:
            raise Refused(400)
        return self._receiving

    # --- What is done with it.

    def _check_head(self, received: int) -> None:
        """Bound the head that is still incomplete, in time, and in bytes even where no header of it has ended."""
        head = self._receiving if self._receiving is not None and not self._receiving.has_head else None
        if head is not self._head:
            self._head, self._head_bytes = head, 0
            self._set_timer(HEAD_SECONDS if head else None, self.cut)
        elif head is not None:
            self._head_bytes += received
            if self._head_bytes > MAX_HEAD_BYTES:
                raise Refused(431)

    def _check_body(self, body: _Body | None, size: int, received: int) -> None:
        """Bound what comes with a body and is none of it: chunks' sizes and trailers that never end."""
        if body is None or body.size > size or body.is_full:
            self._idle_bytes = 0
            return
        self._idle_bytes += received
        if self._idle_bytes > MAX_HEAD_BYTES:
            raise Refused(400)

    def _refuse(self, status: int) -> None:
        """What came is no HTTP, or too much. Nothing that follows can be told apart."""
        self._is_over = True
        self._set_timer(None)
        if self._receiving is not None and self._receiving.has_head:
            self._receiving.body.fail("it is malformed")  # its application answers
        else:
            self._waiting.append(Refused(status))

    def _go_on(self) -> None:
        """Answer the next request, if there is one and nothing stands in the way."""
        while self._waiting and self._answering is None and not self._is_blocked:
            request = self._waiting.popleft()
            if isinstance(request, Refused):
                self._write(_simple(request.status))
                self._hang_up()
            else:
                self._answering = request
                self.server.begun()
                self.server.loop.spawn(partial(self._answer, request))
        self._set_reading()

    def _answer(self, request: _Request) -> None:
        """In a greenlet: call the application and send what it says."""
        try:
            status, headers, body = _run(self.server.application, self._environ(request))
        except Exception:  # noqa: BLE001
            _log.exception("a bug: please report it with this traceback")
            status, headers, body = "500 Internal Server Error", [], b""
        last = self._is_last(request)
        headers = [*headers, *_connection_headers(request, last=last)]
        self._write(_encode(status, headers, body, bodiless=request.method == "HEAD"))
        self.server.loop.asyncio.call_soon(self._answered, last)

    def _is_last(self, request: _Request) -> bool:
        # A body that nobody read to its end must not be taken for the next request.
        goes_on = request.keep_alive and request.body.is_complete and not self.server.draining
        return not goes_on or (self._is_over and not self._waiting)

    def _answered(self, last: bool) -> None:
        self._answering = None
        self.server.ended()
        if self._transport.is_closing():
            return
        if last or (self._is_over and not self._waiting):  # which it may be since the response was made
            self._waiting.clear()
            self._hang_up()
        elif self._waiting:
            self._go_on()
        elif self._receiving is None:
            self.server.note_idle(self)

    def _environ(self, request: _Request) -> dict[str, Any]:
        path, _, query = _origin_form(request.target).partition(b"?")
        environ = {
            **self.server.environ,
            "wsgi.input": request.body,
            "REQUEST_METHOD": request.method,
            "PATH_INFO": (unquote_to_bytes(path) if b"%" in path else path).decode("latin-1"),
            "QUERY_STRING": query.decode("latin-1"),
            "RAW_URI": request.target.decode("latin-1"),
            "SERVER_PROTOCOL": f"HTTP/{request.version}",
        }
        for name, value in request.headers:
            key = _key(name)
            if key:
                text = value.decode("latin-1")
                environ[key] = f"{environ[key]},{text}" if key in environ else text
        return environ

    def wanted(self) -> None:
        """The application reads the body."""
        request = self._answering
        if request is not None and not request.body.is_complete and _expects_continue(request):
            self._write(_CONTINUE)
        self._set_reading()

    def _set_reading(self) -> None:
        """Read only what is wanted: more stays with the peer, and costs no memory here."""
        receiving = self._receiving
        unread = receiving is not None and not receiving.body.is_wanted and receiving.body.size > _UNREAD_BYTES
        full = receiving is not None and receiving.body.is_full
        pause = bool(self._waiting or self._is_blocked or unread or full) and not self._is_over
        if pause != self._is_paused and not self._transport.is_closing():
            self._is_paused = pause
            (self._transport.pause_reading if pause else self._transport.resume_reading)()

    def _discard(self, size: int) -> None:
        self._discarded_bytes += size
        if self._discarded_bytes > self.server.bounds.body_bytes:
            self.cut()

    def _write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)

    def _hang_up(self) -> None:
        """End the connection, but let the peer read what was sent; what it still sends is thrown away."""
        self._is_over = True
        if self._is_half:
            self._set_timer(SEND_SECONDS, self.cut)
            self.close()
            return
        with suppress(OSError, RuntimeError):
            self._transport.write_eof()
        self._set_reading()
        self._set_timer(LINGER_SECONDS, self.cut)

    def _set_timer(self, seconds: float | None, action: Callable[[], None] | None = None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.server.loop.asyncio.call_later(seconds, action) if seconds and action else None

    def cut(self) -> None:
        """End the connection at once."""
        self._is_over = True
        self.server.forget(self)
        self._transport.abort()

    def close(self) -> None:
        """End the connection after what is being sent."""
        self._transport.close()


def _status_of(error: Exception) -> int:
    cause = error if isinstance(error, Refused) else error.__context__
    return cause.status if isinstance(cause, Refused) else 400


def _check_coding(request: _Request) -> None:
    codings = request.values(b"transfer-encoding")
    if not codings:
        return
    if len(codings) > 1 or request.version == "1.0" or request.values(b"content-length"):
        raise Refused(400)
    if codings[0].lower() != b"chunked":
        raise Refused(400 if b"," in codings[0] else 501)


def _expects_continue(request: _Request) -> bool:
    return request.version != "1.0" and any(value.lower() == b"100-continue" for value in request.values(b"expect"))


def _origin_form(target: bytes) -> bytes:
    """The path and query of a target; `http://host/path` is allowed too (RFC 9112 3.2.2)."""
    if target.startswith(b"/") or b"://" not in target:
        return target
    _, _, rest = target.partition(b"://")
    return b"/" + rest.partition(b"/")[2]


def _key(name: bytes) -> str:
    """A header's name in the WSGI environment; empty for one that would be taken for another's."""
    # Long ones, which nobody sends for good reasons, would hold their memory in the cache.
    return _made_key(name) if len(name) <= _CACHED_NAME_BYTES else _made_key.__wrapped__(name)


@lru_cache(1024)
def _made_key(name: bytes) -> str:
    if b"_" in name:
        return ""
    key = name.decode("latin-1").upper().replace("-", "_")
    return key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"


def _run(application: Application, environ: dict[str, Any]) -> tuple[str, list[tuple[str, str]], bytes]:
    """Call a WSGI application: status, headers and the whole body."""
    started: list[Any] = []

    def start_response(status: str, headers: list[tuple[str, str]], _error: Any = None) -> Callable[[bytes], Any]:
        started[:] = [status, headers]
        return chunks.append

    chunks: list[bytes] = []
    result = application(environ, start_response)
    try:
        chunks.extend(result)
    finally:
        close = getattr(result, "close", None)
        if close is not None:
            close()
    return started[0], started[1], b"".join(chunks)


def _connection_headers(request: _Request, *, last: bool) -> list[tuple[str, str]]:
    if last:
        return _CLOSE
    return [("Connection", "keep-alive")] if request.version == "1.0" else []


def _encode(status: str, headers: list[tuple[str, str]], body: bytes, *, bodiless: bool = False) -> bytes:
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers), f"Date: {_date(int(time.time()))}"]
    has_length = any(name.lower() == "content-length" for name, _ in headers)
    if not (has_length or status.startswith(("1", "204", "304"))):
        lines.append(f"Content-Length: {len(body)}")
    head = "\r\n".join((*lines, "", "")).encode("latin-1")
    return head if bodiless else head + body


@lru_cache(2)
def _date(seconds: int) -> str:
    return formatdate(seconds, usegmt=True)


def _simple(status: int) -> bytes:
    phrase = HTTPStatus(status).phrase
    return _encode(f"{status} {phrase}", [("Content-Type", "text/plain"), *_CLOSE], phrase.encode())

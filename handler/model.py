"""The model service over HTTP: one call, one ModelReply or ModelFailure, within one absolute deadline.

The only module that imports requests. It uses requests' adapter and not its Session, which would read proxies and
passwords from the environment, follow redirects' bodies and keep cookies.
"""

import io
import logging
import re
import socket
import threading
import time
import weakref
from collections.abc import Mapping
from contextlib import closing, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPResponse
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection

from handler.config import Settings
from handler.outcome import ModelFailure, ModelReply

# What Pub/Sub takes in one publish request; a larger body could not be passed on.
MAX_BODY_BYTES = 10_000_000
# Headers, chunk sizes and trailers come on top; a service that sends more than this is not sending an answer.
_MAX_WIRE_BYTES = 4 * MAX_BODY_BYTES
_CHUNK_BYTES = 1 << 18
_STALE_SECONDS = 1.0  # in which a peer that had closed a kept connection says so

_log = logging.getLogger(__name__)

# requests' and urllib3's exceptions, most specific first; whatever is not listed broke an exchange under way.
FAILURES: tuple[tuple[type[Exception], ModelFailure], ...] = (
    (requests.exceptions.ConnectTimeout, ModelFailure.UNREACHABLE),
    (urllib3.exceptions.ConnectTimeoutError, ModelFailure.UNREACHABLE),
    (requests.exceptions.SSLError, ModelFailure.UNREACHABLE),
    (requests.exceptions.Timeout, ModelFailure.TIMEOUT),
    (urllib3.exceptions.TimeoutError, ModelFailure.TIMEOUT),
    (requests.exceptions.RequestException, ModelFailure.BROKEN),
    (urllib3.exceptions.HTTPError, ModelFailure.BROKEN),
)
_ERRORS = tuple({error for error, _ in FAILURES})


class _Call(threading.local):
    """The call that a thread is making, as far as its connection has to know of it."""

    begun = 0.0  # this and `deadline` on the monotonic clock
    deadline = 0.0
    reused = False  # its connection has served a call before
    sent = False  # something of the request has gone
    received = False  # something of the response has come

    def begin(self, seconds: float) -> None:
        self.begun = time.monotonic()
        self.deadline = self.begun + seconds
        self.reused = self.sent = self.received = False


_call = _Call()


class ModelService:
    """Calls the model service; one instance serves all threads and keeps their connections open."""

    def __init__(self, settings: Settings) -> None:
        self._url = settings.model_url
        self._connect_seconds = settings.connect_timeout_seconds
        self._verify = settings.model_ca_file or True
        self._headers = _headers(settings)
        self._adapter = _Adapter(pool_connections=1, pool_maxsize=settings.concurrency)
        self._ended = threading.Event()

    def call(self, path: str, body: bytes, seconds: float) -> ModelReply | ModelFailure:
        """POST `body` to `path`, within `seconds` from now for everything: connecting, sending and the last byte."""
        return self._send(requests.Request("POST", self._url + path, headers=self._headers, data=body), seconds)

    def probe(self, path: str, seconds: float) -> ModelReply | ModelFailure:
        """GET `path`: for checking the settings, never while serving."""
        return self._send(requests.Request("GET", self._url + path, headers=self._headers), seconds)

    def abort(self) -> None:
        """End every call under way, and all that are still to begin: the process is about to end."""
        self._ended.set()
        with _connections_lock:
            connections = list(_connections)
        for connection in connections:
            connection.shut()

    def _send(self, request: requests.Request, seconds: float) -> ModelReply | ModelFailure:
        if self._ended.is_set():
            return ModelFailure.ABORTED
        if seconds <= 0:
            return ModelFailure.TIMEOUT
        _call.begin(seconds)
        timeout = (min(self._connect_seconds, seconds), seconds)
        try:
            sent = self._adapter.send(request.prepare(), stream=True, timeout=timeout, verify=self._verify)
            with closing(sent) as response:
                return _read(response)
        except _ERRORS as error:
            _log.debug("call of the model failed", extra={"error": type(error).__name__})
            return ModelFailure.ABORTED if self._ended.is_set() else _looked_at(failure_of(error))


def failure_of(error: Exception) -> ModelFailure:
    """What an exception of requests or urllib3 says about the call."""
    if _never_connected(error):
        return ModelFailure.UNREACHABLE
    return next(failure for kind, failure in FAILURES if isinstance(error, kind))


def _looked_at(failure: ModelFailure) -> ModelFailure:
    """What a failure is in the light of how far the call had come."""
    if failure is ModelFailure.UNREACHABLE and _call.sent:
        return ModelFailure.BROKEN
    # Later than that the model service did read the request, and went down over it.
    at_once = time.monotonic() - _call.begun < _STALE_SECONDS
    is_stale = failure is ModelFailure.BROKEN and _call.reused and not _call.received and at_once
    return ModelFailure.STALE if is_stale else failure


def _never_connected(error: Exception) -> bool:
    """Whether nothing was sent. One class of requests' means both "refused" and "hung up"; the reason is below it."""
    reason = getattr(error.args[0], "reason", None) if error.args else None
    return isinstance(reason, urllib3.exceptions.NewConnectionError)


def _read(response: requests.Response) -> ModelReply:
    body = bytearray()
    for chunk in response.raw.stream(_CHUNK_BYTES, decode_content=False):
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            break
    return ModelReply(
        status=response.status_code,
        content_type=response.headers.get("content-type", ""),
        content_encoding=response.headers.get("content-encoding", "").lower(),
        body=bytes(body[:MAX_BODY_BYTES]),
        truncated=len(body) > MAX_BODY_BYTES,
        retry_after=retry_after(response.headers.get("retry-after", "")),
    )


def retry_after(value: str) -> float | None:
    """The seconds that a Retry-After header asks for (RFC 9110 10.2.3); None if it does not say."""
    if re.fullmatch(r"[0-9]{1,9}", value):
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError, OverflowError):  # TypeError: a date without an offset
        return None


def _headers(settings: Settings) -> Mapping[str, str]:
    headers = {
        "Accept": "*/*",
        "Accept-Encoding": "identity",
        "Content-Type": "application/json",
        "User-Agent": "inference-relay",
    }
    if settings.model_api_key:
        headers["Authorization"] = f"Bearer {settings.model_api_key.get_secret_value()}"
    return headers


class _Adapter(HTTPAdapter):
    """requests' adapter over connections that know their deadline and outlive idle periods."""

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, socket_options=_socket_options(), **options)
        self.poolmanager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}


def _socket_options() -> list[tuple[int, int, int]]:
    """TCP keep-alive: a NAT or load balancer forgets idle connections after some minutes without telling anybody."""
    options = [*HTTPConnection.default_socket_options, (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    # The names differ between systems; Linux has them all.
    for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, name):
            options.append((socket.IPPROTO_TCP, getattr(socket, name), value))
    return options


class _DeadlineReader(io.RawIOBase):
    """What a socket receives, until the deadline.

    A socket's timeout starts anew with every read, so that a service which drips a byte a second would never time out;
    here each read gets what is left.
    """

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._socket = connection
        self._raw = connection.makefile("rb", buffering=0)
        self._deadline = deadline
        self._bytes_left = _MAX_WIRE_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        _set_timeout(self._socket, self._deadline)
        size = self._raw.readinto(buffer)
        _call.received = _call.received or bool(size)
        self._bytes_left -= size or 0
        if self._bytes_left < 0:
            raise ConnectionAbortedError("the model service sends without end")
        return size

    def close(self) -> None:
        self._raw.close()
        super().close()


def _set_timeout(connection: socket.socket, deadline: float) -> None:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("the call's deadline has passed")
    connection.settimeout(left)


class _Readable:
    """The part of a socket that HTTPResponse uses."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_DeadlineReader(self._socket, _call.deadline))


class _Response(HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **options: Any) -> None:
        super().__init__(_Readable(sock), *args, **options)  # type: ignore[arg-type]


# Every connection there is, so that they can be ended from another thread.
_connections: "weakref.WeakSet[_Bounded]" = weakref.WeakSet()
_connections_lock = threading.Lock()


class _Bounded:
    """What a connection does differently: sending ends at the call's deadline, and anybody may end it."""

    sock: socket.socket | None
    _fresh = False  # connected, and not used yet

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]
        self._fresh = True

    def request(self, *args: Any, **options: Any) -> None:
        _call.reused = self.sock is not None and not self._fresh
        with _connections_lock:
            _connections.add(self)
        super().request(*args, **options)  # type: ignore[misc]
        self._fresh = False

    def send(self, data: Any) -> None:
        if self.sock is not None:
            _set_timeout(self.sock, _call.deadline)
        super().send(data)  # type: ignore[misc]
        _call.sent = True

    def shut(self) -> None:
        """End whatever is sent or received. Harmless when nothing is."""
        with suppress(OSError, AttributeError):  # AttributeError: it is not connected
            self.sock.shutdown(socket.SHUT_RDWR)  # type: ignore[union-attr]


class _HTTPConnection(_Bounded, HTTPConnection):
    response_class = _Response


class _HTTPSConnection(_Bounded, HTTPSConnection):
    response_class = _Response


class _HTTPPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _HTTPConnection


class _HTTPSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _HTTPSConnection

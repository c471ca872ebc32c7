"""The model service over HTTP: one call, one ModelReply or ModelFailure, within one absolute deadline.

requests prepares a call once for each path and sends it through its adapter. Not through a Session, which would read
proxies and passwords from the environment, follow redirects and keep cookies.
"""

import http.client
import logging
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import requests
from urllib3.exceptions import DecodeError, HTTPError, InvalidChunkLength, InvalidHeader, NewConnectionError

from handler.config.routing import MODEL_FIELD, Route
from handler.frames import let_go
from handler.greenlets import DeadlineCut, DeadlinePassed, Deadlines
from handler.http.adapter import Adapter, StaleConnection
from handler.model.identity import Fixed, Identity, NoToken, access_token, id_token
from handler.rules.message.streamed import Streamed
from handler.rules.verdict.outcome import ModelFailure
from handler.rules.verdict.reply import ModelReply, Overflow

# What Pub/Sub takes in one publish request; a larger body could not be passed on.
MAX_BODY_BYTES = 10_000_000
_READ_BYTES = 1 << 16
_READS_IN_A_ROW = 100  # before others get their turn: a peer that sends fast would never let go

NO_HEADERS: Mapping[str, str] = MappingProxyType({})

_log = logging.getLogger(__name__)

SERVICES = 32  # of a route whose URL depends on the model, how many are kept connections to

# What an exception says about the call, most specific first. Of what is under requests only what it wraps is looked at:
# whether a connection could be had at all, whether a kept one was closed, and whether what came was HTTP. ReadTimeout
# is TCP's own: the peer's host does not acknowledge any more.
FAILURES: tuple[tuple[type[Exception], ModelFailure], ...] = (
    (DeadlinePassed, ModelFailure.TIMEOUT),
    (DeadlineCut, ModelFailure.ABORTED),
    (NoToken, ModelFailure.NO_CREDENTIALS),
    (requests.ConnectTimeout, ModelFailure.UNREACHABLE),
    (NewConnectionError, ModelFailure.UNREACHABLE),
    (requests.exceptions.InvalidURL, ModelFailure.UNREACHABLE),
    (StaleConnection, ModelFailure.STALE),
    (http.client.RemoteDisconnected, ModelFailure.BROKEN),
    (InvalidChunkLength, ModelFailure.GARBLED),
    (http.client.IncompleteRead, ModelFailure.BROKEN),
    (http.client.HTTPException, ModelFailure.GARBLED),
    (InvalidHeader, ModelFailure.GARBLED),
    (DecodeError, ModelFailure.GARBLED),
    (requests.RequestException, ModelFailure.BROKEN),
    (HTTPError, ModelFailure.BROKEN),
)


class ModelService:
    """Calls the model service of a route; one instance serves everybody and keeps its connections open."""

    def __init__(self, route: Route, connect_seconds: float) -> None:
        self._url = route.url
        self._connect_seconds = connect_seconds
        self._verify = route.ca_file or True
        self._headers = _headers(route)
        self._identity = _identity(route)
        self._adapter = Adapter(route.slots, SERVICES if MODEL_FIELD in route.url else 1)
        self._deadlines = Deadlines()
        # Preparing checks and normalises the URL and every header. Only paths that the settings allow come here, and
        # names of models that may stand in a URL.
        self._prepared = lru_cache(64)(self._prepare)

    def call(
        self,
        path: str,
        body: bytes | Streamed,
        seconds: float,
        headers: Mapping[str, str] = NO_HEADERS,
        model: str = "",
        overflow: Overflow | None = None,
    ) -> ModelReply | ModelFailure:
        """POST `body` to `path`, within `seconds` from now for everything: connecting, sending and the last byte.

        `headers` come besides its own; `model` stands for {model} in the route's URL; `overflow` takes a reply that no
        message can hold. What it raises, and what `body` raises, is raised here.
        """
        request = self._with_body(self._prepared("POST", self._at(path, model)), body)
        if headers:
            request.headers.update(headers)
        return self._send(request, seconds, overflow)

    def probe(self, path: str, seconds: float, model: str = "") -> ModelReply | ModelFailure:
        """GET `path`: for checking the settings, never while serving."""
        return self._send(self._with_body(self._prepared("GET", self._at(path, model)), None), seconds)

    def abort(self) -> None:
        """End every call under way, and all that are still to begin: the process is about to end."""
        self._deadlines.cut()

    def _at(self, path: str, model: str) -> str:
        return self._url.replace(MODEL_FIELD, model) + path

    def _prepare(self, method: str, url: str) -> requests.PreparedRequest:
        prepared = requests.Request(method, url, headers=self._headers).prepare()
        # Plain: all names are written in one way here, and requests' own dictionary takes longer to copy than to send.
        prepared.headers = dict(prepared.headers)  # type: ignore[assignment]
        return prepared

    def _with_body(self, prepared: requests.PreparedRequest, body: bytes | Streamed | None) -> requests.PreparedRequest:
        request = requests.PreparedRequest()
        request.method, request.url = prepared.method, prepared.url
        request.headers = prepared.headers.copy()
        if body is not None:
            request.headers["Content-Length"] = str(len(body))
            request.body = body  # type: ignore[assignment]
        if body is not None and not isinstance(body, bytes):
            request.headers["Content-Type"] = body.content_type
        return request

    def _send(
        self, request: requests.PreparedRequest, seconds: float, overflow: Overflow | None = None
    ) -> ModelReply | ModelFailure:
        begun = time.monotonic()
        try:
            with self._deadlines.within(seconds):
                return self._identified(request, seconds, overflow)
        except tuple(kind for kind, _ in FAILURES) as error:
            is_late = isinstance(error, requests.ReadTimeout) and time.monotonic() > begun + seconds
            failure = ModelFailure.TIMEOUT if is_late else failure_of(error)
            let_go(error)
        _log.debug("call of the model failed: %s", failure)
        if failure is ModelFailure.STALE:
            # What one kept connection went through the others most likely did too. The next call gets a new one.
            self._adapter.drop_kept()
        return failure

    def _identified(self, request: requests.PreparedRequest, seconds: float, overflow: Overflow | None) -> ModelReply:
        """The reply to a request that says who asks; a token that is refused is replaced, once."""
        shown = self._identity.headers()
        request.headers.update(shown)
        reply = self._exchange(request, seconds, overflow)
        if reply.status == 401 and self._identity.renew(shown):
            request.headers.update(self._identity.headers())
            return self._exchange(request, seconds, overflow)
        return reply

    def _exchange(self, request: requests.PreparedRequest, seconds: float, overflow: Overflow | None) -> ModelReply:
        # The deadline ends each read that takes this long; where it ends nothing, as in a command, requests does.
        timeout = (self._connect_seconds, seconds + 1)
        response = self._adapter.send(request, stream=True, timeout=timeout, verify=self._verify, proxies={})
        try:
            reply = _read(response, overflow)
            _check_there_is_something(response, reply)
        except BaseException:
            response.raw.close()
            raise
        return reply


def _check_there_is_something(response: requests.Response, reply: ModelReply) -> None:
    """Half a head looks like a whole one where the connection ends: nothing says then how long the body is."""
    is_framed = "content-length" in response.headers or "transfer-encoding" in response.headers
    if not (reply.body or reply.truncated or is_framed):
        raise requests.ConnectionError("the connection ended before anything came of the body")


def _read(response: requests.Response, overflow: Overflow | None) -> ModelReply:
    """The reply, unpacked where it was packed although that was not asked for."""
    body, parts = bytearray(), _parts(response.raw)
    for number, part in enumerate(parts, 1):
        body += part
        if len(body) > MAX_BODY_BYTES:
            return _overflowed(response, _all(body, parts), overflow)
        if number % _READS_IN_A_ROW == 0:
            time.sleep(0)
    return _reply(response, bytes(body))


def _overflowed(response: requests.Response, parts: Iterator[bytes], overflow: Overflow | None) -> ModelReply:
    """The reply without its body, which is stored where there is a place for it."""
    head = _reply(response, b"", truncated=True)
    stored = overflow(head, parts) if overflow else None
    if stored is None:
        response.raw.close()
    return replace(head, stored=stored)


def _all(body: bytearray, parts: Iterator[bytes]) -> Iterator[bytes]:
    """What was read before, which is let go of, and what comes."""
    yield bytes(body)
    body.clear()
    yield from parts


def _parts(raw: Any) -> Iterator[bytes]:
    """The body, as it comes. Of urllib3's response.

    A length that is said twice in one header is understood by urllib3, but not by what is under it, which waits for the
    connection to end.
    """
    if raw.length_remaining is None or raw.headers.get("content-encoding"):
        yield from raw.stream(_READ_BYTES, decode_content=True)
        return
    while raw.length_remaining:
        yield raw.read(min(_READ_BYTES, raw.length_remaining))
    if not raw.closed:
        raw.close()


def failure_of(error: BaseException) -> ModelFailure:
    """What an exception says about the call."""
    causes = tuple(_causes(error))
    return next(failure for kind, failure in FAILURES if any(isinstance(cause, kind) for cause in causes))


def _causes(error: BaseException) -> list[BaseException]:
    """An exception of requests and what it wraps: urllib3's, and in them the socket's."""
    found = [error]
    for cause in found:
        wrapped = (*cause.args, getattr(cause, "reason", None))
        found.extend(one for one in wrapped if isinstance(one, BaseException))
    return found


def _reply(response: requests.Response, body: bytes, *, truncated: bool = False) -> ModelReply:
    headers = response.headers
    encoding = headers.get("content-encoding", "").strip().lower()
    return ModelReply(
        status=response.status_code,
        content_type=headers.get("content-type", ""),
        content_encoding="" if encoding in response.raw.CONTENT_DECODERS else encoding,
        body=body,
        truncated=truncated,
        retry_after=retry_after(headers.get("retry-after", "")),
        waiting=waiting(headers.get("endpoint-load-metrics", "")),
    )


def waiting(load: str) -> int | None:
    """How many requests wait inside the model service, by the load that it reports (ORCA); None if it does not say."""
    found = re.search(r"\bnum_requests_waiting\b\W{1,4}([0-9]{1,6})", load)
    return int(found[1]) if found else None


def retry_after(value: str) -> float | None:
    """The seconds that a Retry-After header asks for (RFC 9110 10.2.3); None if it does not say."""
    if not value:
        return None
    if re.fullmatch(r"[0-9]{1,9}", value):
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError, OverflowError):  # TypeError: a date without an offset
        return None


def _headers(route: Route) -> Mapping[str, str]:
    headers = {
        "Accept": "*/*",
        "Accept-Encoding": "identity",
        "Content-Type": "application/json",
        "User-Agent": "inference-relay",
    }
    if route.adapts:
        headers["endpoint-load-metrics-format"] = "TEXT"
    return headers


def _identity(route: Route) -> Identity:
    if route.auth == "google-id-token":
        return id_token(route.audience)
    if route.auth == "google-access-token":
        return access_token()
    return Fixed(route.api_key.get_secret_value() if route.api_key else None)

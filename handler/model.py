"""The model service over HTTP: one call, one ModelReply or ModelFailure, within one absolute deadline.

The only module that calls by requests. It uses an adapter (handler/transport.py) and not a Session, which would read
proxies and passwords from the environment, follow redirects and keep cookies, for a third of the time a call costs us.
"""

import logging
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache

import requests

from handler.config import Settings
from handler.outcome import ModelFailure, ModelReply
from handler.transport import Aborted, LoopAdapter, NotConnected, Response, Stale

# What Pub/Sub takes in one publish request; a larger body could not be passed on.
MAX_BODY_BYTES = 10_000_000

_log = logging.getLogger(__name__)

# requests' exceptions and those of the adapter, most specific first; what is not listed broke an exchange under way.
FAILURES: tuple[tuple[type[requests.RequestException], ModelFailure], ...] = (
    (requests.ConnectTimeout, ModelFailure.UNREACHABLE),
    (requests.exceptions.SSLError, ModelFailure.UNREACHABLE),
    (NotConnected, ModelFailure.UNREACHABLE),
    (Stale, ModelFailure.STALE),
    (Aborted, ModelFailure.ABORTED),
    (requests.Timeout, ModelFailure.TIMEOUT),
    (requests.RequestException, ModelFailure.BROKEN),
)


class ModelService:
    """Calls the model service; one instance serves everybody and keeps its connections open."""

    def __init__(self, settings: Settings) -> None:
        self._url = settings.model_url
        self._connect_seconds = settings.connect_timeout_seconds
        self._verify = settings.model_ca_file or True
        self._headers = _headers(settings)
        self._adapter = LoopAdapter(MAX_BODY_BYTES)
        # Preparing checks and normalises the URL and every header. Only paths that the settings allow come here.
        self._prepared = lru_cache(64)(self._prepare)

    def call(self, path: str, body: bytes, seconds: float) -> ModelReply | ModelFailure:
        """POST `body` to `path`, within `seconds` from now for everything: connecting, sending and the last byte."""
        prepared, request = self._prepared("POST", path), requests.PreparedRequest()
        request.method, request.url, request.headers = prepared.method, prepared.url, prepared.headers
        request.body = body
        return self._send(request, seconds)

    def probe(self, path: str, seconds: float) -> ModelReply | ModelFailure:
        """GET `path`: for checking the settings, never while serving."""
        return self._send(self._prepared("GET", path), seconds)

    def abort(self) -> None:
        """End every call under way, and all that are still to begin: the process is about to end."""
        self._adapter.abort()

    def _prepare(self, method: str, path: str) -> requests.PreparedRequest:
        return requests.Request(method, self._url + path, headers=self._headers).prepare()

    def _send(self, request: requests.PreparedRequest, seconds: float) -> ModelReply | ModelFailure:
        if seconds <= 0:
            return ModelFailure.TIMEOUT
        try:
            return _reply(self._adapter.send(request, timeout=(self._connect_seconds, seconds), verify=self._verify))
        except requests.RequestException as error:
            failure = failure_of(error)
            _log.debug("call of the model failed: %s", failure)
            return failure


def failure_of(error: requests.RequestException) -> ModelFailure:
    """What an exception of requests says about the call."""
    return next(failure for kind, failure in FAILURES if isinstance(error, kind))


def _reply(response: Response) -> ModelReply:
    headers = response.headers
    return ModelReply(
        status=response.status_code,
        content_type=headers.get("content-type", ""),
        content_encoding=headers.get("content-encoding", "").lower(),
        body=response.content,
        truncated=response.truncated,
        retry_after=retry_after(headers.get("retry-after", "")),
    )


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

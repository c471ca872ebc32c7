"""The public keys that push tokens are signed with: downloaded, cached, and shared by all threads.

A rotation must be noticed without a restart, an endpoint in trouble must neither stop the pushes nor be hammered, and a
stranger's invented key ids must not make this service download without end. The pauses below are chosen for that.
"""

import logging
import re
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from http.client import HTTPException
from socket import SHUT_RDWR, socket
from typing import Protocol
from urllib.parse import urlsplit

import certifi
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from google.auth import crypt
from urllib3 import BaseHTTPResponse
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError

from handler import strictjson

# How long keys count as fresh: what the endpoint says (Google: some hours), within these bounds.
MIN_FRESH_SECONDS = 60.0
MAX_FRESH_SECONDS = 86_400.0
# How much longer they are used when no newer ones can be had. It is as long as a token lives: an outage of the endpoint
# shorter than this stops nothing, and a key that was withdrawn during one is trusted for that long at most.
STALE_SECONDS = 3600.0
# Between downloads for key ids that fresh keys do not have. Issuers publish a key long before they sign with it.
UNKNOWN_KEY_SECONDS = 60.0
# Between downloads while they fail.
RETRY_SECONDS = 5.0

DOWNLOAD_SECONDS = 5.0
MAX_BYTES = 1 << 18  # Google's answer has 5 kB
_CHUNK_BYTES = 1 << 16
MIN_KEY_BITS = 2048  # RFC 7518 3.3

_HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "inference-relay"}
_MAX_AGE = re.compile(r'(?:^|,)\s*max-age\s*=\s*"?([0-9]{1,12})"?\s*(?:,|$)', re.IGNORECASE)

_log = logging.getLogger(__name__)


class KeysUnavailable(Exception):
    """The keys could not be had. The message says why, for the operator; it quotes nothing that was downloaded."""


class Key(Protocol):
    """A public key, as google-auth wraps it."""

    def verify(self, message: bytes, signature: bytes) -> bool:
        """Whether `signature` is this key's RS256 signature of `message`."""
        ...


@dataclass(frozen=True, slots=True)
class KeysResponse:
    """What the endpoint answered: its body, and the seconds for which it may be cached."""

    body: bytes
    fresh_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class _State:
    """What is known at one moment; times are the clock's. A new one takes its place after each download."""

    keys: Mapping[str, Key] = field(default_factory=dict)
    fetched_at: float = 0.0
    fresh_until: float = 0.0
    tried_at: float = float("-inf")
    problem: str = "were never fetched"  # empty after a download that succeeded

    def due(self, kid: str, now: float) -> bool:
        """Whether to download before looking for `kid`."""
        # After the clock was set back nobody knows how old the keys are: the first halves of both comparisons.
        fresh = self.fetched_at <= now < self.fresh_until
        pause = UNKNOWN_KEY_SECONDS if fresh else RETRY_SECONDS
        return not (fresh and kid in self.keys) and not 0 <= now - self.tried_at < pause

    def usable(self, now: float) -> bool:
        return now < self.fresh_until + STALE_SECONDS

    def holds(self, kid: str, now: float) -> bool:
        return kid in self.keys and self.usable(now)

    def find(self, kid: str, now: float) -> Key | None:
        key = self.keys.get(kid) if self.usable(now) else None
        if key is None and self.problem:
            raise KeysUnavailable(self.problem)
        return key


class Keys:
    """The keys by their ids. One instance serves all threads, and only one of them downloads at a time."""

    def __init__(self, fetch: Callable[[], KeysResponse], clock: Callable[[], float] = time.time) -> None:
        """`fetch` returns what the endpoint answers or raises KeysUnavailable; `clock` returns seconds."""
        self._fetch = fetch
        self._clock = clock
        self._state = _State()
        self._downloading = threading.Lock()

    def find(self, kid: str) -> Key | None:
        """The key with the id `kid`; None if the issuer has none of that id.

        Raises KeysUnavailable if that cannot be known now. Takes as long as one download where one is due.
        """
        now = self._clock()
        if self._state.due(kid, now):
            self._refresh(kid, now)
        return self._state.find(kid, now)

    def _refresh(self, kid: str, now: float) -> None:
        # With a key to go on with, nobody waits for another thread's download.
        must_wait = not self._state.holds(kid, now)
        if not self._downloading.acquire(blocking=must_wait):
            return
        try:
            if self._state.due(kid, self._clock()):  # else another thread has just done it
                self._state = self._downloaded()
        finally:
            self._downloading.release()

    def _downloaded(self) -> _State:
        try:
            response = self._fetch()
            keys = parse(response.body)
        except KeysUnavailable as error:
            _log.warning("the keys of push tokens could not be fetched", extra={"error": str(error)})
            return replace(self._state, tried_at=self._clock(), problem=str(error))
        now = self._clock()
        fresh_seconds = min(max(response.fresh_seconds, MIN_FRESH_SECONDS), MAX_FRESH_SECONDS)
        return _State(keys=keys, fetched_at=now, fresh_until=now + fresh_seconds, tried_at=now, problem="")


def parse(body: bytes) -> Mapping[str, Key]:
    """The keys in `body`, a JSON object of key id to PEM certificate. Raises KeysUnavailable if it has no usable one.

    A certificate's own dates and issuer are not looked at: the keys are trusted because of where they were fetched.
    """
    try:
        table = strictjson.loads(body)
    except strictjson.JsonError:
        raise KeysUnavailable("are not JSON: look at what PUSH_CERTS_URL serves") from None
    items = table.items() if isinstance(table, dict) else ()
    # A key of a kind that is not known here (the issuer's next algorithm) must not take the others along.
    keys = {kid: key for kid, pem in items if (key := _key(pem)) is not None}
    if not keys:
        raise KeysUnavailable(
            "hold no RSA certificate: PUSH_CERTS_URL must serve a JSON object of key id to PEM certificate"
        )
    return keys


def _key(pem: object) -> Key | None:
    if not isinstance(pem, str):
        return None
    try:
        public_key = x509.load_pem_x509_certificate(pem.encode()).public_key()
    except (ValueError, UnsupportedAlgorithm):
        return None
    # google-auth takes any key here and fails when verifying.
    if not isinstance(public_key, RSAPublicKey) or public_key.key_size < MIN_KEY_BITS:
        return None
    verifier: Key = crypt.RSAVerifier(public_key)
    return verifier


def download(url: str, seconds: float = DOWNLOAD_SECONDS) -> KeysResponse:
    """GET `url`, within `seconds` for everything from the look-up of the name to the last byte. Raises KeysUnavailable.

    No redirect is followed and no proxy is used, whatever the environment says.
    """
    call = _Call(url, seconds)
    # The thread can be left behind: neither the resolver nor a header that drips heeds a socket's timeout.
    threading.Thread(target=call.run, name="keys-download", daemon=True).start()
    try:
        return call.response.result(seconds)
    except TimeoutError:
        raise KeysUnavailable(f"did not arrive within {seconds:g} s") from None
    except (OSError, HTTPError, HTTPException) as error:
        raise KeysUnavailable(f"could not be fetched ({type(error).__name__})") from None
    finally:
        call.give_up()


class _Call:
    """One exchange with the endpoint, in a thread of its own."""

    def __init__(self, url: str, seconds: float) -> None:
        self.response: Future[KeysResponse] = Future()
        self._url = url
        self._seconds = seconds
        self._socket: socket | None = None
        self._given_up = False

    def run(self) -> None:
        try:
            self.response.set_result(self._get())
        except BaseException as error:  # noqa: BLE001 - it is raised in the thread that waits
            self.response.set_exception(error)

    def give_up(self) -> None:
        """End the exchange, wherever it is. Harmless when it has ended."""
        self._given_up = True
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(SHUT_RDWR)

    def _get(self) -> KeysResponse:
        with closing(_connection(self._url, self._seconds)) as connection:
            connection.connect()
            self._socket = connection.sock
            if self._given_up:  # `give_up` had no socket yet
                raise TimeoutError
            connection.request("GET", _target(self._url), headers=_HEADERS, preload_content=False, decode_content=False)
            with closing(connection.getresponse()) as response:
                return _read(response)


def _connection(url: str, seconds: float) -> HTTPConnection:
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "http":
        return HTTPConnection(host, parts.port, timeout=seconds)
    # The public authorities that come with the program: an image without its own would find no key at all.
    context = ssl.create_default_context(cafile=certifi.where())
    return HTTPSConnection(host, parts.port, timeout=seconds, ssl_context=context)


def _target(url: str) -> str:
    parts = urlsplit(url)
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _read(response: BaseHTTPResponse) -> KeysResponse:
    if response.status != 200:
        raise KeysUnavailable(f"could not be fetched (status {response.status})")
    body = b""
    for chunk in response.stream(_CHUNK_BYTES):
        body += chunk
        if len(body) > MAX_BYTES:
            raise KeysUnavailable(f"are larger than {MAX_BYTES} bytes")
    return KeysResponse(body, fresh_seconds(response.headers))


def fresh_seconds(headers: Mapping[str, str]) -> float:
    """For how long a response with these headers is fresh (RFC 9111 4.2); 0 if they do not say."""
    max_age = _MAX_AGE.search(headers.get("Cache-Control", ""))
    age = headers.get("Age", "")
    spent = float(age) if re.fullmatch(r"[0-9]{1,12}", age) else 0.0
    return max(float(max_age[1]) - spent, 0.0) if max_age else 0.0

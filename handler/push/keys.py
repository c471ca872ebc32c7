"""The public keys that push tokens are signed with: downloaded, cached, and shared by all greenlets.

A rotation must be noticed without a restart, an endpoint in trouble must neither stop the pushes nor be hammered, and a
stranger's invented key ids must not make this service download without end. The pauses below are chosen for that.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from threading import Lock
from typing import Any, NamedTuple

import certifi
import requests
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from urllib3.exceptions import HTTPError
from werkzeug.http import parse_age, parse_cache_control_header

from handler.greenlets import Deadline, DeadlinePassed
from handler.http.adapter import Adapter
from handler.rules import strictjson

# How long keys count as fresh: what the endpoint says (Google: some hours), within these bounds.
MIN_FRESH_SECONDS, MAX_FRESH_SECONDS = 60, 86_400
# How much longer they are used when no newer ones can be had: as long as a token lives. An outage of the endpoint that
# is shorter stops nothing, and a key that was withdrawn during one is trusted for that long at most.
STALE_SECONDS = 3600
UNKNOWN_KEY_SECONDS = 60  # between downloads for ids that fresh keys do not have: issuers publish long before they sign
RETRY_SECONDS = 5  # between downloads while they fail
DOWNLOAD_SECONDS = 5.0
MAX_BYTES = 1 << 18  # Google's answer has 5 kB
MIN_KEY_BITS = 2048  # RFC 7518 3.3
_HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "inference-relay"}

_log = logging.getLogger(__name__)


class KeysUnavailable(Exception):
    """The keys could not be had. The message says why, for the operator; it quotes nothing that was downloaded."""


class KeysResponse(NamedTuple):
    """What the endpoint answered: its body, and the seconds for which it may be cached."""

    body: bytes
    fresh_seconds: float = 0.0


class Keys:
    """The keys by their ids. One instance serves all greenlets, and only one of them downloads at a time."""

    def __init__(self, fetch: Callable[[], KeysResponse], clock: Callable[[], float]) -> None:
        """`fetch` returns what the endpoint answers or raises KeysUnavailable; `clock` returns seconds."""
        self._fetch, self._clock, self._downloading = fetch, clock, Lock()
        self._keys: Mapping[str, RSAPublicKey] = {}
        self._fetched_at, self._fresh_until, self._tried_at = 0.0, 0.0, float("-inf")
        self._problem = "were never fetched"  # empty after a download that succeeded

    def find(self, kid: str) -> RSAPublicKey | None:
        """The key with the id `kid`; None if the issuer has none of that id.

        Raises KeysUnavailable if that cannot be known now. Takes as long as one download where one is due.
        """
        # With a key to go on with, nobody waits for another's download.
        if self._is_due(kid) and self._downloading.acquire(blocking=self._usable(kid) is None):
            try:
                if self._is_due(kid):  # else another one has just done it
                    self._download()
            finally:
                self._downloading.release()
        key = self._usable(kid)
        if key is None and self._problem:
            raise KeysUnavailable(self._problem)
        return key

    def _is_due(self, kid: str) -> bool:
        now = self._clock()
        # After the clock was set back nobody knows how old the keys are: the first halves of both comparisons.
        fresh = self._fetched_at <= now < self._fresh_until
        pause = UNKNOWN_KEY_SECONDS if fresh else RETRY_SECONDS
        return not (fresh and kid in self._keys) and not 0 <= now - self._tried_at < pause

    def _usable(self, kid: str) -> RSAPublicKey | None:
        return self._keys.get(kid) if self._clock() < self._fresh_until + STALE_SECONDS else None

    def _download(self) -> None:
        try:
            body, fresh_seconds = self._fetch()
            self._keys, self._fetched_at = parse(body), self._clock()
            self._fresh_until = self._fetched_at + min(max(fresh_seconds, MIN_FRESH_SECONDS), MAX_FRESH_SECONDS)
            self._problem = ""
        except KeysUnavailable as error:
            self._problem = str(error)
            _log.warning("the keys of push tokens could not be fetched", extra={"error": self._problem})
        self._tried_at = self._clock()


def parse(body: bytes) -> Mapping[str, RSAPublicKey]:
    """The RSA keys in `body`: a JSON object of key id to PEM certificate, or a JWK Set (RFC 7517).

    A certificate's own dates and issuer are not looked at: the keys are trusted because of where they were fetched.
    Raises KeysUnavailable if none can be used.
    """
    try:
        table = strictjson.loads(body)
    except strictjson.JsonError:
        raise KeysUnavailable("are not JSON: look at what PUSH_CERTS_URL serves") from None
    found = _public_keys(table) if isinstance(table, dict) else ()
    public = {kid: key for kid, key in found if isinstance(kid, str) and isinstance(key, RSAPublicKey)}
    keys = {kid: key for kid, key in public.items() if key.key_size >= MIN_KEY_BITS}
    if not keys:
        wanted = "a JSON object of key id to PEM certificate, or a JWK Set"
        raise KeysUnavailable(f"hold no RSA certificate or key of 2048 bits: PUSH_CERTS_URL must serve {wanted}")
    return keys


def _public_keys(table: dict[str, Any]) -> Iterator[tuple[object, object]]:
    from jwt import PyJWK  # here, as in auth.py

    jwks = table["keys"] if isinstance(table.get("keys"), list) else None
    for kid, entry in table.items() if jwks is None else enumerate(jwks):
        # A key that cannot be read here (the issuer's next algorithm) must not take the others along.
        with suppress(Exception):
            if jwks is None:
                yield kid, x509.load_pem_x509_certificate(entry.encode()).public_key()
            elif (jwk := PyJWK(entry)).algorithm_name == "RS256" and jwk.public_key_use in (None, "sig"):
                yield jwk.key_id, jwk.key


def download(url: str, seconds: float = DOWNLOAD_SECONDS) -> KeysResponse:
    """GET `url`, within `seconds` for everything from the look-up of the name to the last byte. Raises KeysUnavailable.

    Through the adapter: a Session of requests would read the whole body of a redirect, and unpack it.
    """
    request = requests.Request("GET", url, _HEADERS)
    try:
        with (
            Deadline(seconds),
            closing(Adapter(1)) as adapter,
            # certifi: an image without authorities of its own would find no key at all.
            adapter.send(request.prepare(), stream=True, timeout=seconds, verify=certifi.where()) as response,
        ):
            return _read(response)
    except (DeadlinePassed, requests.Timeout):
        raise KeysUnavailable(f"did not arrive within {seconds:g} s") from None
    except (OSError, HTTPError) as error:
        raise KeysUnavailable(f"could not be fetched ({_reason(error)})") from None


def _reason(error: BaseException) -> str:
    """What was wrong under all that it is wrapped in: ConnectionRefusedError, SSLCertVerificationError, ..."""
    inner = error.__cause__ or error.__context__
    return _reason(inner) if inner else type(error).__name__


def _read(response: requests.Response) -> KeysResponse:
    if response.status_code != 200:
        raise KeysUnavailable(f"could not be fetched (status {response.status_code})")
    # Not `stream`, which reads lines of any length between chunks, nor `content`, which unpacks.
    body = response.raw.read(MAX_BYTES, decode_content=False)
    if response.raw.read(1, decode_content=False):  # which raises where the body was cut off
        raise KeysUnavailable(f"are larger than {MAX_BYTES} bytes")
    return KeysResponse(body, fresh_seconds(response.headers))


def fresh_seconds(headers: Mapping[str, str]) -> float:
    """For how long a response with these headers is fresh (RFC 9111 4.2), a day at most; 0 if they do not say."""
    max_age = parse_cache_control_header(headers.get("Cache-Control", "").lower()).max_age or 0
    age = parse_age(headers.get("Age"))
    return max(min(max_age, MAX_FRESH_SECONDS) - (age.total_seconds() if age else 0.0), 0.0)

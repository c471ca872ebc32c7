"""Who may push: the rules for the OIDC token that Pub/Sub sends with a push.

https://cloud.google.com/pubsub/docs/authenticate-push-subscriptions says what the token looks like, RFC 7515 and 7519
what it means, RFC 8725 how such checks fail. google-auth checks the signature; what surrounds it is checked here, since
`google.auth.jwt` takes other algorithms than RS256, tries every key when the token names none, does not look at the
issuer, is lax about base64 and types, and quotes the token in its errors.
"""

import base64
import binascii
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Any

from handler import strictjson
from handler.config import Settings, SettingsError
from handler.keys import Keys, KeysResponse, KeysUnavailable, download
from handler.outcome import Reason

SKEW_SECONDS = 10.0  # how far the issuer's clock and ours may differ
MAX_HEADER_CHARS = 8192  # Google's tokens have about 900
MAX_VERIFIED = 1000  # tokens that are remembered; a subscription uses a few in an hour
MAX_VERIFIED_SECONDS = 3600.0  # so that a key that its issuer withdrew is noticed

_CREDENTIALS = re.compile(r"(bearer) +(\S+)", re.IGNORECASE)  # RFC 9110 11.4: the scheme in any case
_REMOVED_SIGNATURE = "SIGNATURE_REMOVED_BY_GOOGLE"


class AuthError(Exception):
    """A push is not accepted. The message says what was wrong; it quotes neither the token nor what it claims.

    `reason` is UNAUTHENTICATED (no good token), FORBIDDEN (a good token of somebody else) or KEYS_UNAVAILABLE (cannot
    be known now).
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


_unauthenticated = partial(AuthError, Reason.UNAUTHENTICATED)
_forbidden = partial(AuthError, Reason.FORBIDDEN)


@dataclass(frozen=True, slots=True)
class Rules:
    """What a token must claim, character by character."""

    issuer: str
    audience: str
    service_account: str


@dataclass(frozen=True, slots=True)
class Token:
    """A token taken apart. Nothing in it is to be believed before `signature` is checked over `signed`."""

    kid: str
    claims: Mapping[str, Any]
    signed: bytes
    signature: bytes


def authenticator(
    settings: Settings,
    clock: Callable[[], float] = time.time,
    fetch: Callable[[], KeysResponse] | None = None,
) -> Callable[[str | None], None]:
    """Make the check of a push's Authorization header, to be shared by all threads.

    The check takes the header's value (None if there is none) and raises AuthError, or returns. With PUSH_AUTH=platform
    or none it lets everything pass. `clock` returns seconds since 1970; `fetch` takes the place of the download from
    PUSH_CERTS_URL. Raises SettingsError for settings that cannot be safe.
    """
    if settings.push_auth != "verify":
        return _pass
    rules = _rules(settings)
    keys = Keys(fetch or partial(download, settings.push_certs_url), clock)
    return _Authenticator(rules, keys, clock).check


def _pass(_header: str | None) -> None:
    """Whoever gets here was let in by the platform, or by nobody: PUSH_AUTH says which."""


def _rules(settings: Settings) -> Rules:
    if not (settings.push_issuer and settings.push_audience and settings.push_service_account):
        raise SettingsError("PUSH_AUTH=verify needs PUSH_AUDIENCE and PUSH_SERVICE_ACCOUNT: set both")
    return Rules(settings.push_issuer, settings.push_audience, settings.push_service_account)


class _Authenticator:
    """The rules, the keys, and the tokens that have passed."""

    def __init__(self, rules: Rules, keys: Keys, clock: Callable[[], float]) -> None:
        self._rules = rules
        self._keys = keys
        self._clock = clock
        self._verified = _Verified()

    def check(self, header: str | None) -> None:
        text = bearer_token(header)
        now = self._clock()
        digest = sha256(text.encode()).digest()
        if not self._verified.holds(digest, now):
            self._verified.add(digest, self._verify(text, now))

    def _verify(self, text: str, now: float) -> float:
        """Check all of a token and return when this has to be done again."""
        token = take_apart(text)
        # Nobody can make this service look for keys without a token that is meant for it.
        check_claims(token.claims, self._rules, now)
        self._check_signature(token)
        check_account(token.claims, self._rules)
        return min(_number(token.claims, "exp"), now + MAX_VERIFIED_SECONDS)

    def _check_signature(self, token: Token) -> None:
        try:
            # It may download, while others wait for a lock.
            key = self._keys.find(token.kid)
        except KeysUnavailable as error:
            raise AuthError(Reason.KEYS_UNAVAILABLE, f"the keys that sign push tokens {error}") from None
        if key is None:
            raise _unauthenticated("the token names a key that its issuer does not have")
        if not key.verify(token.signed, token.signature):
            raise _unauthenticated("the token's signature is wrong")


class _Verified:
    """Digests of tokens that have passed, each until a time; the least recently used make room."""

    def __init__(self) -> None:
        self._until: OrderedDict[bytes, float] = OrderedDict()
        self._lock = threading.Lock()

    def holds(self, digest: bytes, now: float) -> bool:
        with self._lock:
            if now >= self._until.get(digest, now):
                return False
            self._until.move_to_end(digest)
            return True

    def add(self, digest: bytes, until: float) -> None:
        with self._lock:
            self._until[digest] = until
            if len(self._until) > MAX_VERIFIED:
                self._until.popitem(last=False)


def bearer_token(header: str | None) -> str:
    """The token in an Authorization header. Raises AuthError."""
    if not header:
        raise _unauthenticated(
            "no Authorization header: give the push subscription a service account to authenticate as"
        )
    if len(header) > MAX_HEADER_CHARS:
        raise _unauthenticated(f"the Authorization header is longer than {MAX_HEADER_CHARS} characters")
    if "," in header:  # which no token has: it is how a server joins headers of the same name
        raise _unauthenticated("more than one Authorization header")
    credentials = _CREDENTIALS.fullmatch(header)
    if not credentials or not header.isascii():
        raise _unauthenticated("the Authorization header has no bearer token")
    return credentials[2]


def take_apart(text: str) -> Token:
    """Decode a token of the form `header.claims.signature`, signed with RS256. Raises AuthError."""
    if text.endswith(f".{_REMOVED_SIGNATURE}"):
        raise _unauthenticated(
            "the token's signature was removed, as Cloud Run does after checking it: if this service runs behind "
            "Cloud Run's IAM, set PUSH_AUTH=platform"
        )
    parts = text.split(".")
    if len(parts) != 3:
        raise _unauthenticated("the bearer token is not a signed JWT")
    header, claims = _decode_object(parts[0]), _decode_object(parts[1])
    signed = f"{parts[0]}.{parts[1]}".encode()
    return Token(_key_id(header), claims, signed, _decode(parts[2]))


def _key_id(header: Mapping[str, Any]) -> str:
    """What a token's header is read for. Keys that it carries or points to (jwk, jku, x5c, x5u) are never used."""
    if header.get("alg") != "RS256":
        raise _unauthenticated("the token is not signed with RS256")
    if "crit" in header:  # RFC 7515 4.1.11: extensions that must be understood, and none is
        raise _unauthenticated("the token demands an extension that is not supported")
    kid = header.get("kid")
    if not isinstance(kid, str):
        raise _unauthenticated("the token does not name its key")
    return kid


def _decode_object(part: str) -> dict[str, Any]:
    try:
        value = strictjson.loads(_decode(part))
    except strictjson.JsonError:
        raise _unauthenticated("the bearer token is not a JWT: a part of it is not JSON") from None
    if not isinstance(value, dict):
        raise _unauthenticated("the bearer token is not a JWT: a part of it is not a JSON object")
    return value


def _decode(part: str) -> bytes:
    """Decode base64url without padding, in its one canonical spelling; the standard library skips what it dislikes."""
    try:
        data = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except binascii.Error:
        data = b""
    if base64.urlsafe_b64encode(data).decode().rstrip("=") != part:
        raise _unauthenticated("the bearer token is not a JWT: a part of it is not base64url")
    return data


def check_claims(claims: Mapping[str, Any], rules: Rules, now: float) -> None:
    """Check whose token it is, for whom, and when; `now` in seconds since 1970. Raises AuthError, UNAUTHENTICATED."""
    if claims.get("iss") != rules.issuer:
        raise _unauthenticated("the token is of another issuer than PUSH_ISSUER")
    # A list is refused even with ours in it: the other audiences could push with that token.
    if claims.get("aud") != rules.audience:
        raise _unauthenticated(
            "the token is for another audience: give the push subscription PUSH_AUDIENCE as audience"
        )
    # `now` is what the skew is added to: a claim may be an integer too large for a float.
    if _number(claims, "exp") <= now - SKEW_SECONDS:
        raise _unauthenticated("the token has expired")
    if _number(claims, "iat") > now + SKEW_SECONDS:
        raise _unauthenticated("the token is of the future: compare the clocks")
    if "nbf" in claims and _number(claims, "nbf") > now + SKEW_SECONDS:
        raise _unauthenticated("the token is not valid yet")


def _number(claims: Mapping[str, Any], name: str) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _unauthenticated(f"the token's {name} is missing or not a number")
    return value


def check_account(claims: Mapping[str, Any], rules: Rules) -> None:
    """Check in whose name the push comes, when the token is known to be genuine. Raises AuthError, FORBIDDEN."""
    if claims.get("email") != rules.service_account:
        raise _forbidden("the token is of another account than PUSH_SERVICE_ACCOUNT")
    if claims.get("email_verified") is not True:
        raise _forbidden("the token's email is not verified by its issuer")

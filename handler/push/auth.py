"""Who may push: the rules for the OIDC token that Pub/Sub sends with a push; PyJWT reads it and checks its signature.

https://cloud.google.com/pubsub/docs/authenticate-push-subscriptions says what it looks like, RFC 8725 how checks fail.
Claims are compared here: PyJWT takes texts for numbers, cuts fractions off, and has a clock of its own.
"""

import re
import time
from collections.abc import Callable, Mapping
from functools import partial
from hashlib import sha256
from threading import Lock
from typing import Any

from cachetools import TLRUCache, cached

from handler.config.settings import Settings, SettingsError
from handler.push.keys import Keys, KeysResponse, KeysUnavailable, download
from handler.rules import strictjson
from handler.rules.verdict.outcome import Reason

SKEW_SECONDS = 10.0  # how far the issuer's clock and ours may differ
MAX_HEADER_CHARS = 8192  # Google's tokens have about 900
MAX_VERIFIED = 1000  # tokens that are remembered; a subscription uses a few in an hour
MAX_VERIFIED_SECONDS = 3600.0  # so that a key that its issuer withdrew is noticed
# RFC 9110 11.4: the scheme in any case. Base64 without the padding that PyJWT takes: a token has one spelling.
_CREDENTIALS = re.compile(r"bearer +([\w-]+\.[\w-]+\.[\w-]*)", re.IGNORECASE | re.ASCII)


class AuthError(Exception):
    """A push is not accepted. The message says what was wrong; it quotes neither the token nor what it claims.

    `reason` is UNAUTHENTICATED (no good token), FORBIDDEN (somebody else's) or KEYS_UNAVAILABLE (not to be known now).
    """

    def __init__(self, message: str, reason: Reason = Reason.UNAUTHENTICATED) -> None:
        super().__init__(message)
        self.reason = reason


def authenticator(
    settings: Settings, clock: Callable[[], float] = time.time, fetch: Callable[[], KeysResponse] | None = None
) -> Callable[[str | None], object]:
    """Make the check of a push's Authorization header (None if there is none): it raises AuthError, or returns.

    With PUSH_AUTH=platform or none it lets everything pass. `clock` returns seconds since 1970; `fetch` takes the place
    of the download from PUSH_CERTS_URL. Raises SettingsError for settings that cannot be safe.
    """
    if settings.push_auth != "verify":
        return lambda _header: None
    if not (settings.push_issuer and settings.push_audience and settings.push_service_account):
        raise SettingsError("PUSH_AUTH=verify needs PUSH_AUDIENCE and PUSH_SERVICE_ACCOUNT: set both")
    check = partial(_check, settings, Keys(fetch or partial(download, settings.push_certs_url), clock), clock)
    passed = TLRUCache[bytes, float](MAX_VERIFIED, lambda _digest, until, _now: until, clock)
    verify = cached(passed, lambda token: sha256(token.encode()).digest(), Lock())(check)
    return lambda header: verify(bearer_token(header))


def bearer_token(header: str | None) -> str:
    """The token in an Authorization header. Raises AuthError."""
    if not header:
        raise AuthError("no Authorization header: give the push subscription a service account to authenticate as")
    if len(header) > MAX_HEADER_CHARS:
        raise AuthError(f"the Authorization header is longer than {MAX_HEADER_CHARS} characters")
    if "," in header:  # which no token has: it is how a server joins headers of the same name
        raise AuthError("more than one Authorization header")
    if not (credentials := _CREDENTIALS.fullmatch(header)):
        raise AuthError("the Authorization header has no bearer token that is a signed JWT")
    if header.endswith(".SIGNATURE_REMOVED_BY_GOOGLE"):
        raise AuthError("the signature was removed, as Cloud Run's IAM does: behind it, set PUSH_AUTH=platform")
    return credentials[1]


def _check(settings: Settings, keys: Keys, clock: Callable[[], float], token: str) -> float:
    """Check a token by the rules and the keys: for how long (seconds since 1970) it holds. Raises AuthError."""
    from jwt import PyJWS, PyJWTError  # here, since a start that leaves the check to its platform needs none of it

    now = clock()
    try:
        parts = PyJWS(["RS256"]).decode_complete(token, options={"verify_signature": False})
        claims = strictjson.loads(parts["payload"])
    except (PyJWTError, strictjson.JsonError):  # whose own messages may quote the token
        raise AuthError("the bearer token is not a JWT that can be read") from None
    # First what needs no key: nobody can make this service look for one without a token that is meant for it.
    _check_claims(claims, settings, now)
    _check_signature(token, parts["header"], keys)
    if claims.get("email") != settings.push_service_account:
        raise AuthError("the token is of another account than PUSH_SERVICE_ACCOUNT", Reason.FORBIDDEN)
    if claims.get("email_verified") is not True:
        raise AuthError("the token's email is not verified by its issuer", Reason.FORBIDDEN)
    return float(min(claims["exp"], now + MAX_VERIFIED_SECONDS))


def _check_claims(claims: Any, settings: Settings, now: float) -> None:
    """Check for whom a token is, and when it counts; `now` in seconds since 1970. Raises AuthError."""
    if not isinstance(claims, dict) or not {"iss", "aud", "exp", "iat"} <= claims.keys():
        raise AuthError("the token lacks one of iss, aud, exp and iat")
    if claims["iss"] != settings.push_issuer:
        raise AuthError("the token is of another issuer than PUSH_ISSUER")
    if claims["aud"] != settings.push_audience:  # a list is another one too, whoever is in it
        raise AuthError("the token is for another audience: give the push subscription PUSH_AUDIENCE as audience")
    for name in ("exp", "iat", "nbf"):
        if type(claims.get(name, 0)) not in (int, float):
            raise AuthError(f"the token's {name} is not a number")
    # `now` is what the skew is added to: a claim may be an integer too large for a float.
    if claims["exp"] <= now - SKEW_SECONDS:
        raise AuthError("the token has expired")
    if max(claims["iat"], claims.get("nbf", 0)) > now + SKEW_SECONDS:
        raise AuthError("the token is of the future (iat, nbf): compare the clocks")


def _check_signature(token: str, header: Mapping[str, Any], keys: Keys) -> None:
    """Check it with the issuer's key. Keys that a token carries or points to (jwk, jku, x5c, x5u) are never used."""
    from jwt import PyJWS, PyJWTError

    if header.get("alg") != "RS256":
        raise AuthError("the token is not signed with RS256")
    if "crit" in header:  # RFC 7515 4.1.11: extensions that must be understood, and none is
        raise AuthError("the token demands an extension that is not supported")
    if not isinstance(kid := header.get("kid"), str):
        raise AuthError("the token does not name its key")
    try:
        key = keys.find(kid)
    except KeysUnavailable as error:
        raise AuthError(f"the keys that sign push tokens {error}", Reason.KEYS_UNAVAILABLE) from None
    if key is None:
        raise AuthError("the token names a key that its issuer does not have")
    try:
        PyJWS(["RS256"]).decode(token, key, ["RS256"])
    except PyJWTError:
        raise AuthError("the token's signature is wrong") from None

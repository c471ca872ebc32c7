"""OIDC tokens for pushes: signed with a key of this broker's own, whose certificate it shows as Google does.

Claims: cloud.google.com/pubsub/docs/authenticate-push-subscriptions. Certificates: the form of
www.googleapis.com/oauth2/v1/certs, a JSON object of key ids and X.509 certificates in PEM. Times in seconds.
"""

import datetime as dt
import time
import uuid
import zlib
from collections.abc import Callable
from typing import Any

import google.auth.crypt
import google.auth.jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding

_LIFE, _REUSE = 3600, 3000
_auth: Any = google.auth  # has no types


class Tokens:
    """Makes tokens, and uses each for most of its hour, as the service does."""

    issuer = "https://accounts.google.com"

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._signer = _auth.crypt.RSASigner(self._key, uuid.uuid4().hex)
        self._made: dict[tuple[str, str], tuple[float, str]] = {}

    def certificates(self) -> dict[str, str]:
        """Make the document that the certificates' URL serves: PEM by key id."""
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "local-pubsub")])
        now = dt.datetime.fromtimestamp(self._clock(), dt.UTC)
        begin, end = now - dt.timedelta(days=1), now + dt.timedelta(days=30)
        number = x509.random_serial_number()
        builder = x509.CertificateBuilder(name, name, self._key.public_key(), number, begin, end)
        pem = builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)
        return {self._signer.key_id: pem.decode()}

    def token(self, email: str, audience: str) -> str:
        """Give a token for pushes by the service account `email`."""
        now = self._clock()
        made, token = self._made.get((email, audience), (0.0, ""))
        if not token or now - made >= _REUSE:
            token = self._sign(email, audience, int(now))
            self._made[email, audience] = (now, token)
        return token

    def _sign(self, email: str, audience: str, now: int) -> str:
        subject = f"1{zlib.crc32(email.encode()):020}"  # an account's number: 21 digits
        claims: dict[str, Any] = {"iss": self.issuer, "aud": audience, "azp": subject, "sub": subject, "email": email}
        claims |= {"email_verified": True, "iat": now, "exp": now + _LIFE}
        return str(_auth.jwt.encode(self._signer, claims).decode())

"""Who may push: tokens that Pub/Sub sends, and tokens that others would like to send."""

import base64
import datetime as dt
import hashlib
import hmac
import http.server
import json
import threading
from contextlib import contextmanager
from functools import cache

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from jwt.algorithms import RSAAlgorithm

from handler.config.settings import Settings, SettingsError
from handler.push import auth
from handler.push.auth import AuthError, authenticator
from handler.push.keys import KeysResponse, KeysUnavailable
from handler.rules.verdict.outcome import FACTS, Reason

NOW = 1_700_000_000.0
ISSUER = "https://accounts.google.com"
AUDIENCE = "https://relay.example.com/"
ACCOUNT = "pusher@project.iam.gserviceaccount.com"
CLAIMS = {
    "aud": AUDIENCE,
    "azp": "113774264463038321964",
    "email": ACCOUNT,
    "sub": "113774264463038321964",
    "email_verified": True,
    "exp": int(NOW) + 3300,
    "iat": int(NOW) - 300,
    "iss": ISSUER,
}
HEADER = {"alg": "RS256", "kid": "one", "typ": "JWT"}


@cache
def private_key(name):
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@cache
def certificate(name):
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(private_key(name).public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .sign(private_key(name), hashes.SHA256())
    )


def pem(name):
    return certificate(name).public_bytes(serialization.Encoding.PEM).decode()


def public_pem(name):
    public_format = serialization.PublicFormat.SubjectPublicKeyInfo
    return private_key(name).public_key().public_bytes(serialization.Encoding.PEM, public_format)


def b64(data):
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def rs256(name):
    return lambda signed: private_key(name).sign(signed, padding.PKCS1v15(), hashes.SHA256())


def hs256(secret):
    return lambda signed: hmac.new(secret, signed, hashlib.sha256).digest()


def token(claims=None, header=None, sign=None):
    """A token; `claims` and `header` replace fields of a good one, or all of it when they are bytes."""
    head = header if isinstance(header, bytes) else json.dumps({**HEADER, **(header or {})}).encode()
    body = claims if isinstance(claims, bytes) else json.dumps({**CLAIMS, **(claims or {})}).encode()
    signed = f"{b64(head)}.{b64(body)}"
    return f"{signed}.{b64((sign or rs256('one'))(signed.encode()))}"


def without(fields, name):
    return json.dumps({key: value for key, value in fields.items() if key != name}).encode()


class Clock:
    def __init__(self):
        self.now = NOW

    def __call__(self):
        return self.now


class Issuer:
    """A fetcher of keys that serves `names` or fails, and counts."""

    def __init__(self, *names):
        self.names = names
        self.problem = None
        self.downloads = 0

    def __call__(self):
        self.downloads += 1
        if self.problem:
            raise KeysUnavailable(self.problem)
        return KeysResponse(json.dumps({name: pem(name) for name in self.names}).encode(), 86_400.0)


def settings(**changes):
    return Settings.model_validate(
        {
            "MODEL_URL": "http://model",
            "RESPONSE_TOPIC": "projects/p/topics/responses",
            "PUSH_AUTH": "verify",
            "PUSH_AUDIENCE": AUDIENCE,
            "PUSH_SERVICE_ACCOUNT": ACCOUNT,
            **changes,
        }
    )


def checker(clock=None, issuer=None, **changes):
    return authenticator(settings(**changes), clock or Clock(), issuer or Issuer("one"))


def refusal(check, header):
    with pytest.raises(AuthError) as caught:
        check(header)
    return caught.value


# --- tokens that are accepted --------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER ", "Bearer   "])
def test_the_token_that_pubsub_sends_is_accepted(scheme):
    """A token with the documented claims passes; the scheme is case-insensitive (RFC 9110 11.1)."""
    checker()(scheme + token())


GOOD = {
    "expired within the skew": {"claims": {"exp": NOW - 9.5, "iat": NOW - 3609}},
    "issued ahead within the skew": {"claims": {"iat": NOW + 10}},
    "times as floats": {"claims": {"exp": NOW + 0.5, "iat": NOW - 0.5}},
    "expires after the sun": {"claims": {"exp": 10**4000}},
    "not before now": {"claims": {"nbf": NOW + 10}},
    "unknown claims and header fields": {"claims": {"foo": [1, {}]}, "header": {"foo": 1, "typ": "at+jwt"}},
}


@pytest.mark.parametrize("parts", GOOD.values(), ids=GOOD)
def test_what_the_rules_leave_open_is_accepted(parts):
    """Clocks may differ by ten seconds, numbers may be floats, and what is not known is ignored (RFC 7519 4)."""
    checker()(f"Bearer {token(**parts)}")


KEYS_OF_ITS_OWN = {
    "jwk": {"kty": "RSA", "kid": "one", "n": "AQAB", "e": "AQAB"},
    "jku": "https://attacker.example.com/keys",
    "x5u": "https://attacker.example.com/chain",
    "x5c": ["AAAA"],
}


@pytest.mark.parametrize("name", KEYS_OF_ITS_OWN)
def test_keys_that_a_token_brings_along_are_never_used(name):
    """With jwk, jku, x5u or x5c a token is checked with the issuer's key of its kid, as if they were not there."""
    header = {name: KEYS_OF_ITS_OWN[name]}
    issuer = Issuer("one")

    checker(issuer=issuer)(f"Bearer {token(header=header)}")
    error = refusal(checker(issuer=issuer), f"Bearer {token(header=header, sign=rs256('attacker'))}")

    assert error.reason is Reason.UNAUTHENTICATED
    assert "signature" in str(error)


# --- tokens that are not -------------------------------------------------------------------------------------------


def es256(signed):
    der = ec.generate_private_key(ec.SECP256R1()).sign(signed, ec.ECDSA(hashes.SHA256()))
    return b"".join(part.to_bytes(32, "big") for part in decode_dss_signature(der))


def ps256(signed):
    return private_key("one").sign(signed, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())


def sha1(signed):
    return private_key("one").sign(signed, padding.PKCS1v15(), hashes.SHA1())


def unsigned(_signed):
    return b""


CLAIM_FAULTS = {
    "expired": {"exp": NOW - 10},
    "expired long ago": {"exp": 1},
    "expired before the beginning": {"exp": -(10**4000)},
    "exp missing": without(CLAIMS, "exp"),
    "exp null": {"exp": None},
    "exp a string": {"exp": str(int(NOW) + 3300)},
    "exp true": {"exp": True},
    "exp a list": {"exp": [NOW + 3300]},
    "exp NaN": without(CLAIMS, "exp")[:-1] + b', "exp": NaN}',
    "exp Infinity": without(CLAIMS, "exp")[:-1] + b', "exp": Infinity}',
    "exp 1e999": without(CLAIMS, "exp")[:-1] + b', "exp": 1e999}',
    "exp of 5,000 digits": without(CLAIMS, "exp")[:-1] + b', "exp": ' + b"9" * 5000 + b"}",
    "exp twice, the last one past": json.dumps(CLAIMS).encode()[:-1] + b', "exp": 1}',
    "issued ahead": {"iat": NOW + 10.5},
    "issued far ahead": {"iat": 10**4000},
    "iat missing": without(CLAIMS, "iat"),
    "iat a string": {"iat": "0"},
    "iat true": {"iat": True},
    "not before later": {"nbf": NOW + 11},
    "nbf a string": {"nbf": "0"},
    "wrong audience": {"aud": "https://other.example.com/"},
    "audience without its slash": {"aud": AUDIENCE.rstrip("/")},
    "audience in other case": {"aud": AUDIENCE.upper()},
    "audience with more": {"aud": AUDIENCE + "?"},
    "audience missing": without(CLAIMS, "aud"),
    "audience null": {"aud": None},
    "audience as list": {"aud": [AUDIENCE]},
    "audience among others": {"aud": [AUDIENCE, "https://other.example.com/"]},
    "audience as object": {"aud": {AUDIENCE: AUDIENCE}},
    "wrong issuer": {"iss": "https://attacker.example.com"},
    "issuer without scheme": {"iss": "accounts.google.com"},
    "issuer as list": {"iss": [ISSUER]},
    "issuer missing": without(CLAIMS, "iss"),
    "no claims": b"{}",
    "claims a list": b"[]",
    "claims a string": json.dumps(json.dumps(CLAIMS)).encode(),
    "claims null": b"null",
    "claims not JSON": b"aud=me",
    "claims empty": b"",
    "claims not UTF-8": b'{"aud": "\xff"}',
    "claims in UTF-16": json.dumps(CLAIMS).encode("utf-16"),
    "claims nested deep": b'{"a":' * 500 + b"1" + b"}" * 500,
}

HEADER_FAULTS = {
    "alg none": ({"alg": "none"}, unsigned),
    "alg None": ({"alg": "None"}, unsigned),
    "alg none with a good signature": ({"alg": "none"}, rs256("one")),
    "alg missing": (without(HEADER, "alg"), rs256("one")),
    "alg in other case": ({"alg": "rs256"}, rs256("one")),
    "alg with a blank": ({"alg": "RS256 "}, rs256("one")),
    "alg a list": ({"alg": ["RS256"]}, rs256("one")),
    "alg null": ({"alg": None}, rs256("one")),
    "HS256 with the certificate": ({"alg": "HS256"}, lambda signed: hs256(pem("one").encode())(signed)),
    "HS256 with the public key": ({"alg": "HS256"}, lambda signed: hs256(public_pem("one"))(signed)),
    "HS256 with nothing": ({"alg": "HS256"}, hs256(b"")),
    "HS256 said to be RS256": (None, lambda signed: hs256(pem("one").encode())(signed)),
    "RS512": ({"alg": "RS512"}, rs256("one")),
    "ES256": ({"alg": "ES256"}, es256),
    "ES256 said to be RS256": (None, es256),
    "PS256": ({"alg": "PS256"}, ps256),
    "PS256 said to be RS256": (None, ps256),
    "SHA-1 said to be RS256": (None, sha1),
    "alg twice, the last one none": (json.dumps(HEADER).encode()[:-1] + b', "alg": "none"}', unsigned),
    "crit": ({"crit": ["exp"], "exp": 1}, rs256("one")),
    "crit empty": ({"crit": []}, rs256("one")),
    "crit of what PyJWT knows": ({"crit": ["b64"], "b64": True}, rs256("one")),
    "unencoded payload without crit": ({"b64": False}, rs256("one")),
    "unencoded payload": ({"crit": ["b64"], "b64": False}, rs256("one")),
    "no kid": (without(HEADER, "kid"), rs256("one")),
    "kid empty": ({"kid": ""}, rs256("one")),
    "kid null": ({"kid": None}, rs256("one")),
    "kid a number": ({"kid": 1}, rs256("one")),
    "kid a list": ({"kid": ["one"]}, rs256("one")),
    "kid an object": ({"kid": {}}, rs256("one")),
    "kid unknown": ({"kid": "two"}, rs256("one")),
    "kid a path": ({"kid": "../../../../dev/null"}, hs256(b"")),
    "kid a lone surrogate": (json.dumps({**HEADER, "kid": "\ud800"}).encode(), rs256("one")),
    "kid in other case": ({"kid": "ONE"}, rs256("one")),
    "another key": (None, rs256("attacker")),
    "unsigned": (None, unsigned),
    "signature of zeros": (None, lambda _signed: bytes(256)),
    "signature with a byte more": (None, lambda signed: rs256("one")(signed) + b"\0"),
    "signature with a zero ahead": (None, lambda signed: b"\0" + rs256("one")(signed)),
    "signature with a byte less": (None, lambda signed: rs256("one")(signed)[:-1]),
    "header a list": (b'["RS256"]', rs256("one")),
    "header empty": (b"", rs256("one")),
    "header not JSON": (b"RS256", rs256("one")),
}

GOOD = token()
PARTS = GOOD.split(".")
TEXT_FAULTS = {
    "no header": None,
    "empty": "",
    "blank": " ",
    "scheme alone": "Bearer",
    "scheme and blank": "Bearer ",
    "token alone": GOOD,
    "Basic": "Basic dXNlcjpwYXNzd29yZA==",
    "Basic with a token": f"Basic {GOOD}",
    "another scheme that ends so": f"NotBearer {GOOD}",
    "tab for blank": f"Bearer\t{GOOD}",
    "no blank": f"Bearer{GOOD}",
    "quoted": f'Bearer "{GOOD}"',
    "as parameter": f"Bearer token={GOOD}",
    "something behind": f"Bearer {GOOD} x",
    "line end behind": f"Bearer {GOOD}\n",
    "not a JWT": "Bearer ya29.c.b0AT7lpjBRmO7ghBEyV18evd016hq53",
    "opaque": "Bearer secret",
    "dots": "Bearer ..",
    "four parts": f"Bearer {GOOD}.{PARTS[2]}",
    "five parts": "Bearer a.b.c.d.e",
    "two headers": f"Bearer {GOOD},Bearer {GOOD}",
    "two headers, one empty": f"Bearer {GOOD},",
    "two headers, Basic first": f"Basic dXNlcjpwYXNzd29yZA==, Bearer {GOOD}",
    "truncated": f"Bearer {GOOD[:-1]}",
    "truncated to a whole byte": f"Bearer {GOOD[:-4]}",
    "signature missing": f"Bearer {PARTS[0]}.{PARTS[1]}",
    "signature empty": f"Bearer {PARTS[0]}.{PARTS[1]}.",
    "payload swapped": ".".join(
        [f"Bearer {PARTS[0]}", b64(json.dumps({**CLAIMS, "exp": NOW + 99_999}).encode()), PARTS[2]]
    ),
    "header swapped": ".".join([f"Bearer {b64(json.dumps({**HEADER, 'typ': 'X'}).encode())}", *PARTS[1:]]),
    "padded": f"Bearer {GOOD}==",
    "header padded": f"Bearer {PARTS[0]}=.{PARTS[1]}.{PARTS[2]}",
    "with characters that base64 skips": f"Bearer {PARTS[0]}.{PARTS[1]}.{PARTS[2][:9]}!{PARTS[2][9:]}",
    "in the other base64": f"Bearer {PARTS[0]}.{PARTS[1]}.{b64(bytes([255] * 256)).replace('_', '/')}",
    "one character too many for bytes": f"Bearer {PARTS[0]}.{PARTS[1]}.AAAAA",
    "another spelling of the same signature": f"Bearer {GOOD[:-1]}{chr(ord(GOOD[-1]) + 1)}",
    "not ASCII": f"Bearer {GOOD}\xe9",
    "not Latin-1": f"Bearer {GOOD}\u2603",
    "letters that fold to ASCII": f"Bearer {GOOD}\u212a",
    "lone surrogate": f"Bearer {GOOD}\ud800",
    "1 MB": f"Bearer {PARTS[0]}.{'A' * 1_000_000}.{PARTS[2]}",
    "1 MB of dots": "Bearer " + "." * 1_000_000,
    "1 MB of blanks": "Bearer" + " " * 1_000_000 + "x",
    "1 MB of commas": "Bearer " + "," * 1_000_000,
    "1 MB good": f"Bearer {token({'foo': 'x' * 1_000_000})}",
}

FAULTS = (
    {f"claims: {name}": f"Bearer {token(claims)}" for name, claims in CLAIM_FAULTS.items()}
    | {f"header: {name}": f"Bearer {token(None, head, sign)}" for name, (head, sign) in HEADER_FAULTS.items()}
    | {f"text: {name}": text for name, text in TEXT_FAULTS.items()}
)


@pytest.mark.parametrize("header", FAULTS.values(), ids=FAULTS)
def test_a_bad_token_is_unauthenticated(header):
    """Whatever is wrong with a token gives 401, before and after a good one has passed."""
    check = checker()

    assert refusal(check, header).reason is Reason.UNAUTHENTICATED
    check(f"Bearer {token()}")
    assert refusal(check, header).reason is Reason.UNAUTHENTICATED
    assert FACTS[Reason.UNAUTHENTICATED].status == 401


def test_the_tables_faults_are_the_only_ones_in_their_tokens():
    """The helper that makes the bad tokens makes good ones when nothing is wrong, in each of its ways."""
    check = checker()
    for made in (token(json.dumps(CLAIMS).encode()), token(None, json.dumps(HEADER).encode(), rs256("one"))):
        check(f"Bearer {made}")


FORBIDDEN = {
    "wrong account": {"email": "other@project.iam.gserviceaccount.com"},
    "account in other case": {"email": ACCOUNT.upper()},
    "account as list": {"email": [ACCOUNT]},
    "account missing": without(CLAIMS, "email"),
    "account only as sub": without({**CLAIMS, "sub": ACCOUNT}, "email"),
    "unverified": {"email_verified": False},
    "verified as a string": {"email_verified": "true"},
    "verified as a number": {"email_verified": 1},
    "verified null": {"email_verified": None},
    "verified missing": without(CLAIMS, "email_verified"),
}


@pytest.mark.parametrize("claims", FORBIDDEN.values(), ids=FORBIDDEN)
def test_a_genuine_token_of_somebody_else_is_forbidden(claims):
    """A good token of another account, or of an account that its issuer did not verify, gives 403, every time."""
    check = checker()

    for _ in range(2):
        assert refusal(check, f"Bearer {token(claims)}").reason is Reason.FORBIDDEN
    assert FACTS[Reason.FORBIDDEN].status == 403


@pytest.mark.parametrize("claims", FORBIDDEN.values(), ids=FORBIDDEN)
def test_only_a_genuine_token_is_told_about_accounts(claims):
    """Whose account is expected is not to be found out with forged tokens: their signature is looked at first."""
    forged = token(claims, sign=rs256("attacker"))
    assert refusal(checker(), f"Bearer {forged}").reason is Reason.UNAUTHENTICATED


def test_a_signature_that_the_platform_removed_is_never_accepted():
    """A token without its signature could be anybody's; the message says which setting is meant for Cloud Run."""
    error = refusal(checker(), f"Bearer {PARTS[0]}.{PARTS[1]}.SIGNATURE_REMOVED_BY_GOOGLE")

    assert error.reason is Reason.UNAUTHENTICATED
    assert "PUSH_AUTH=platform" in str(error)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (None, "no Authorization header"),
        (f"Bearer {token()},Bearer {token()}", "more than one Authorization header"),
        (f"Bearer {token(header={'alg': 'none'}, sign=unsigned)}", "RS256"),
        (f"Bearer {token({'aud': 'https://other.example.com/'})}", "PUSH_AUDIENCE"),
        (f"Bearer {token({'iss': 'https://other.example.com'})}", "PUSH_ISSUER"),
        (f"Bearer {token({'exp': NOW - 3600})}", "expired"),
        (f"Bearer {token({'iat': NOW + 3600})}", "clocks"),
        (f"Bearer {token({'email': 'other@example.com'})}", "PUSH_SERVICE_ACCOUNT"),
    ],
    ids=["absent", "two", "alg", "aud", "iss", "exp", "iat", "email"],
)
def test_a_refusal_says_what_to_look_at(header, words):
    """The message names the setting, or the fault, that an operator has to look at."""
    assert words in str(refusal(checker(), header))


def test_a_refusal_quotes_nothing_of_the_token():
    """Error messages, which are logged, hold no part of a token and no value that it claims."""
    planted = {name: f"planted-{name}" for name in ("iss", "aud", "exp", "iat", "nbf", "email", "email_verified")}
    faults = [token({name: value}) for name, value in planted.items()]
    faults += [token(header={name: "planted-header"}) for name in ("alg", "kid", "crit")]
    faults += [token(b"planted"), token(header=b"planted"), "planted.planted.planted", "planted"]

    for fault in faults:
        error = refusal(checker(), f"Bearer {fault}")
        assert "planted" not in str(error)
        assert not set(fault.split(".")) & set(str(error).split())
        assert error.__cause__ is None
        assert error.__suppress_context__ or error.__context__ is None


@given(st.text())
@hypothesis_settings(deadline=None)
def test_any_text_is_refused_properly(text):
    """No text, as header or as token, raises anything but AuthError."""
    for header in (text, f"Bearer {text}", f"Bearer {PARTS[0]}.{b64(text.encode(errors='replace'))}.{PARTS[2]}"):
        assert refusal(_CHECK, header).reason is Reason.UNAUTHENTICATED


@given(st.data())
@hypothesis_settings(deadline=None)
def test_no_character_of_a_token_can_be_changed(data):
    """A token with any one character replaced, left out or put in is refused."""
    good = token()
    at = data.draw(st.integers(0, len(good) - 1))
    new = data.draw(st.sampled_from(["", *".-_=+/,AQgw09z"]))
    changed = good[:at] + new + good[at + data.draw(st.integers(0, 1)) :]
    if changed != good:
        assert refusal(_CHECK, f"Bearer {changed}").reason is Reason.UNAUTHENTICATED


_CHECK = checker()


# --- keys ----------------------------------------------------------------------------------------------------------


def test_without_keys_no_token_is_judged():
    """While the keys cannot be fetched a push is neither accepted nor refused: 503, and the message waits."""
    issuer = Issuer("one")
    issuer.problem = "could not be fetched (status 500)"
    error = refusal(checker(issuer=issuer), f"Bearer {token()}")

    assert error.reason is Reason.KEYS_UNAVAILABLE
    assert str(error) == "the keys that sign push tokens could not be fetched (status 500)"
    assert FACTS[Reason.KEYS_UNAVAILABLE].status == 503


@pytest.mark.parametrize("claims", CLAIM_FAULTS.values(), ids=CLAIM_FAULTS)
def test_a_token_that_is_not_for_us_makes_no_download(claims):
    """Nobody can make this service download keys with a token of another issuer, audience or time."""
    issuer = Issuer("one")
    refusal(checker(issuer=issuer), f"Bearer {token(claims)}")
    assert issuer.downloads == 0


@pytest.mark.parametrize(
    "name", ["alg none", "HS256 with nothing", "RS512", "crit", "crit empty", "no kid", "kid a list"]
)
def test_a_header_that_no_key_can_help_makes_no_download(name):
    """What is wrong with every key is refused before one is looked for, so with 401 while there are none."""
    header, sign = HEADER_FAULTS[name]
    issuer = Issuer("one")
    issuer.problem = "could not be fetched (status 500)"
    error = refusal(checker(issuer=issuer), f"Bearer {token(None, header, sign)}")
    assert (error.reason, issuer.downloads) == (Reason.UNAUTHENTICATED, 0)


def test_invented_key_ids_make_one_download_a_minute():
    """Tokens with ever new key ids make one download a minute; good ones pass meanwhile."""
    clock, issuer = Clock(), Issuer("one")
    check = checker(clock, issuer)
    check(f"Bearer {token()}")

    for second in range(120):
        clock.now = NOW + second
        assert refusal(check, f"Bearer {token(header={'kid': f'k{second}'})}").reason is Reason.UNAUTHENTICATED
        check(f"Bearer {token({'second': second})}")

    assert issuer.downloads == 2


def test_a_rotated_key_is_found():
    """The first token that a new key signed makes the keys be downloaded again."""
    clock, issuer = Clock(), Issuer("one")
    check = checker(clock, issuer)
    check(f"Bearer {token()}")

    issuer.names = ("one", "two")
    clock.now = NOW + 60
    check(f"Bearer {token(header={'kid': 'two'}, sign=rs256('two'))}")

    assert issuer.downloads == 2


@contextmanager
def serving(status, body):
    """A keys endpoint over real HTTP."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Location", "/elsewhere")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/certs"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def jwk(name):
    return {**RSAAlgorithm.to_jwk(private_key(name).public_key(), as_dict=True), "kid": name, "use": "sig"}


@pytest.mark.parametrize("keys", [{"one": pem("one")}, {"keys": [jwk("one")]}], ids=["PEM", "JWK Set"])
def test_the_keys_come_from_push_certs_url(keys):
    """Without a fetcher of the test's own the keys are downloaded from PUSH_CERTS_URL, in either of Google's forms."""
    with serving(200, json.dumps(keys).encode()) as url:
        check = authenticator(settings(PUSH_CERTS_URL=url), Clock())
        check(f"Bearer {token()}")
        assert refusal(check, f"Bearer {token(sign=rs256('attacker'))}").reason is Reason.UNAUTHENTICATED


@pytest.mark.parametrize(
    ("status", "body"),
    [(500, b""), (302, b""), (200, b"<html></html>"), (200, b"{}"), (200, b"{" * 100_000), (200, b" " * 10_000_000)],
    ids=["error", "redirect", "HTML", "no keys", "garbage", "10 MB"],
)
def test_an_endpoint_in_trouble_is_keys_unavailable(status, body):
    """Whatever the keys endpoint answers instead of keys, the push gets 503."""
    with serving(status, body) as url:
        check = authenticator(settings(PUSH_CERTS_URL=url), Clock())
        assert refusal(check, f"Bearer {token()}").reason is Reason.KEYS_UNAVAILABLE


# --- tokens that have passed ---------------------------------------------------------------------------------------


class CountingKeys:
    """In the place of the keys: has each of them, and counts how often a token's signature needs one."""

    def __init__(self):
        self.checked = 0

    def find(self, kid):
        self.checked += 1
        return private_key(kid).public_key()


@pytest.fixture
def counted(monkeypatch):
    keys = CountingKeys()
    monkeypatch.setattr(auth, "Keys", lambda *_: keys)
    return keys


def test_a_token_that_has_passed_is_not_checked_again_until_it_expires(counted):
    """Pub/Sub sends the same token for an hour: its signature is checked once, and its expiry is kept to."""
    clock = Clock()
    check = checker(clock)
    header = f"Bearer {token({'exp': NOW + 100})}"

    for second in range(100):
        clock.now = NOW + second
        check(header)
    assert counted.checked == 1

    clock.now = NOW + 109
    check(header)
    assert counted.checked == 2

    clock.now = NOW + 110
    assert refusal(check, header).reason is Reason.UNAUTHENTICATED
    assert counted.checked == 2


def test_a_token_that_lives_long_is_checked_again_each_hour(counted):
    """However late a token expires, whether its key is still the issuer's is looked at each hour."""
    clock = Clock()
    check = checker(clock)
    header = f"Bearer {token({'exp': 10**4000})}"

    for second in (0, 3599, 3600, 7199, 7200):
        clock.now = NOW + second
        check(header)

    assert counted.checked == 3


def test_the_memory_of_tokens_is_bounded_and_keeps_those_in_use(counted, monkeypatch):
    """Of the tokens that have passed a bounded number is remembered: those used last."""
    monkeypatch.setattr(auth, "MAX_VERIFIED", 3)
    check = checker()
    headers = [f"Bearer {token({'number': number})}" for number in range(5)]

    for header in headers:
        check(header)
        check(headers[0])  # in use all the time
    assert counted.checked == 5

    check(headers[4])
    assert counted.checked == 5
    check(headers[1])
    assert counted.checked == 6


def test_refused_tokens_are_not_remembered(counted):
    """Only tokens that have passed all checks are remembered, so that the flood of others takes no memory's place."""
    check = checker()
    forbidden = f"Bearer {token({'email': 'other@example.com'})}"

    for _ in range(2):
        assert refusal(check, forbidden).reason is Reason.FORBIDDEN
    assert counted.checked == 2


def test_200_threads_with_a_cold_cache_make_one_download():
    """Pushes that arrive together at a fresh instance are all authenticated by one download."""
    issuer, start, failures = Issuer("one"), threading.Barrier(200), []
    check = checker(issuer=issuer)
    headers = [f"Bearer {token({'number': number})}" for number in range(200)]

    def push(header):
        start.wait(60)
        try:
            check(header)
        except AuthError as error:
            failures.append(error)

    threads = [threading.Thread(target=push, args=(header,)) for header in headers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert issuer.downloads == 1


# --- settings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{"PUSH_AUTH": "platform"}, {"PUSH_AUTH": "none", "PUBSUB_EMULATOR_HOST": "h:1"}])
@pytest.mark.parametrize("header", [None, "", "Basic dXNlcjpwYXNzd29yZA==", "Bearer a.b.SIGNATURE_REMOVED_BY_GOOGLE"])
def test_where_the_platform_checks_everything_passes(changes, header):
    """With PUSH_AUTH=platform or none no header is looked at, and no key is downloaded."""
    issuer = Issuer()
    issuer.problem = "must not be asked"

    checker(issuer=issuer, **changes)(header)

    assert issuer.downloads == 0


def test_another_issuer_can_be_configured():
    """PUSH_ISSUER is the one issuer that is accepted, Google's no more than any other's."""
    check = checker(PUSH_ISSUER="http://pubsub.local")

    check(f"Bearer {token({'iss': 'http://pubsub.local'})}")
    assert refusal(check, f"Bearer {token()}").reason is Reason.UNAUTHENTICATED


@pytest.mark.parametrize("name", ["push_issuer", "push_audience", "push_service_account"])
@pytest.mark.parametrize("value", [None, ""])
def test_nothing_is_no_expectation(name, value):
    """Settings that were made without validation do not make an empty claim a right one."""
    with pytest.raises(SettingsError):
        authenticator(settings().model_copy(update={name: value}))

"""The keys of push tokens: which are usable, and how long they are kept."""

import datetime as dt
import json
import logging
import ssl
import threading
from functools import cache

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from handler.push import keys
from handler.push.keys import Keys, KeysResponse, KeysUnavailable

START = 1_700_000_000.0


@cache
def rsa_key(name, bits=2048):
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


@cache
def ec_key():
    return ec.generate_private_key(ec.SECP256R1())


def certificate(private_key, signer=None):
    now = dt.datetime.now(dt.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .sign(signer or private_key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM).decode()


@cache
def pem(name):
    return certificate(rsa_key(name))


def keyset(*names):
    return json.dumps({name: pem(name) for name in names}).encode()


class Clock:
    def __init__(self):
        self.now = START

    def __call__(self):
        return self.now


class Issuer:
    """A fetcher that serves `names` or fails, and counts."""

    def __init__(self, *names, fresh_seconds=300.0):
        self.names = names
        self.fresh_seconds = fresh_seconds
        self.problem = None
        self.downloads = 0

    def __call__(self):
        self.downloads += 1
        if self.problem:
            raise KeysUnavailable(self.problem)
        return KeysResponse(keyset(*self.names), self.fresh_seconds)


# --- which keys are usable ---------------------------------------------------------------------------------------


JWK = {"kty": "RSA", "alg": "RS256", "use": "sig"}


def jwk(name, **changes):
    """A key as a JWK Set has it, and as Google writes it; None takes a field out."""
    fields = {**RSAAlgorithm.to_jwk(rsa_key(name).public_key(), as_dict=True), **JWK, "kid": name, **changes}
    return {field: value for field, value in fields.items() if value is not None}


def jwk_set(*members):
    return json.dumps({"keys": members}).encode()


@pytest.mark.parametrize("body", [keyset("one", "two"), jwk_set(jwk("one"), jwk("two"))], ids=["PEM", "JWK Set"])
def test_both_of_googles_forms_hold_the_same_keys(body):
    """Certificates by key id (oauth2/v1/certs) and a JWK Set (oauth2/v3/certs) are both read."""
    found = keys.parse(body)

    assert set(found) == {"one", "two"}
    for name, key in found.items():
        assert key.public_numbers() == rsa_key(name).public_key().public_numbers()


def test_a_key_id_may_be_called_keys():
    """What is not a list is no JWK Set, whatever its name."""
    assert set(keys.parse(json.dumps({"keys": pem("one")}).encode())) == {"keys"}


@pytest.mark.parametrize("left_out", ["alg", "use"])
def test_a_jwk_need_not_say_what_it_is_for(left_out):
    """Both are optional (RFC 7517 4.2, 4.4)."""
    assert set(keys.parse(jwk_set(jwk("one", **{left_out: None})))) == {"one"}


UNUSABLE_JWKS = {
    "encryption": lambda: jwk("one", kid="other", use="enc"),
    "RS512": lambda: jwk("one", kid="other", alg="RS512"),
    "HS256": lambda: {"kty": "oct", "kid": "other", "alg": "HS256", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"},
    "elliptic curve": lambda: {**ECAlgorithm.to_jwk(ec_key().public_key(), as_dict=True), "kid": "other"},
    "1024 bits": lambda: {**RSAAlgorithm.to_jwk(rsa_key("short", 1024).public_key(), as_dict=True), "kid": "other"},
    "private key": lambda: {**RSAAlgorithm.to_jwk(rsa_key("one"), as_dict=True), "kid": "other"},
    "no kid": lambda: jwk("one", kid=None),
    "kid a number": lambda: jwk("one", kid=1),
    "kid a list": lambda: jwk("one", kid=["other"]),
    "n missing": lambda: jwk("one", kid="other", n=None),
    "n a number": lambda: jwk("one", kid="other", n=1),
    "n not base64": lambda: jwk("one", kid="other", n="!"),
    "e even": lambda: jwk("one", kid="other", e="Ag"),
    "kty of tomorrow": lambda: {"kty": "PQC", "kid": "other"},
    "alg of tomorrow": lambda: jwk("one", kid="other", alg="RS1024"),
    "alg a list": lambda: jwk("one", kid="other", alg=["RS256"]),
    "a text": lambda: "other",
    "nothing": lambda: None,
}


@pytest.mark.parametrize("make", UNUSABLE_JWKS.values(), ids=UNUSABLE_JWKS)
def test_a_jwk_of_another_kind_does_not_spoil_the_others(make):
    """Only public RSA keys of 2048 bits and more that sign with RS256 are used; the rest of the set stays usable."""
    assert set(keys.parse(jwk_set(make(), jwk("good"), make()))) == {"good"}
    with pytest.raises(KeysUnavailable, match="RSA certificate or key"):
        keys.parse(jwk_set(make()))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe",
        b"<!doctype html><title>Sign in</title>",
        b'{"one": "' + b"A" * 40,
        b"[]",
        b"null",
        b"7",
        b"{}",
        b'{"one": null, "two": 7, "three": []}',
        b'{"one": ""}',
        b'{"one": "\\ud800"}',
        b'{"one": "-----BEGIN CERTIFICATE-----\\nAAAA\\n-----END CERTIFICATE-----\\n"}',
        b'{"keys": [{"kty": "RSA", "kid": "one", "n": "AQAB", "e": "AQAB"}]}',
        b'{"keys": []}',
        b'{"keys": [null, 7, "one", [], {}]}',
        b'{"keys": {}}',
        b"[" * 100_000,
    ],
    ids=lambda body: repr(body[:24]),
)
def test_a_body_without_a_certificate_is_no_key_set(body):
    """Garbage, pages, other JSON and sets in another format are KeysUnavailable and no other exception."""
    with pytest.raises(KeysUnavailable):
        keys.parse(body)


@pytest.mark.parametrize(
    "other",
    ["elliptic curve", "Ed25519", "1024 bits", "private key", "public key without certificate", "version of tomorrow"],
)
def test_a_key_of_another_kind_does_not_spoil_the_others(other):
    """Only RSA certificates of 2048 bits and more are used; the rest of the set stays usable."""
    public, raw = serialization.PublicFormat.SubjectPublicKeyInfo, serialization.Encoding.PEM
    unusable = {
        "elliptic curve": lambda: certificate(ec_key()),
        "Ed25519": lambda: certificate(ed25519.Ed25519PrivateKey.generate(), signer=rsa_key("one")),
        "1024 bits": lambda: certificate(rsa_key("short", 1024)),
        "private key": lambda: (
            rsa_key("one").private_bytes(raw, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()
        ),
        "public key without certificate": lambda: rsa_key("one").public_key().public_bytes(raw, public).decode(),
        "version of tomorrow": lambda: ssl.DER_cert_to_PEM_cert(
            ssl.PEM_cert_to_DER_cert(pem("one")).replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x07", 1)
        ),
    }[other]()

    assert set(keys.parse(json.dumps({"good": pem("one"), "other": unusable}).encode())) == {"good"}
    with pytest.raises(KeysUnavailable, match="RSA certificate"):
        keys.parse(json.dumps({"other": unusable}).encode())


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 0),
        ({"Cache-Control": "max-age=300"}, 300),
        ({"Cache-Control": "public, max-age=19204, must-revalidate, no-transform"}, 19204),
        ({"Cache-Control": "Public,MAX-AGE=19204"}, 19204),
        ({"Cache-Control": 'max-age="60"'}, 60),
        ({"Cache-Control": "max-age=300", "Age": "100"}, 200),
        ({"Cache-Control": "max-age=300", "Age": "400"}, 0),
        ({"Cache-Control": "max-age=300", "Age": "-5"}, 300),
        ({"Cache-Control": "max-age=300", "Age": "soon"}, 300),
        ({"Cache-Control": "s-maxage=300"}, 0),
        ({"Cache-Control": "max-age=-1"}, 0),
        ({"Cache-Control": "max-age=1e9"}, 0),
        ({"Cache-Control": "max-age=" + "9" * 5000}, 0),
        ({"Cache-Control": "no-store"}, 0),
    ],
)
def test_freshness_is_what_the_response_says(headers, seconds):
    """A response is fresh for its max-age less its Age; what cannot be read counts as 0."""
    assert keys.fresh_seconds(headers) == seconds


# --- how long they are kept --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("said", "kept"), [(0, 60), (59, 60), (300, 300), (86_400, 86_400), (10**12, 86_400)])
def test_keys_are_kept_for_max_age_within_bounds(said, kept):
    """Keys are downloaded again when max-age is over, but not within a minute, and after a day at the latest."""
    clock, issuer = Clock(), Issuer("one", fresh_seconds=float(said))
    store = Keys(issuer, clock)
    store.find("one")

    clock.now = START + kept - 1
    assert store.find("one")
    assert issuer.downloads == 1

    clock.now = START + kept
    assert store.find("one")
    assert issuer.downloads == 2


def test_a_storm_of_unknown_ids_makes_one_download_a_minute():
    """Key ids that fresh keys do not have make one download a minute, however many there are."""
    clock, issuer = Clock(), Issuer("one", fresh_seconds=3600.0)
    store = Keys(issuer, clock)

    for second in range(180):
        clock.now = START + second
        assert store.find(f"invented-{second}") is None

    assert issuer.downloads == 3


def test_a_rotation_is_noticed_by_the_first_token_of_the_new_key():
    """An unknown key id is looked for at the issuer, and a key that is there no more is forgotten."""
    clock, issuer = Clock(), Issuer("old", fresh_seconds=3600.0)
    store = Keys(issuer, clock)
    assert store.find("old")

    issuer.names = ("new",)
    clock.now = START + 61

    assert store.find("new")
    assert store.find("old") is None


def test_an_unknown_id_is_not_judged_while_downloads_fail():
    """Whether an issuer has a key cannot be said when it cannot be asked; known keys stay usable meanwhile."""
    clock, issuer = Clock(), Issuer("one", fresh_seconds=3600.0)
    store = Keys(issuer, clock)
    store.find("one")

    issuer.problem = "could not be fetched (status 500)"
    for second in range(61, 115, 3):  # one try, then the minute's pause
        clock.now = START + second
        with pytest.raises(KeysUnavailable, match="status 500"):
            store.find("two")
        assert store.find("one")
    assert issuer.downloads == 2

    issuer.problem = None
    clock.now = START + 121
    assert store.find("two") is None


def test_known_keys_outlive_an_outage_of_the_endpoint_for_an_hour():
    """Keys that cannot be refreshed are used for an hour beyond their freshness, and not a second longer."""
    clock, issuer = Clock(), Issuer("one", fresh_seconds=300.0)
    store = Keys(issuer, clock)
    store.find("one")
    issuer.problem = "could not be fetched (status 503)"

    clock.now = START + 300 + keys.STALE_SECONDS - 1
    assert store.find("one")

    clock.now = START + 300 + keys.STALE_SECONDS
    with pytest.raises(KeysUnavailable, match="status 503"):
        store.find("one")


def test_a_failing_endpoint_is_not_hammered():
    """While downloads fail there is one every five seconds, however many pushes there are, and recovery is noticed."""
    clock, issuer = Clock(), Issuer("one")
    store = Keys(issuer, clock)
    issuer.problem = "could not be fetched (status 503)"

    for tenth in range(200):
        clock.now = START + tenth / 10
        with pytest.raises(KeysUnavailable):
            store.find("one")
    assert issuer.downloads == 4

    issuer.problem = None
    clock.now = START + 20
    assert store.find("one")


def test_garbage_does_not_replace_good_keys(caplog):
    """A body that holds no keys is a failed download: logged, and the keys in hand stay."""
    clock = Clock()
    bodies = iter([keyset("one"), b"<html>captive portal</html>"])
    store = Keys(lambda: KeysResponse(next(bodies)), clock)
    store.find("one")

    clock.now = START + 60
    with caplog.at_level(logging.WARNING):
        assert store.find("one")

    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "captive" not in caplog.text + str(caplog.records[0].__dict__)


@pytest.mark.parametrize("jump", [-0.5, -86_400.0])
def test_a_clock_set_back_costs_one_download(jump):
    """When the clock was set back the keys' age is unknown: they are downloaded once more, and not at every push."""
    clock, issuer = Clock(), Issuer("one")
    store = Keys(issuer, clock)
    store.find("one")

    clock.now = START + jump
    assert store.find("one")
    assert store.find("one")
    assert issuer.downloads == 2

    issuer.problem = "could not be fetched (status 503)"
    clock.now = START + 2 * jump
    assert store.find("one")
    assert store.find("one")
    assert issuer.downloads == 3


# --- many threads ------------------------------------------------------------------------------------------------


def in_threads(count, call):
    """Run `call` in `count` threads; returns their results or exceptions."""
    outcomes = []

    def run():
        try:
            outcomes.append(call())
        except KeysUnavailable as error:
            outcomes.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads, outcomes


class Crowd:
    """A clock that knows how many threads have asked it for the time."""

    def __init__(self, count):
        self.complete = threading.Event()
        self._count = count
        self._seen = set()

    def __call__(self):
        self._seen.add(threading.get_ident())
        if len(self._seen) >= self._count:
            self.complete.set()
        return START


@pytest.mark.parametrize("problem", [None, "could not be fetched (status 503)"])
def test_200_threads_with_a_cold_cache_make_one_download(problem):
    """All threads that need keys at the same time wait for one download, and share its outcome, good or bad."""
    crowd, issuer = Crowd(200), Issuer("one")
    issuer.problem = problem

    def fetch():
        assert crowd.complete.wait(60)  # every thread is there before the first has its keys
        return issuer()

    store = Keys(fetch, crowd)
    threads, outcomes = in_threads(200, lambda: store.find("one"))
    for thread in threads:
        thread.join()

    assert issuer.downloads == 1
    assert len(outcomes) == 200
    assert {isinstance(outcome, KeysUnavailable) for outcome in outcomes} == {bool(problem)}


def test_a_known_key_is_not_held_up_by_a_download_under_way():
    """While one thread refreshes stale keys, the others go on with the keys in hand."""
    clock = Clock()
    issuer = Issuer("one")
    started, release = threading.Event(), threading.Event()

    def fetch():
        if issuer.downloads:
            started.set()
            assert release.wait(60)
        return issuer()

    store = Keys(fetch, clock)
    first = store.find("one")
    clock.now = START + 300
    threads, outcomes = in_threads(1, lambda: store.find("one"))
    assert started.wait(60)

    assert store.find("one") is first
    assert issuer.downloads == 1

    release.set()
    threads[0].join()
    assert len(outcomes) == 1
    assert issuer.downloads == 2


def test_a_bug_in_a_download_does_not_lock_the_others_out():
    """An exception that nobody foresaw passes through, and the next push tries again."""
    outcomes = iter([RuntimeError("a bug"), None])

    def fetch():
        if error := next(outcomes):
            raise error
        return KeysResponse(keyset("one"))

    store = Keys(fetch, Clock())
    with pytest.raises(RuntimeError, match="a bug"):
        store.find("one")
    assert store.find("one")

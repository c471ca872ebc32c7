"""The download of the keys of push tokens, from real endpoints: what a good one is asked, and what a bad one can do.

In a patched process, as the service is: python -m gevent.monkey --module pytest tests/cooperative
"""

import datetime as dt
import ipaddress
import json
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache

import certifi
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from handler.push import keys
from handler.push.keys import Keys, KeysResponse, KeysUnavailable
from tests.parts.processes import free_port


@cache
def rsa_key():
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def certificate(host="127.0.0.1"):
    now = dt.datetime.now(dt.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(rsa_key().public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))]), critical=False)
        .sign(rsa_key(), hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM).decode()


@cache
def keyset():
    return json.dumps({"one": certificate()}).encode()


# --- the endpoint ------------------------------------------------------------------------------------------------


class Connection:
    """One connection that the endpoint took, with its request read."""

    def __init__(self, sock, endpoint):
        self._sock = sock
        self.request = b""
        self.over = endpoint.over

    def read_request(self):
        while b"\r\n\r\n" not in self.request and (data := self._sock.recv(65536)):
            self.request += data

    def send(self, data):
        self._sock.sendall(data)

    def respond(self, status, body, *headers):
        head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
        self.send("\r\n".join([*head, "", ""]).encode() + body)

    def drip(self, data):
        """Send `data` again and again, faster than any one read times out, until the other side has had enough."""
        while not self.over.wait(0.01):
            self.send(data)

    def hang(self):
        """Send nothing more until the other side hangs up."""
        while self._sock.recv(65536):
            pass


class Endpoint:
    """A server on loopback that gives each connection to `answer`."""

    def __init__(self, answer: Callable[[Connection], None], context: ssl.SSLContext | None = None):
        self.connections = 0
        self.requests = []
        self.over = threading.Event()
        outer = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                outer.connections += 1
                # That the client ends the connection, in whatever way, is part of the tests.
                with suppress(OSError), ExitStack() as stack:
                    sock = self.request
                    if context:
                        sock = stack.enter_context(context.wrap_socket(sock, server_side=True))
                    connection = Connection(sock, outer)
                    connection.read_request()
                    outer.requests.append(connection.request)
                    answer(connection)

        class Server(socketserver.ThreadingTCPServer):
            request_queue_size = 256

        # Closing it waits for its threads: a test that ends shows that the connections were ended.
        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        scheme = "https" if context else "http"
        self.url = f"{scheme}://127.0.0.1:{self._server.server_address[1]}/certs"

    def close(self):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextmanager
def endpoint(answer, context=None) -> Iterator[Endpoint]:
    served = Endpoint(answer, context)
    try:
        yield served
    finally:
        served.close()


def test_a_download_is_one_plain_get():
    """A download sends one GET of the configured URL, tells nothing else, and reads body and freshness."""
    with endpoint(
        lambda connection: connection.respond("200 OK", keyset(), "Cache-Control: max-age=300", "Age: 100")
    ) as served:
        response = keys.download(served.url + "?v=1")

    assert response == KeysResponse(keyset(), 200.0)
    request = served.requests[0].decode().splitlines()
    assert request[0] == "GET /certs?v=1 HTTP/1.1"
    assert sorted(line.split(":")[0].lower() for line in request[1:] if line) == [
        "accept",
        "accept-encoding",
        "host",
        "user-agent",
    ]


def test_a_url_without_a_path_asks_for_the_root():
    """`http://host?query` means `http://host/?query`."""
    with endpoint(lambda connection: connection.respond("200 OK", b"{}")) as served:
        keys.download(served.url.replace("/certs", "?v=1"))

    assert served.requests[0].startswith(b"GET /?v=1 HTTP/1.1\r\n")


def test_chunks_and_an_early_close_are_ordinary_http():
    """A body may come in chunks, or end with the connection."""
    with endpoint(
        lambda connection: connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n")
    ) as served:
        assert keys.download(served.url).body == b"{}"
    with endpoint(lambda connection: connection.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}")) as served:
        assert keys.download(served.url).body == b"{}"


@pytest.mark.parametrize("status", ["204 No Content", "206 Partial Content", "304 Not Modified", "401 Unauthorized"])
@pytest.mark.parametrize("body", [b"", b"{}"])
def test_only_status_200_brings_keys(status, body):
    """Every status but 200 is a failed download, and the message names it."""
    with (
        endpoint(lambda connection: connection.respond(status, body)) as served,
        pytest.raises(KeysUnavailable, match=f"status {status[:3]}"),
    ):
        keys.download(served.url)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(status):
    """A redirect is a failed download; its target is never asked."""
    with endpoint(lambda connection: connection.respond("200 OK", keyset())) as target:
        location = f"Location: {target.url}"
        with (
            endpoint(lambda connection: connection.respond(f"{status} Moved", b"", location)) as served,
            pytest.raises(KeysUnavailable, match=str(status)),
        ):
            keys.download(served.url)

    assert target.connections == 0


def test_no_proxy_is_used(monkeypatch):
    """Proxies named in the environment never see the request."""
    with (
        endpoint(lambda connection: connection.respond("200 OK", b"{}")) as proxy,
        endpoint(lambda connection: connection.respond("200 OK", keyset())) as served,
    ):
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        keys.download(served.url)

    assert (proxy.connections, served.connections) == (0, 1)


@pytest.mark.parametrize("host", ["127.0.0.1", "host.invalid", "a" * 300])
def test_an_endpoint_that_is_down_is_keys_unavailable(host):
    """A refused connection and a name that is none are KeysUnavailable."""
    with pytest.raises(KeysUnavailable, match="could not be fetched"):
        keys.download(f"http://{host}:{free_port()}/certs", 60.0)


BROKEN = {
    "closes at once": b"",
    "not HTTP": b"SSH-2.0-OpenSSH_9.6\r\n",
    "endless line": b"HTTP/1.1 200 " + b"A" * 100_000,
    "too many headers": b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 1000 + b"\r\n",
    "lengths differ": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "cut off": b"HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n{}",
    "chunk cut off": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{}",
    "chunk size without end": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"0" * 1_000_000,
    "chunk is no number": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_broken_http_is_keys_unavailable(data):
    """Whatever bytes an endpoint sends, the exception is KeysUnavailable."""
    with (
        endpoint(lambda connection: connection.send(data)) as served,
        pytest.raises(KeysUnavailable, match="could not be fetched"),
    ):
        keys.download(served.url, 60.0)


@pytest.mark.parametrize("kind", ["declared", "chunked", "until close"])
def test_a_large_body_is_refused_before_it_is_read(kind):
    """Of a body larger than a key set can be, no more than the limit is read."""
    whole = []

    def answer(connection):
        connection.send(b"HTTP/1.1 200 OK\r\n")
        if kind == "chunked":
            connection.send(b"Transfer-Encoding: chunked\r\n\r\n")
            for _ in range(160):
                connection.send(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
            connection.send(b"0\r\n\r\n")
        else:
            connection.send(b"Content-Length: 10485760\r\n\r\n" if kind == "declared" else b"\r\n")
            for _ in range(160):
                connection.send(b" " * 0x10000)
        whole.append(kind)

    with endpoint(answer) as served, pytest.raises(KeysUnavailable, match="larger than"):
        keys.download(served.url, 60.0)
    assert not whole


def test_a_compressed_body_is_not_unpacked():
    """A body that was compressed unasked stays as it is, so that no bomb goes off; as keys it is garbage."""
    with endpoint(
        lambda connection: connection.respond("200 OK", b"\x1f\x8b\x08\x00", "Content-Encoding: gzip")
    ) as served:
        assert keys.download(served.url).body == b"\x1f\x8b\x08\x00"


SLOW = {
    "silent": lambda connection: connection.hang(),
    "drips headers": lambda connection: (connection.send(b"HTTP/1.1 200 OK\r\nA: "), connection.drip(b"a")),
    "says continue for ever": lambda connection: connection.drip(b"HTTP/1.1 100 Continue\r\n\r\n"),
    "drips its body": lambda connection: (
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n"),
        connection.drip(b" "),
    ),
    "drips until it closes": lambda connection: (
        connection.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"),
        connection.drip(b" "),
    ),
    "drips chunks": lambda connection: (
        connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        connection.drip(b"1\r\n \r\n"),
    ),
    "drips trailers": lambda connection: (
        connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"),
        connection.drip(b"A: b\r\n"),
    ),
}


@pytest.mark.parametrize("answer", SLOW.values(), ids=SLOW)
def test_a_slow_endpoint_is_given_up_on_as_a_whole(answer):
    """The time for a download is one for all its parts; then the connection is ended, which ends the server's loop."""
    with endpoint(answer) as served, pytest.raises(KeysUnavailable, match=r"did not arrive within 0\.3 s"):
        keys.download(served.url, 0.3)


def test_a_resolver_that_hangs_is_given_up_on(monkeypatch):
    """Looking up the name counts too; what was given up on sends no request when the name is found after all."""
    resolve, found = socket.getaddrinfo, threading.Event()

    def getaddrinfo(*args, **options):
        assert found.wait(60)
        return resolve(*args, **options)

    with endpoint(lambda connection: connection.hang()) as served:
        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        with pytest.raises(KeysUnavailable, match="did not arrive"):
            keys.download(served.url, 0.1)
        found.set()
        served.over.wait(0.3)

    assert [request for request in served.requests if request] == []


# --- TLS ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def tls(tmp_path):
    """Make a server's context with a certificate for a host, and the file of the authority that issued it."""

    def make(host):
        path = tmp_path / f"{host}.pem"
        private = rsa_key().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path.write_bytes(private + certificate(host).encode())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context, str(path)

    return make


def ok(connection):
    connection.respond("200 OK", keyset())


def test_an_endpoint_that_a_known_authority_vouches_for_is_trusted(tls, monkeypatch):
    """Over https the keys come through when certifi's authorities vouch for the endpoint."""
    context, authority = tls("127.0.0.1")
    monkeypatch.setattr(certifi, "where", lambda: authority)
    with endpoint(ok, context) as served:
        assert keys.download(served.url, 60.0).body == keyset()


def test_an_unknown_authority_is_refused(tls):
    """A certificate of nobody known, such as an interceptor's, is KeysUnavailable; no request is sent."""
    context, _ = tls("127.0.0.1")
    with endpoint(ok, context) as served, pytest.raises(KeysUnavailable, match="SSLCertVerificationError"):
        keys.download(served.url, 60.0)
    assert served.requests == []


def test_another_hosts_certificate_is_refused(tls, monkeypatch):
    """A certificate for another host is KeysUnavailable, whoever vouches for it."""
    context, authority = tls("127.0.0.2")
    monkeypatch.setattr(certifi, "where", lambda: authority)
    with endpoint(ok, context) as served, pytest.raises(KeysUnavailable, match="SSLCertVerificationError"):
        keys.download(served.url, 60.0)
    assert served.requests == []


def test_a_slow_endpoint_is_given_up_on_over_tls_too(tls, monkeypatch):
    """Ending a connection at its time works on encrypted ones."""
    context, authority = tls("127.0.0.1")
    monkeypatch.setattr(certifi, "where", lambda: authority)
    with (
        endpoint(SLOW["drips headers"], context) as served,
        pytest.raises(KeysUnavailable, match="did not arrive"),
    ):
        keys.download(served.url, 0.3)


# A TLS socket of gevent's that is broken off while it shakes hands is closed by nobody but the garbage collector.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_a_handshake_that_hangs_is_given_up_on():
    """A server that takes the connection and never speaks TLS is KeysUnavailable."""
    with (
        endpoint(lambda connection: connection.hang()) as served,
        pytest.raises(KeysUnavailable, match=r"did not arrive|could not be fetched"),
    ):
        keys.download(served.url.replace("http:", "https:"), 0.3)


# --- many greenlets ---


class Crowd:
    """A clock that knows how many greenlets have asked it for the time."""

    def __init__(self, count):
        self.complete = threading.Event()
        self._count = count
        self._seen = set()

    def __call__(self):
        self._seen.add(threading.get_ident())
        if len(self._seen) >= self._count:
            self.complete.set()
        return 1_700_000_000.0


@pytest.mark.parametrize("status", ["200 OK", "503 Service Unavailable"])
def test_1000_greenlets_with_a_cold_cache_make_one_download(status):
    """All that need keys at the same time wait for one download, and share its outcome, good or bad."""
    crowd, outcomes = Crowd(1000), []

    def answer(connection):
        assert crowd.complete.wait(60)  # every greenlet is there before the first has its keys
        connection.respond(status, keyset())

    def push(store):
        try:
            outcomes.append(store.find("one") is not None)
        except KeysUnavailable:
            outcomes.append(False)

    with endpoint(answer) as served:
        store = Keys(lambda: keys.download(served.url, 60.0), crowd)
        threads = [threading.Thread(target=push, args=(store,)) for _ in range(1000)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert served.connections == 1
    assert outcomes == [status == "200 OK"] * 1000

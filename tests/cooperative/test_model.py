"""The model service over HTTP, against servers that say exactly what a test has them say."""

import gzip
import resource
import socket
import sys
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
import requests
import trustme
from urllib3.exceptions import ReadTimeoutError

from handler.config.settings import Settings
from handler.http import adapter, dial
from handler.model.service import MAX_BODY_BYTES, ModelService, failure_of, retry_after, waiting
from handler.rules.verdict.outcome import ModelFailure
from handler.rules.verdict.reply import ModelReply
from tests.parts.garbage import uncollected
from tests.parts.processes import until
from tests.parts.tls import server_context

OK = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{"ok":true}'


def service(url, **settings):
    """A model service at this URL."""
    environment = {"RESPONSE_TOPIC": "projects/p/topics/responses", "PUSH_AUTH": "platform", "MODEL_URL": url}
    made = Settings.from_environment(environment | settings)
    return ModelService(made.routing.routes[0], made.connect_timeout_seconds)


class Scripted:
    """A server that reads a request and then does what `script(connection)` does; it keeps the requests."""

    def __init__(self, script, wrap=lambda connection: connection):
        self.requests = []
        self.connections = 0
        self._open = []
        self._script, self._wrap = script, wrap
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def __enter__(self):
        self._threads[0].start()
        return self

    def __exit__(self, *_):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, plain):
        with suppress(OSError), self._wrap(plain) as connection:
            self._open.append(connection)
            while request := self._read(connection):
                self.requests.append(request)
                self._script(connection)

    @staticmethod
    def _read(connection):
        data = b""
        while b"\r\n\r\n" not in data:
            part = connection.recv(65536)
            if not part:
                return b""
            data += part
        head, _, body = data.partition(b"\r\n\r\n")
        length = next(
            (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
        )
        while len(body) < length:
            body += connection.recv(65536)
        return head + b"\r\n\r\n" + body


@contextmanager
def scripted(script):
    """A scripted server and the service that calls it."""
    with Scripted(script) as server:
        yield server, service(server.url + "/openai")


def says(data):
    """A script that sends these bytes."""
    return lambda connection: connection.sendall(data)


def says_and_ends(data):
    """A script that sends these bytes and hangs up."""

    def script(connection):
        connection.sendall(data)
        connection.shutdown(socket.SHUT_RDWR)

    return script


def test_a_call():
    """The path is appended to the base URL, the body goes as it is, and the reply comes back whole."""
    with scripted(says(OK)) as (server, model):
        reply = model.call("/v1/completions", b'{"prompt":"x"}', 10)
    assert reply == ModelReply(200, "application/json", b'{"ok":true}')
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /openai/v1/completions HTTP/1.1\r\n")
    assert body == b'{"prompt":"x"}'


def test_the_headers_that_the_model_gets():
    """Nothing is sent but what the call needs: the key if there is one, and no wish for compression."""
    with Scripted(says(OK)) as server:
        service(server.url, MODEL_API_KEY="sesame").call("/v1/completions", b"{}", 10)
    lines = server.requests[0].partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
    headers = {name.lower(): value for name, _, value in (line.decode().partition(": ") for line in lines)}
    assert headers == {
        "host": server.url.removeprefix("http://"),
        "accept": "*/*",
        "accept-encoding": "identity",
        "authorization": "Bearer sesame",
        "content-length": "2",
        "content-type": "application/json",
        "user-agent": "inference-relay",
    }


def test_connections_are_kept():
    """One connection serves one call after another."""
    with scripted(says(OK)) as (server, model):
        for _ in range(3):
            model.call("/v1/completions", b"{}", 10)
        assert (len(server.requests), server.connections) == (3, 1)


def test_no_proxy_is_taken_from_the_environment(monkeypatch):
    """A proxy variable meant for something else does not reroute prompts."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    with scripted(says(OK)) as (_, model):
        assert model.call("/v1/completions", b"{}", 10).status == 200


def test_a_redirect_is_not_followed():
    """The target of a redirect is not asked, wherever it is."""
    with Scripted(says(OK)) as elsewhere:
        location = f"HTTP/1.1 307 Moved\r\nLocation: {elsewhere.url}/x\r\nContent-Length: 0\r\n\r\n".encode()
        with scripted(says(location)) as (_, model):
            assert model.call("/v1/completions", b"{}", 10).status == 307
        assert elsewhere.connections == 0


def test_cookies_are_not_kept():
    """A cookie of one answer does not go with the next request."""
    answer = OK.replace(b"\r\n\r\n", b"\r\nSet-Cookie: a=b\r\n\r\n")
    with scripted(says(answer)) as (server, model):
        model.call("/v1/completions", b"{}", 10)
        model.call("/v1/completions", b"{}", 10)
    assert b"cookie" not in server.requests[1].lower()


def test_nobody_listens():
    """A refused connection means that nothing was sent."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        assert service(url).call("/v1/completions", b"{}", 10) is ModelFailure.UNREACHABLE


def test_no_such_host():
    """A name that nobody knows means that nothing was sent."""
    assert service("http://model.invalid").call("/v1/completions", b"{}", 10) is ModelFailure.UNREACHABLE


@pytest.mark.parametrize(
    ("host", "failure"),
    [
        ("127.0.0.1:1", ModelFailure.UNREACHABLE),
        ("model.invalid", ModelFailure.UNREACHABLE),
        ("192.0.2.1", ModelFailure.UNREACHABLE),
        ("cut off", ModelFailure.BROKEN),
        ("silent", ModelFailure.TIMEOUT),
    ],
)
def test_a_failed_call_holds_nothing(host, failure):
    """No cycle of references keeps the request, which may have 10 MB: in an outage thousands fail."""
    scripts = {"cut off": says_and_ends(b"HTTP/1.1 200"), "silent": lambda connection: connection.recv(1)}
    with ExitStack() as stack:
        url = stack.enter_context(scripted(scripts[host]))[0].url if host in scripts else f"http://{host}"
        model, body = service(url, CONNECT_TIMEOUT_SECONDS="0.2"), b" " * 1_000_000
        before = sys.getrefcount(body)
        stack.enter_context(uncollected())
        assert model.call("/v1/completions", body, 0.5) is failure
        assert sys.getrefcount(body) == before


def test_a_host_that_does_not_accept():
    """Connecting has a limit of its own."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        fillers = [socket.socket() for _ in range(4)]  # the backlog is full from here on
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(address)
        model = service(f"http://127.0.0.1:{address[1]}", CONNECT_TIMEOUT_SECONDS="0.2")
        assert model.call("/v1/completions", b"{}", 30) is ModelFailure.UNREACHABLE
        for filler in fillers:
            filler.close()


CUT = {
    "nothing": b"",
    "half a body": b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"half":',
    "no last chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    "half a head": b"HTTP/1.1 200 OK\r\nContent-Le",
}
GARBLED = {
    "a chunk of size zz": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
    "200 headers": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
    "a header of 100 KB": b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5, 7\r\n\r\nhello",
    "a status of letters": b"HTTP/1.1 abc OK\r\n\r\n",
    "gzip that is none": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello",
}


@pytest.mark.parametrize("data", CUT.values(), ids=CUT)
def test_a_response_that_is_cut_off(data):
    """A connection that ends early is broken; the model may have worked on the request."""
    with scripted(says_and_ends(data)) as (_, model):
        assert model.call("/v1/completions", b"{}", 30) is ModelFailure.BROKEN


@pytest.mark.parametrize("data", GARBLED.values(), ids=GARBLED)
def test_what_is_not_http(data):
    """It was not cut off: the same would come again."""
    with scripted(says_and_ends(data)) as (_, model):
        assert model.call("/v1/completions", b"{}", 30) is ModelFailure.GARBLED


def test_a_reset():
    """A reset after the request was sent is broken, not unreachable."""

    def script(connection):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        connection.close()

    with scripted(script) as (_, model):
        assert model.call("/v1/completions", b"{}", 30) is ModelFailure.BROKEN


def hangs_up(after=0.0):
    """A script that ends the connection without a word, after so many seconds."""

    def script(connection):
        time.sleep(after)
        connection.shutdown(socket.SHUT_RDWR)

    return script


def after_a_good_call(script):
    """What becomes of a second call, on the connection that the first one left, when the service does `script`."""
    answers = iter([says(OK), script])
    with scripted(lambda connection: next(answers)(connection)) as (server, model):
        model.call("/v1/completions", b"{}", 30)
        result = model.call("/v1/completions", b"{}", 30)
        assert server.connections == 1
    return result


@pytest.mark.parametrize(
    ("script", "result"),
    [
        (hangs_up(), ModelFailure.STALE),
        (hangs_up(after=1.1), ModelFailure.BROKEN),
        (says_and_ends(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"), ModelFailure.BROKEN),
    ],
    ids=["at once", "later", "half-way"],
)
def test_a_kept_connection_that_ends(script, result):
    """At once and without a word, it had been closed before; otherwise the model may have worked on the request."""
    assert after_a_good_call(script) is result


def test_a_fresh_connection_is_never_stale():
    """Neither is one that took the place of a kept one which had been closed in good time."""

    def good_then_close(connection):
        connection.sendall(OK.replace(b"\r\n\r\n", b"\r\nX: y\r\n\r\n"))
        connection.shutdown(socket.SHUT_RDWR)
        closed.set()

    closed = threading.Event()
    answers = iter([good_then_close, hangs_up()])
    with scripted(lambda connection: next(answers)(connection)) as (server, model):
        assert model.call("/v1/completions", b"{}", 30).status == 200
        assert closed.wait(10)
        assert model.call("/v1/completions", b"{}", 30) is ModelFailure.BROKEN
        assert server.connections == 2


def test_calls_are_cut_off_at_the_end():
    """Calls under way end at once, others do not begin."""
    with scripted(lambda connection: connection.recv(1)) as (server, model), ThreadPoolExecutor(1) as thread:
        call = thread.submit(model.call, "/v1/completions", b"{}", 60)
        until(lambda: server.requests)
        model.abort()
        assert call.result(10) is ModelFailure.ABORTED
        assert model.call("/v1/completions", b"{}", 60) is ModelFailure.ABORTED
        assert server.connections == 1


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("", None),
        ("0", 0.0),
        ("7", 7.0),
        ("-7", None),
        ("7.5", None),
        ("soon", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("Wed, 21 Oct 2015 07:28:00", None),
        ("9" * 10, None),
    ],
)
def test_retry_after(value, seconds):
    """Seconds or a date; anything else says nothing."""
    assert retry_after(value) == seconds


def test_retry_after_a_date_to_come():
    """It is as far away as the date."""
    in_a_minute = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert 50 < retry_after(in_a_minute) <= 60


@pytest.mark.parametrize(
    ("load", "number"),
    [
        ("", None),
        ("TEXT named_metrics.kv_cache_usage_perc=0.5, named_metrics.num_requests_waiting=7.0", 7),
        ('JSON {"named_metrics": {"kv_cache_usage_perc": 0.5, "num_requests_waiting": 3}}', 3),
        ("TEXT named_metrics.num_requests_waiting=0.0", 0),
        ("TEXT num_requests_waiting=many", None),
    ],
)
def test_the_models_own_queue(load, number):
    """What vLLM says of its load in a response's header, in either form."""
    assert waiting(load) == number


def test_the_model_is_asked_for_its_queue_where_that_counts():
    """With MODEL_SLOTS=auto, and only then."""
    for slots, asked in (("auto", True), ("3", False)):
        with Scripted(says(OK)) as server:
            service(server.url, MODEL_SLOTS=slots).call("/v1/completions", b"{}", 10)
        assert (b"endpoint-load-metrics-format: TEXT" in server.requests[0]) is asked


def drips(start, drop):
    """A script that sends `start` and then a drop at a time, until the other side has had enough."""

    def script(connection):
        connection.sendall(start)
        while True:
            connection.sendall(drop)
            time.sleep(0.02)

    return script


@pytest.mark.parametrize(
    "script",
    [
        lambda connection: connection.recv(1),
        drips(b"HTTP/1.1 200 OK\r\n", b"X"),
        drips(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
        drips(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        drips(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b" "),
        drips(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
        drips(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1"),
    ],
    ids=["silence", "header line", "headers", "interim responses", "body", "chunks", "chunk size"],
)
def test_one_deadline_for_everything(script):
    """A service that sends a byte now and then, in whatever part of its response, cannot outlast the deadline."""
    with scripted(script) as (_, model):
        assert model.call("/v1/completions", b"{}", 0.3) in (ModelFailure.TIMEOUT, ModelFailure.BROKEN)


def test_a_request_that_is_not_read():
    """Sending counts too: a service that stops reading cannot outlast the deadline."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        model = service(f"http://127.0.0.1:{deaf.getsockname()[1]}")
        assert model.call("/v1/completions", b" " * 30_000_000, 0.3) in (ModelFailure.TIMEOUT, ModelFailure.BROKEN)


class SlowReader(Scripted):
    """A server that thinks for a second before it reads a request, as one whose model is busy may."""

    @staticmethod
    def _read(connection):
        time.sleep(1)
        return Scripted._read(connection)


def test_a_request_that_is_read_late():
    """The call's own time bounds the sending of its body, not that of connecting; on a kept connection, too."""
    with SlowReader(says(OK)) as server:
        model = service(server.url, CONNECT_TIMEOUT_SECONDS="0.5")
        for _ in range(2):
            assert model.call("/v1/completions", b" " * 30_000_000, 30).status == 200
    assert server.connections == 1


def test_a_kept_connection_has_the_new_calls_deadline():
    """The second call on a connection is bounded by its own deadline, not by what was left of the first."""
    answers = iter([says(OK), lambda connection: time.sleep(0.4) or connection.sendall(OK), says(OK)])
    with scripted(lambda connection: next(answers)(connection)) as (server, model):
        assert model.call("/v1/completions", b"{}", 0.3).status == 200
        assert model.call("/v1/completions", b"{}", 30).status == 200
        assert server.connections == 1


def test_no_time_left():
    """Nothing is sent when it is too late."""
    with scripted(says(OK)) as (server, model):
        assert model.call("/v1/completions", b"{}", 0) is ModelFailure.TIMEOUT
        assert server.connections == 0


def test_a_body_that_no_message_can_hold():
    """Reading ends at the limit, and the rest is not waited for."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11000000\r\n\r\n"
    with scripted(says(head + b" " * 10_500_000)) as (_, model):
        reply = model.call("/v1/completions", b"{}", 30)
    assert (reply.truncated, reply.body) == (True, b"")


def test_a_body_just_within_the_limit():
    """What fits is read whole."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % MAX_BODY_BYTES
    with scripted(says(head + b" " * MAX_BODY_BYTES)) as (_, model):
        reply = model.call("/v1/completions", b"{}", 30)
    assert (reply.truncated, len(reply.body)) == (False, MAX_BODY_BYTES)


def test_endless_framing():
    """What is no body, such as a chunk's size that never ends, is cut off too."""

    def script(connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            connection.sendall(b"0" * 1_000_000)

    with scripted(script) as (_, model):
        assert model.call("/v1/completions", b"{}", 60) in (ModelFailure.BROKEN, ModelFailure.GARBLED)


def packed(coding, body):
    """A reply with its body packed."""
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: {coding}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


@pytest.mark.parametrize(
    ("coding", "pack"),
    [("gzip", gzip.compress), ("GZIP", gzip.compress), ("deflate", zlib.compress), ("identity", bytes)],
)
def test_a_packed_body_is_unpacked(coding, pack):
    """Gateways pack although nobody asked, and the answer has been paid for."""
    with scripted(says(packed(coding, pack(b'{"ok":true}')))) as (_, model):
        reply = model.call("/v1/completions", b"{}", 30)
    assert (reply.body, reply.content_encoding) == (b'{"ok":true}', "" if coding != "identity" else "identity")


def test_a_coding_that_nobody_knows():
    """It is reported, and the bytes are as they came."""
    with scripted(says(packed("x-secret", b"abc"))) as (_, model):
        reply = model.call("/v1/completions", b"{}", 30)
    assert (reply.body, reply.content_encoding) == (b"abc", "x-secret")


@contextmanager
def growing_less_than(mebibytes):
    """The process's memory grows by less than that, at its peak."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # forgets the peak of what was before; Linux only
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < mebibytes * (1 << 20 if sys.platform == "darwin" else 1 << 10)


def bomb(megabytes):
    """A gzip stream of so many million blanks: a piece that is packed once, so often. It has no end."""
    packing = zlib.compressobj(9, wbits=zlib.MAX_WBITS | 16)
    first = packing.compress(b" " * 1_000_000) + packing.flush(zlib.Z_FULL_FLUSH)
    again = packing.compress(b" " * 1_000_000) + packing.flush(zlib.Z_FULL_FLUSH)
    return first + again * (megabytes - 1)


def test_a_bomb_stays_small():
    """What is unpacked is bounded like everything else."""
    packed_bomb = packed("gzip", bomb(500))
    with scripted(says(packed_bomb)) as (_, model), growing_less_than(97):
        reply = model.call("/v1/completions", b"{}", 30)
    assert reply.truncated


SLOPPY = {
    "a length and chunks": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n%b\r\n0\r\n\r\n",
    "the length twice": b"Content-Length: 11\r\nContent-Length: 11\r\n\r\n%b",
    "the length twice in one": b"Content-Length: 11, 11\r\n\r\n%b",
    "line feeds alone": b"Content-Length: 11\n\n%b",
    "a chunk's extension": b"Transfer-Encoding: chunked\r\n\r\nb;x=y\r\n%b\r\n0\r\n\r\n",
    "trailers that look like headers": b"Transfer-Encoding: chunked\r\n\r\nb\r\n%b\r\n0\r\nContent-Type: x/y\r\n\r\n",
}


@pytest.mark.parametrize("rest", SLOPPY.values(), ids=SLOPPY)
def test_sloppy_http_is_read(rest):
    """What any client of the field reads has been paid for, and is not lost here."""
    data = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n" + rest.replace(b"%b", b'{"ok":true}')
    with scripted(says(data)) as (_, model):
        reply = model.call("/v1/completions", b"{}", 5)
    assert isinstance(reply, ModelReply), reply
    assert (reply.status, reply.body) == (200, b'{"ok":true}')


def test_a_body_in_crumbs():
    """Chunks of two bytes by the hundred thousand take neither much memory nor the process away from everybody else."""
    crumbs = b"2\r\n  \r\n" * 20_000

    def script(connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(20):
            connection.sendall(crumbs)
        connection.sendall(b"0\r\n\r\n")

    turns = []

    def others():
        while not done.wait(0.01):
            turns.append(1)

    done = threading.Event()
    with scripted(script) as (_, model), ThreadPoolExecutor(1) as thread, growing_less_than(10):
        thread.submit(others)
        try:
            reply = model.call("/v1/completions", b"{}", 60)
        finally:
            done.set()
    # Each chunk kept by itself would have been 20 MiB.
    assert len(reply.body) == 800_000
    assert len(turns) > 10


def test_probing():
    """A check of the settings asks without a body."""
    with scripted(says(OK)) as (server, model):
        assert model.probe("/v1/models", 10).status == 200
    assert server.requests[0].startswith(b"GET /openai/v1/models HTTP/1.1\r\n")


@pytest.fixture(scope="module")
def authority():
    """A certificate authority of the tests' own."""
    return trustme.CA()


@pytest.fixture
def secure(authority):
    """A scripted server with TLS."""
    context = server_context(authority, "localhost", "127.0.0.1")
    with Scripted(says(OK), lambda plain: context.wrap_socket(plain, server_side=True)) as server:
        yield server.url.replace("http:", "https:")


def test_tls_with_a_private_authority(secure, authority, tmp_path):
    """MODEL_CA_FILE names who is trusted."""
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    assert service(secure, MODEL_CA_FILE=str(file)).call("/v1/completions", b"{}", 10).status == 200


def test_tls_that_cannot_be_trusted(secure, monkeypatch, authority, tmp_path):
    """A certificate of an unknown authority gets no request, whatever the environment says."""
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(file))
    assert service(secure).call("/v1/completions", b"{}", 10) is ModelFailure.UNREACHABLE


def test_a_name_is_looked_up_once_for_all(monkeypatch):
    """A look-up takes a native thread: a burst of new connections must not queue for the same answer."""
    asked, resolve = [], socket.getaddrinfo

    def getaddrinfo(host, *args, **options):
        asked.append(host)
        time.sleep(0.2)
        return resolve(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with Scripted(lambda connection: time.sleep(0.2) or connection.sendall(OK)) as server:
        model = service(server.url.replace("127.0.0.1", "localhost"))
        with ThreadPoolExecutor(50) as threads:
            calls = [threads.submit(model.call, "/v1/completions", b"{}", 10) for _ in range(50)]
            assert {call.result(10).status for call in calls} == {200}
        assert server.connections == 50
        assert asked == ["localhost"]


def test_a_name_server_that_is_silent(monkeypatch):
    """Looking up is part of connecting, and has its bound; whoever comes later does not add to the look-ups."""
    asked, over = [], threading.Event()

    def getaddrinfo(host, *_args, **_options):
        asked.append(host)
        over.wait(10)
        raise socket.gaierror("no answer")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    model = service("http://model.example", CONNECT_TIMEOUT_SECONDS="0.2")
    assert [model.call("/v1/completions", b"{}", 30) for _ in range(3)] == [ModelFailure.UNREACHABLE] * 3
    assert asked == ["model.example"]
    over.set()


@pytest.mark.parametrize("host", ["a..b", "a" * 70 + ".example", "xn--a"])
def test_a_name_that_cannot_be(host):
    """It fails at once, and nobody waits for the whole time of the call."""
    assert service(f"http://{host}").call("/v1/completions", b"{}", 30) is ModelFailure.UNREACHABLE


def addresses(monkeypatch, *where):
    """Have every name stand for these addresses."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in where]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_options: found)


@contextmanager
def unanswered():
    """An address that takes no connection and refuses none."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = [socket.socket() for _ in range(4)]  # the backlog is full from here on
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()
        for filler in fillers:
            filler.close()


def test_a_dead_address_does_not_hold_up_the_others(monkeypatch):
    """The next one is tried soon, beside it, and what connects first is used."""
    with unanswered() as dead, scripted(says(OK)) as (server, _):
        port = int(server.url.rpartition(":")[2])
        addresses(monkeypatch, dead, dead, ("127.0.0.1", port))
        model = service("http://model.example", CONNECT_TIMEOUT_SECONDS="5")
        assert model.call("/v1/completions", b"{}", 3).status == 200


def test_an_address_that_refuses_passes_on_at_once(monkeypatch):
    """And when none is left its refusal is what is told."""
    with socket.socket() as taken, scripted(says(OK)) as (server, _):
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setattr(dial, "HEAD_START_SECONDS", 60.0)
        addresses(monkeypatch, taken.getsockname(), ("127.0.0.1", int(server.url.rpartition(":")[2])))
        assert service("http://model.example").call("/v1/completions", b"{}", 10).status == 200
        addresses(monkeypatch, taken.getsockname(), taken.getsockname())
        assert service("http://model.example").call("/v1/completions", b"{}", 10) is ModelFailure.UNREACHABLE


def test_the_slower_of_two_connections_is_closed(monkeypatch):
    """Nothing is left open of the addresses that lost."""
    with scripted(says(OK)) as (server, _):
        here = ("127.0.0.1", int(server.url.rpartition(":")[2]))
        connected, all_there = dial._connected, threading.Barrier(3, timeout=10)
        monkeypatch.setattr(dial, "HEAD_START_SECONDS", 0.0)
        monkeypatch.setattr(dial, "_connected", lambda *where: (connected(*where), all_there.wait())[0])
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", here)] * 3
        with dial.connect(found, 5, []) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 200")
            until(lambda: sorted(one.fileno() < 0 for one in server._open) == [False, True, True])


def test_connections_are_retired(monkeypatch):
    """After their time or a long silence new ones are made, so that new replicas of the model get work."""
    for name in ("MAX_AGE_SECONDS", "MAX_IDLE_SECONDS"):
        with scripted(says(OK)) as (server, model), monkeypatch.context() as patch:
            model.call("/v1/completions", b"{}", 10)
            patch.setattr(adapter, name, -1.0)
            model.call("/v1/completions", b"{}", 10)
            assert server.connections == 2


def test_after_a_stale_connection_comes_a_fresh_one():
    """What closed one kept connection has most likely closed them all: the next call does not find another such."""
    release = threading.Event()

    def together(connection):
        release.wait(10)
        connection.sendall(OK)

    answers = iter([together, together, hangs_up(), says(OK)])
    with scripted(lambda connection: next(answers)(connection)) as (server, model), ThreadPoolExecutor(2) as threads:
        both = [threads.submit(model.call, "/v1/completions", b"{}", 10) for _ in range(2)]
        until(lambda: len(server.requests) == 2)
        release.set()
        assert [one.result(10).status for one in both] == [200, 200]
        assert model.call("/v1/completions", b"{}", 10) is ModelFailure.STALE
        assert model.call("/v1/completions", b"{}", 10).status == 200
        assert server.connections == 3


def test_a_host_that_dies_without_a_word_is_noticed():
    """What it does not acknowledge ends the connection long before the call's own time (Linux' TCP_USER_TIMEOUT)."""
    with scripted(says(OK)) as (_, model):
        model.call("/v1/completions", b"{}", 10)
        kept = model._adapter._pool.pool.get(block=False)
        assert kept.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == adapter.UNACKNOWLEDGED_MS
        assert kept.sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        kept.close()
    timed_out = requests.exceptions.ReadTimeout(ReadTimeoutError(None, "", "ETIMEDOUT"))
    assert failure_of(timed_out) is ModelFailure.BROKEN


def test_the_requests_own_limit_while_connecting():
    """Whoever gives a second gets an answer after a second, and not the service's own limit for connecting."""
    with unanswered() as dead:
        model = service("http://{}:{}".format(*dead), CONNECT_TIMEOUT_SECONDS="5")
        assert model.call("/v1/completions", b"{}", 0.2) is ModelFailure.TIMEOUT


def test_tls_with_a_file_that_holds_no_authority(secure):
    """It is the operator's to mend; nothing is sent, and nobody waits."""
    assert service(secure, MODEL_CA_FILE=__file__).call("/v1/completions", b"{}", 10) is ModelFailure.UNREACHABLE


def test_tls_with_a_file_that_goes_away(secure, authority, tmp_path):
    """A secret that is mounted anew, or not at all, is no fault of the service: the call waits until it is back."""
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(file)
    model = service(secure, MODEL_CA_FILE=str(file))
    assert model.call("/v1/completions", b"{}", 10).status == 200
    file.unlink()
    assert model.call("/v1/completions", b"{}", 10) is ModelFailure.UNREACHABLE
    authority.cert_pem.write_to_path(file)
    assert model.call("/v1/completions", b"{}", 10).status == 200


def exceptions_of(module, base):
    """Every exception that a module exports."""
    return [kind for kind in vars(module).values() if isinstance(kind, type) and issubclass(kind, base)]


@pytest.mark.parametrize("kind", exceptions_of(requests.exceptions, requests.RequestException))
def test_every_exception_of_requests_is_known(kind):
    """An exception that a new version of requests brings cannot slip through as a bug."""
    assert failure_of(kind.__new__(kind)) in ModelFailure

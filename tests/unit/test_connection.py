"""HTTP/1.1 towards whoever pushes, over real sockets. tests/e2e/test_hostile.py has what strangers may send."""

import asyncio
import http.client
import select
import socket
import threading
import time
from concurrent.futures import Future
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from handler import connection as module
from handler import eventloop
from handler.connection import Bounds, Server

BOUNDS = Bounds(connections=20, body_bytes=1 << 20, body_seconds=10.0)


class App:
    """A WSGI application: keeps what it was asked, and says what its `reply` does with the environment."""

    def __init__(self, reply=lambda environ: environ["wsgi.input"].read()):
        self.environs, self.reply = [], reply

    def __call__(self, environ, start_response):
        self.environs.append(environ)
        body = self.reply(environ)
        start_response("200 OK", [("X-Path", environ["PATH_INFO"])])
        return [body]


@contextmanager
def serving(app, bounds=BOUNDS):
    """A server of this application, and its port."""
    loop = eventloop.get()
    server = Server(app, bounds, loop, port=80)
    opening = loop.asyncio.create_server(server.connection, "127.0.0.1", 0)
    listening = asyncio.run_coroutine_threadsafe(opening, loop.asyncio).result(10)
    try:
        yield server, listening.sockets[0].getsockname()[1]
    finally:
        loop.call(listening.close)
        loop.call(server.close)


@contextmanager
def connected(port, sent=b""):
    """A connection over which something was sent."""
    with socket.create_connection(("127.0.0.1", port), 10) as peer:
        peer.sendall(sent)
        yield peer


def responses(peer, count):
    """So many responses, as (status, body)."""
    read = []
    file = peer.makefile("rb")
    for _ in range(count):
        status = int(file.readline().split()[1])
        headers = http.client.parse_headers(file)
        read.append((status, file.read(int(headers.get("Content-Length", 0)))))
    return read


def exchange(port, sent, count=1):
    """What is answered to these bytes."""
    with connected(port, sent) as peer:
        return responses(peer, count)


def post(body, *headers, path="/"):
    """A request."""
    return b"\r\n".join(
        (b"POST %b HTTP/1.1" % path.encode(), b"Host: x", *headers, b"Content-Length: %d" % len(body), b"", body)
    )


def test_what_the_application_is_told():
    """The environment is as PEP 3333 has it."""
    app = App()
    headers = (b"Content-Type: a/b", b"X-A: 1", b"x-a: 2", b"X_A: 3", b"X-B: \xe9")
    with serving(app) as (_, port):
        assert exchange(port, post(b"body", *headers, path="/a%20b?c=%20")) == [(200, b"body")]
    (environ,) = app.environs
    asked = ("REQUEST_METHOD", "PATH_INFO", "QUERY_STRING", "SERVER_PROTOCOL", "CONTENT_TYPE", "CONTENT_LENGTH")
    assert [environ[name] for name in asked] == ["POST", "/a b", "c=%20", "HTTP/1.1", "a/b", "4"]
    # A header with an underscore would be taken for the one with a hyphen.
    assert (environ["HTTP_X_A"], environ["HTTP_X_B"], environ["HTTP_HOST"]) == ("1,2", "\xe9", "x")
    assert environ["SERVER_PORT"] == "80"


@pytest.mark.parametrize("target", ["http://host/a?b", "http://host:80/a?b"])
def test_an_absolute_target(target):
    """What a proxy would be asked means the same (RFC 9112 3.2.2)."""
    app = App()
    with serving(app) as (_, port):
        exchange(port, post(b"", path=target))
    assert (app.environs[0]["PATH_INFO"], app.environs[0]["QUERY_STRING"]) == ("/a", "b")


@pytest.mark.parametrize(
    ("request_", "kept"),
    [
        (post(b""), True),
        (post(b"", b"Connection: close"), False),
        (b"GET / HTTP/1.0\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", True),
        (post(b"", b"Connection: upgrade", b"Upgrade: websocket"), False),
    ],
)
def test_which_connections_go_on(request_, kept):
    """As the request asks; what switches to another protocol is answered in this one, and is over."""
    with serving(App()) as (_, port), connected(port, request_) as peer:
        assert responses(peer, 1)[0][0] == 200
        ended = bool(select.select([peer], [], [], 0.2)[0])
        assert ended is not kept
        if kept:
            peer.sendall(request_)
            assert responses(peer, 1)[0][0] == 200


def test_one_after_the_other():
    """Requests that come at once are answered in their order, each only after the one before."""
    running, most = 0, 0

    def reply(environ):
        nonlocal running, most
        running += 1
        most = max(most, running)
        eventloop.get().wait(lambda done: eventloop.get().asyncio.call_later(0.02, done, None))
        running -= 1
        return environ["wsgi.input"].read()

    with serving(App(reply)) as (_, port):
        bodies = [b"%d" % number for number in range(5)]
        assert exchange(port, b"".join(map(post, bodies)), 5) == [(200, body) for body in bodies]
    assert most == 1


CHUNKED = b"POST /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: u\r\n\r\n"
SEVERAL = post(b"one") + CHUNKED + post(b"") + b"GET / HTTP/1.1\r\n\r\n" + post(b"x" * 300)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(cuts=st.lists(st.integers(1, len(SEVERAL) - 1), max_size=8, unique=True).map(sorted))
def test_it_does_not_matter_how_bytes_are_cut(cuts):
    """Requests come in any pieces, and mean the same."""
    with serving(App()) as (_, port), connected(port) as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for begin, end in zip([0, *cuts], [*cuts, len(SEVERAL)], strict=True):
            peer.sendall(SEVERAL[begin:end])
        assert [body for _, body in responses(peer, 5)] == [b"one", b"abcde", b"", b"", b"x" * 300]


def test_head():
    """The response to HEAD has the length of the body, and no body."""
    with serving(App(lambda _: b"body")) as (_, port), connected(port, b"HEAD / HTTP/1.1\r\n\r\n" + post(b"")) as peer:
        head, _, rest = peer.recv(65536).partition(b"\r\n\r\n")
        assert b"Content-Length: 4" in head
        assert rest == b"" or rest.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("reads", [True, False])
def test_expecting_to_be_told_to_continue(reads):
    """Who waits for it is told to send the body when, and only when, it is wanted."""
    reply = (lambda environ: environ["wsgi.input"].read()) if reads else (lambda _: b"no")
    head, _, body = post(b"body", b"Expect: 100-continue").rpartition(b"\r\n\r\n")
    with serving(App(reply)) as (_, port), connected(port, head + b"\r\n\r\n") as peer:
        first = peer.recv(len(b"HTTP/1.1 100 Continue\r\n\r\n"))
        assert first.startswith(b"HTTP/1.1 100" if reads else b"HTTP/1.1 200")
        if reads:
            peer.sendall(body)
            assert responses(peer, 1) == [(200, b"body")]


def test_a_body_that_nobody_wants():
    """The answer does not wait for it; the connection ends, since its rest would be taken for a request."""
    with serving(App(lambda _: b"no")) as (_, port), connected(port, post(b"x" * 1000)[:-500]) as peer:
        assert responses(peer, 1) == [(200, b"no")]
        assert peer.recv(1) == b""


def test_a_body_that_is_not_read_stays_with_its_sender():
    """However much is sent, what nobody has asked for yet costs no memory here."""
    asked = threading.Event()

    def reply(environ):
        eventloop.get().blocking(lambda: asked.wait(10))
        return b"%d" % len(environ["wsgi.input"].read())

    size = 50 << 20
    bounds = Bounds(connections=20, body_bytes=size, body_seconds=30)
    with serving(App(reply), bounds) as (_, port), connected(port) as peer:
        sending = threading.Thread(target=peer.sendall, args=(post(b"x" * size),))
        sending.start()
        sending.join(1)
        assert sending.is_alive()
        asked.set()
        assert responses(peer, 1) == [(200, b"%d" % size)]
        sending.join(10)


def told(problem):
    """A reply that says what reading the body came to."""

    def reply(environ):
        try:
            return environ["wsgi.input"].read()
        except ConnectionAbortedError as error:
            problem.set_result(str(error))
            return b"broken"

    return reply


@pytest.mark.parametrize(
    ("sent", "ends", "problem"),
    [
        (post(b"body")[:-1], True, "it was cut off"),
        (post(b"body")[:-1], False, "it took too long"),
        (CHUNKED.partition(b"2;")[0] + b"zz\r\n", False, "it is malformed"),
    ],
)
def test_a_body_that_never_comes(sent, ends, problem):
    """Its reader hears of it, and can still answer."""
    said = Future()
    bounds = Bounds(connections=20, body_bytes=1 << 20, body_seconds=0.2)
    with serving(App(told(said)), bounds) as (_, port), connected(port, sent) as peer:
        if ends:
            peer.shutdown(socket.SHUT_WR)
        assert responses(peer, 1) == [(200, b"broken")]
    assert said.result(10) == problem


def test_a_body_that_is_too_long():
    """Its reader gets more than is allowed, and no more than it takes to know."""
    sizes = []

    def reply(environ):
        sizes.append(len(environ["wsgi.input"].read()))
        return b""

    bounds = Bounds(connections=20, body_bytes=1000, body_seconds=10)
    with serving(App(reply), bounds) as (_, port):
        exchange(port, post(b"x" * 500_000))
    assert 1000 < sizes[0] < 400_000


def test_reading_line_by_line():
    """The rest of what a WSGI input can do."""
    lines = []

    def reply(environ):
        lines.extend(environ["wsgi.input"])
        return b""

    with serving(App(reply)) as (_, port):
        exchange(port, post(b"a\nb\nc"))
    assert lines == [b"a\n", b"b\n", b"c"]


def test_an_application_that_fails(caplog):
    """It costs one answer, and the error is logged."""
    with serving(App(lambda _: 1 // 0)) as (_, port):
        assert exchange(port, post(b""))[0][0] == 500
        assert exchange(port, post(b""))[0][0] == 500
    assert "ZeroDivisionError" in caplog.text


def test_what_follows_a_request_and_is_none():
    """The request is answered, the rest refused, and the connection ended."""
    with serving(App()) as (_, port), connected(port, post(b"good") + b"\x00\x01") as peer:
        assert [status for status, _ in responses(peer, 2)] == [200, 400]
        assert peer.recv(1) == b""


def until(condition):
    """Wait for something that happens soon."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_silent_connections_make_room():
    """Beyond the limit the one that has been silent the longest goes; the busy one stays."""
    go_on = threading.Event()
    app = App(lambda _: eventloop.get().blocking(lambda: go_on.wait(10)) and b"late")
    bounds = Bounds(connections=3, body_bytes=1000, body_seconds=10)
    with serving(app, bounds) as (_, port), connected(port, post(b"")) as busy:
        until(lambda: app.environs)
        with connected(port) as oldest, connected(port) as newer, connected(port) as newest:
            assert oldest.recv(1) == b""
            assert not select.select([newer, newest], [], [], 0.1)[0]
        go_on.set()
        assert responses(busy, 1) == [(200, b"late")]


def test_connections_that_are_silent_for_too_long(monkeypatch):
    """They go with the next sweep, and no others."""
    with serving(App()) as (server, port), connected(port, post(b"")) as peer:
        responses(peer, 1)
        eventloop.get().call(server.sweep)
        assert not select.select([peer], [], [], 0.1)[0]
        monkeypatch.setattr(module, "IDLE_SECONDS", 0)
        eventloop.get().call(server.sweep)
        assert peer.recv(1) == b""


def test_blank_lines_are_no_request():
    """A connection that sends nothing else is silent, and makes room like one."""
    bounds = Bounds(connections=2, body_bytes=1000, body_seconds=10)
    with serving(App(), bounds) as (_, port), connected(port, b"\r\n") as oldest:
        time.sleep(0.05)
        with connected(port, b"\r\n"), connected(port, post(b"")) as last:
            assert responses(last, 1)[0][0] == 200
            assert oldest.recv(1) == b""


def test_a_peer_that_takes_nothing(monkeypatch):
    """Its connection is ended, and it is not read from meanwhile."""
    monkeypatch.setattr(module, "SEND_SECONDS", 0.3)
    app, ended = App(lambda _: b"x" * (32 << 20)), select.poll()
    with serving(app) as (server, port), connected(port, post(b"")) as peer:
        ended.register(peer, 0)
        until(lambda: app.environs)
        peer.sendall(post(b""))
        assert ended.poll(10_000)
        assert not server._connections
    assert len(app.environs) == 1


def test_trailers_are_no_headers():
    """What comes behind a body cannot pass for what a proxy would have checked."""
    app = App()
    with serving(app) as (_, port):
        exchange(port, CHUNKED.replace(b"T: u", b"Authorization: x") + post(b""), 2)
    assert not any("HTTP_AUTHORIZATION" in environ for environ in app.environs)


@pytest.mark.parametrize("drop", [b"x" * 50_000, b"0" * 50_000], ids=["trailer", "chunk size"])
def test_what_comes_with_a_body_without_end(drop):
    """A trailer, or a chunk's size, that never ends is cut off, although no body grows."""
    said = Future()
    begin = CHUNKED.partition(b"T: u")[0] + b"T: " if drop[:1] == b"x" else CHUNKED.partition(b"2;")[0]
    with serving(App(told(said))) as (_, port), connected(port, begin) as peer:
        for _ in range(4):
            peer.sendall(drop)
            time.sleep(0.02)
        assert responses(peer, 1) == [(200, b"broken")]
    assert said.result(10) == "it is malformed"


def test_long_names_are_not_remembered():
    """What strangers send is forgotten with their requests."""
    before = module._made_key.cache_info().currsize
    with serving(App()) as (_, port):
        exchange(port, post(b"", b"x" * 1000 + b": y", b"x" * 64 + b": y"))
    assert module._made_key.cache_info().currsize <= before + 3


def test_a_head_that_never_ends_behind_responses_that_were_not_taken(monkeypatch):
    """Taking them does not buy the head more time."""
    monkeypatch.setattr(module, "HEAD_SECONDS", 0.5)
    app = App(lambda _: b"x" * (8 << 20))
    with serving(app) as (server, port), connected(port, post(b"") + b"POST / HTTP/1.1\r\nHos") as peer:
        assert len(responses(peer, 1)[0][1]) == 8 << 20
        until(lambda: not server._connections)


@pytest.mark.parametrize("half", [True, False])
def test_a_last_response_and_a_peer_that_does_not_close(monkeypatch, half):
    """It is not waited for, whether it has read everything, or has closed its half and reads nothing."""
    monkeypatch.setattr(module, "LINGER_SECONDS", 0.3)
    monkeypatch.setattr(module, "SEND_SECONDS", 0.3)
    app = App(lambda _: b"x" * (8 << 20))
    with serving(app) as (server, port), connected(port, post(b"", b"Connection: close")) as peer:
        if half:
            peer.shutdown(socket.SHUT_WR)
        else:
            responses(peer, 1)
        until(lambda: not server._connections)


def test_too_many_requests_at_once():
    """What is sent ahead of its turn is bounded; the others are answered first."""
    with serving(App()) as (_, port), connected(port, post(b"") * 5000) as peer:
        assert [status for status, _ in responses(peer, 101)] == [200] * 100 + [429]


def test_nothing_follows_the_last_request():
    """What was sent behind a request that ends the connection is not answered."""
    app = App()
    with serving(app) as (_, port), connected(port, post(b"", b"Connection: close") + post(b"")) as peer:
        assert len(responses(peer, 1)) == 1
        assert peer.recv(1) == b""
    assert len(app.environs) == 1


def test_a_peer_that_left_while_its_request_was_answered():
    """Nothing of it stays."""
    go_on = threading.Event()
    app = App(lambda _: eventloop.get().blocking(lambda: go_on.wait(10)) and b"late")
    with serving(app) as (server, port):
        with connected(port, post(b"")) as peer:
            until(lambda: app.environs)
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        until(lambda: not server._connections)
        go_on.set()
        until(lambda: not server.busy)
        assert not server._idle


def test_draining():
    """What is being answered still is, over a connection that then ends; nobody is waited for who has nothing to do."""
    go_on, idle = threading.Event(), threading.Event()
    app = App(lambda _: eventloop.get().blocking(lambda: go_on.wait(10)) and b"late")
    with serving(app) as (server, port), connected(port, post(b"")) as busy, connected(port):
        until(lambda: app.environs)
        eventloop.get().call(server.drain, idle.set)
        assert not idle.wait(0.1)
        go_on.set()
        assert responses(busy, 1) == [(200, b"late")]
        assert idle.wait(10)
        assert busy.recv(1) == b""


def test_draining_is_over_once():
    """Requests that are refused meanwhile do not end it again."""
    go_on, idle = threading.Event(), []
    app = App(lambda environ: eventloop.get().blocking(lambda: go_on.wait(10)) and b"late")
    with serving(app) as (server, port), connected(port, post(b"")) as busy:
        until(lambda: app.environs)
        eventloop.get().call(server.drain, lambda: idle.append(1))
        go_on.set()
        responses(busy, 1)
        exchange(port, post(b""))
        until(lambda: not server.busy)
    assert idle == [1]


def test_draining_when_nothing_is_answered():
    """It is over at once."""
    idle = threading.Event()
    with serving(App()) as (server, _):
        eventloop.get().call(server.drain, idle.set)
        assert idle.wait(10)

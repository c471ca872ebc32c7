"""What strangers and broken peers may send: each gets its answer, and the process lives on as it was."""

import base64
import http.client
import itertools
import json
import os
import select
import signal
import socket
import threading
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path

import pytest

from tests.parts.processes import until
from tests.parts.service import SERVERS, push_of

MIB = 1 << 20
GOOD = {"metadata": {"id": "good"}, "body": {"model": "m", "prompt": "good"}}


@contextmanager
def connected(service, sent=b""):
    """A connection to the service, over which something was sent."""
    with socket.create_connection(service.address, 60) as connection:
        send(connection, sent)
        yield connection


def send(connection, data):
    """Send as much as the service takes."""
    with suppress(OSError):
        connection.sendall(data)


def status(connection):
    """The status of the next response; None if the connection ends without one."""
    response = http.client.HTTPResponse(connection)
    try:
        response.begin()
        response.read()
    except (OSError, http.client.HTTPException):
        return None
    return response.status


def answer(service, data):
    """The status of the response to these bytes, after which nothing comes."""
    with connected(service, data) as connection:
        with suppress(OSError):  # the service may have hung up already
            connection.shutdown(socket.SHUT_WR)
        return status(connection)


def head(*headers, method="POST", path="/", version="1.1"):
    """The head of a request."""
    return "\r\n".join((f"{method} {path} HTTP/{version}", "Host: x", *headers, "", "")).encode()


def worker(service):
    """The process that answers: gunicorn's only child."""
    pid = service.process.pid
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


def memory(pid):
    """What a process holds in memory, in MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / MIB


@pytest.fixture
def start(local_world):
    """Gives services with room for four messages, which must be the same processes, and answer, when the test ends."""
    given = []

    def one(server="gunicorn", **settings):
        world = local_world(server, **{"MODEL_SLOTS": "4", "MAX_WAITING": "0", **settings})
        world.service.address = ("127.0.0.1", int(world.service.url.rpartition(":")[2]))
        given.append((world.service, worker(world.service)))
        return world

    yield one
    for service, pid in given:
        assert worker(service) == pid
        assert service.request("GET", "/health/live")[0] == 200
        assert not [line for line in service.log() if line.get("reason") == "bug"]
        assert "Traceback" not in service.output()


CHUNKED = head("Transfer-Encoding: chunked")
PUSH = push_of(GOOD)
FRAMES = {
    "length too short": (head("Content-Length: 5") + PUSH, 400),
    "length too long": (head(f"Content-Length: {len(PUSH) + 1}") + PUSH, 400),
    "length too long, unwrapped": (head("X-Goog-Pubsub-Message-Id: 1", "Content-Length: 999") + b'{"metadata"', 400),
    "length without a body": (head("Content-Length: 10"), 400),
    "negative length": (head("Content-Length: -1") + PUSH, 400),
    "length with a sign": (head(f"Content-Length: +{len(PUSH)}") + PUSH, 400),
    "length in letters": (head("Content-Length: many") + PUSH, 400),
    "two lengths": (head("Content-Length: 1", f"Content-Length: {len(PUSH)}") + PUSH, 400),
    "a list of lengths": (head(f"Content-Length: {len(PUSH)}, {len(PUSH)}") + PUSH, 400),
    "length of a terabyte": (head(f"Content-Length: {1 << 40}") + PUSH, 413),
    "length of 5,000 digits": (head("Content-Length: " + "9" * 5000) + PUSH, 400),
    "length and chunks": (head("Content-Length: 5", "Transfer-Encoding: chunked") + b"0\r\n\r\n", 400),
    "neither": (head(), 400),
    "an unknown coding": (head("Transfer-Encoding: x") + PUSH, 501),
    "chunked twice": (head("Transfer-Encoding: chunked, chunked") + b"0\r\n\r\n", 400),
    "chunks in HTTP/1.0": (head("Transfer-Encoding: chunked", version="1.0") + b"0\r\n\r\n", 400),
    "no chunk at all": (CHUNKED, 400),
    "a chunk of size zz": (CHUNKED + b"zz\r\n{}\r\n0\r\n\r\n", 400),
    "a chunk of size -1": (CHUNKED + b"-1\r\n{}\r\n0\r\n\r\n", 400),
    "a chunk of size 0x2": (CHUNKED + b"0x2\r\n{}\r\n0\r\n\r\n", 400),
    "a chunk that is longer": (CHUNKED + b"2\r\n{  }\r\n0\r\n\r\n", 400),
    "a chunk that is shorter": (CHUNKED + b"ff\r\n{}\r\n0\r\n\r\n", 400),
    "a chunk of an exabyte": (CHUNKED + b"ffffffffffffffff\r\n{}", 400),
    "a chunk size without end": (CHUNKED + b"0" * 20_000, 400),
    "no last chunk": (CHUNKED + b"2\r\n{}\r\n", 400),
    "trailers without end": (CHUNKED + b"2\r\n{}\r\n0\r\n" + b"a: b\r\n" * 200_000, 400),
    "a header without end": (head("a: " + "b" * 1_000_000), 431),
    "headers without end": (head(*["a: b"] * 5_000), 431),
    "a path without end": (head(path="/" + "a" * 100_000), 414),
    "no HTTP": (b"\x16\x03\x01" * 100 + b"\r\n\r\n", 400),
    "nothing": (b"", None),
    "half a head": (b"POST / HTTP/1.1\r\nHost", None),
}


def test_frames_that_lie(start):
    """A body that is not as long as its request says is refused, and half of a body is never taken as a whole one."""
    service = start().service
    for name, (data, expected) in FRAMES.items():
        actual = answer(service, data)
        assert (name, actual) == (name, expected)


def test_chunks_that_are_well_formed(start):
    """A push may come in chunks, of one byte even."""
    service, topics, _ = start()
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in good())
    assert answer(service, CHUNKED + chunks + b"0\r\n\r\n") == 204
    assert topics.response()[0]["status_code"] == 200


@pytest.mark.parametrize("server", SERVERS)
def test_a_body_without_end(start, server):
    """More than 16 MiB are refused by the length that is said, and by what arrives where none is."""
    service = start(server).service
    with connected(service, head(f"Content-Length: {16 * MIB + 1}")) as connection:
        assert status(connection) == 413
    with connected(service, CHUNKED) as connection:
        chunk = b"%x\r\n%b\r\n" % (MIB, b" " * MIB)
        sent = 0
        while not select.select([connection], [], [], 0)[0] and sent < 1000:
            send(connection, chunk)
            sent += 1
        assert sent < 1000
    assert "push_too_large" in [line.get("reason") for line in service.log()][1:]


# CI has a million of what somebody who waits for the tests has a few hundred thousand of.
MANY = int(os.environ.get("MANY_KEYS", "200000"))


@cache
def many_keys(size=100 * MIB):
    """An object with more keys than anybody uses, in no more than so many bytes."""
    inside = b",".join(b'"k%d":""' % number for number in range(MANY))
    return b"{" + (inside if len(inside) < size else inside[:size].rpartition(b",")[0]) + b"}"


IDS = itertools.count(1)


def fresh(body):
    """The same push of another message: copies of one that was answered are not looked at any more."""
    return body.replace(b'"messageId": "1"', b'"messageId": "%d"' % next(IDS))


def good():
    """A push that the model answers."""
    return push_of(GOOD, f"good-{next(IDS)}")


def wrapped(message):
    """A push whose message is written as it is here."""
    return b'{"message": %b}' % message


@cache
def envelopes():
    """Bodies of pushes, and the status of each. Made where they are used: some are large."""
    return {
        "nothing": (b"", 400),
        "deep arrays": (b"[" * 100_000, 400),
        "deep arrays that end": (b"[" * 100_000 + b"]" * 100_000, 400),
        "deep objects": (b'{"message":' * 100_000, 400),
        "deep beside the message": (
            b'{"message": {"messageId": "1"}, "x": %b%b}' % (b"[" * 100_000, b"]" * 100_000),
            400,
        ),
        "many keys": (many_keys(), 400),
        "many attributes": (wrapped(b'{"messageId": "1", "attributes": %b}' % many_keys()), 204),
        "a million numbers": (b"[" + b"1," * 1_000_000 + b"1]", 400),
        "the same key twice": (b'{"message": 1, "message": {"messageId": "1", "messageId": "2"}}', 204),
        "a lone surrogate as id": (wrapped(rb'{"messageId": "\ud800"}'), 400),
        "a lone surrogate in an attribute": (wrapped(rb'{"messageId": "1", "attributes": {"a": "\udfff"}}'), 400),
        "10,000 digits": (wrapped(b'{"messageId": "1", "x": %b}' % (b"9" * 10_000)), 400),
        "10,000 digits as attempt": (b'{"message": {"messageId": "1"}, "deliveryAttempt": %b}' % (b"9" * 10_000), 400),
        "4,000 digits as attempt": (b'{"message": {"messageId": "1"}, "deliveryAttempt": %b}' % (b"9" * 4_000), 204),
        "an exponent without end": (wrapped(b'{"messageId": "1", "x": 1e%b}' % (b"9" * 10_000)), 400),
        "NaN": (wrapped(b'{"messageId": "1", "x": NaN}'), 400),
        "invalid UTF-8": (wrapped(b'{"messageId": "\xff"}'), 400),
        "UTF-8 of a surrogate": (wrapped(b'{"messageId": "\xed\xa0\x80"}'), 400),
        "overlong UTF-8": (wrapped(b'{"messageId": "\xc0\xaf"}'), 400),
        "UTF-16": ('{"message": {"messageId": "1"}}'.encode("utf-16"), 400),
        "a byte order mark": (b"\xef\xbb\xbf" + wrapped(b'{"messageId": "1"}'), 400),
        "invalid base64": (wrapped(b'{"messageId": "1", "data": "%%%"}'), 400),
        "base64 without padding": (wrapped(b'{"messageId": "1", "data": "e30"}'), 400),
        "base64 of URLs": (wrapped(b'{"messageId": "1", "data": "_-8="}'), 400),
        "base64 with a line break": (wrapped(rb'{"messageId": "1", "data": "e3\n0="}'), 400),
        "a year of five digits": (wrapped(b'{"messageId": "1", "publishTime": "10000-01-01T00:00:00Z"}'), 400),
        "a time at the edge": (wrapped(b'{"messageId": "1", "publishTime": "0001-01-01T00:00:00+23:59"}'), 204),
    }


def test_envelopes(start):
    """What is no push gets 400 and publishes nothing; what is a push of no request gets an error response."""
    service, topics, model = start()
    for name, (body, expected) in envelopes().items():
        actual = service.push(fresh(body))
        assert (name, actual) == (name, expected)
    # Each message that gets through has no data, which is no request.
    for _ in [name for name, (_, expected) in envelopes().items() if expected == 204]:
        response, attributes, _ = topics.response()
        assert response["body"]["error"]["code"] == "invalid_json"
        assert len(attributes) <= 100
    assert topics.no_response()
    assert model.calls == []


def request(metadata=b"{}", body=b"{}", more=b""):
    """The data of a message, written as it is here."""
    return b'{"metadata": %b, "body": %b%b}' % (metadata, body, more)


@cache
def payloads():
    """The data of messages, and the error code of each."""
    return {
        "nothing": (b"", "invalid_json"),
        "deep arrays": (b"[" * 100_000, "invalid_json"),
        "deep metadata": (request(b'{"a":' * 100_000 + b"1" + b"}" * 100_000), "invalid_json"),
        "deep body": (request(body=b'{"a":%b%b}' % (b"[" * 100_000, b"]" * 100_000)), "invalid_json"),
        "deep beside": (request(more=b', "x": %b%b' % (b"[" * 100_000, b"]" * 100_000)), "invalid_json"),
        "many keys of metadata": (request(many_keys(9 * MIB)), "invalid_request"),
        "10,000 digits": (request(b'{"a": %b}' % (b"9" * 10_000)), "invalid_json"),
        "an exponent without end": (request(b'{"a": 1e%b}' % (b"9" * 10_000)), "invalid_json"),
        "a fraction that overflows": (request(b'{"a": %b.0}' % (b"9" * 400)), "invalid_json"),
        "NaN": (request(body=b'{"temperature": NaN}'), "invalid_json"),
        "invalid UTF-8": (request(b'{"a": "\xff"}'), "invalid_json"),
        "UTF-8 of a surrogate": (request(b'{"a": "\xed\xa0\x80"}'), "invalid_json"),
        "a byte order mark": (b"\xef\xbb\xbf" + request(), "invalid_json"),
        "a control character": (request(b'{"a": "\x00"}'), "invalid_json"),
        "a list": (b"[]", "invalid_request"),
        "a lone surrogate as path": (request(more=rb', "path": "\ud800"'), "path_not_allowed"),
        "a path with a line break": (request(more=rb', "path": "/v1/completions\r\nX: y"'), "path_not_allowed"),
        "a path with a query": (request(more=b', "path": "/v1/completions?x"'), "path_not_allowed"),
        "a path of 1 MiB": (request(more=b', "path": "%b"' % (b"a" * MIB)), "path_not_allowed"),
        "an endless limit": (request(more=b', "options": {"timeout_seconds": 1e999}'), "invalid_json"),
        "a deadline of no date": (
            request(more=b', "options": {"deadline": "2030-02-31T00:00:00Z"}'),
            "invalid_request",
        ),
        "a deadline at the edge": (
            request(more=b', "options": {"deadline": "0001-01-01T00:00:00+23:59"}'),
            "deadline_exceeded",
        ),
    }


KEPT = {
    "lone surrogates": (rb'{"a":"\ud800","\udfff":1}', {"a": "\ud800", "\udfff": 1}),
    "4,000 digits": (b'{"a":%b}' % (b"9" * 4_000), {"a": int("9" * 4_000)}),
    "the same key twice": (b'{"a":1,"a":2}', {"a": 2}),
    "200 levels": (b'{"a":%b%b}' % (b"[" * 198, b"]" * 198), None),
}


def test_data(start):
    """A request that cannot be read is answered with its error, once, and the model never hears of it."""
    service, topics, model = start()
    for name, (data, code) in payloads().items():
        assert service.push(push_of(data, name)) == 204, name
        response, attributes, _ = topics.response()
        actual = (attributes["request_message_id"], response["body"]["error"]["code"])
        assert actual == (name, code)
    assert model.calls == []


def test_data_that_is_only_strange(start):
    """What JSON allows goes to the model, and its metadata comes back."""
    service, topics, model = start()
    for name, (metadata, expected) in KEPT.items():
        assert service.push(push_of(request(metadata, b'{"prompt": "x"}'), name)) == 204
        response, _, _ = topics.response()
        assert response["metadata"] == (expected or json.loads(metadata)), name
    many = base64.b64encode(request(body=many_keys(9 * MIB))).decode()
    assert service.push(json.dumps({"message": {"messageId": "many keys", "data": many}}).encode()) == 204
    assert topics.response()[0]["status_code"] == 200
    assert len(model.calls[-1][1]) > MANY / 2


@pytest.mark.timeout(200)
def test_memory_after_many_rounds(start):
    """However often all of it comes, the process holds no more memory and threads than after the first times."""
    service = start().service
    bodies = [body for body, _ in envelopes().values()] + [push_of(data) for data, _ in payloads().values()]

    def after(rounds):
        for _ in range(rounds):
            for body in bodies:
                service.push(fresh(body))
            for data, _ in FRAMES.values():
                answer(service, data)
        return memory(worker(service))

    # What the allocator keeps levels off at two rounds, of four seconds each.
    first = after(2)
    assert after(1) < first + 33
    assert len(list(Path(f"/proc/{worker(service)}/task").iterdir())) < 100


# --- slow peers: more of them than the service has connections (168)


def everything_answers(service):
    """Whether health checks and a push are answered as ever."""
    assert service.request("GET", "/health/ready")[0] == 200
    assert service.push(good()) == 204


@contextmanager
def crowd(service, number, sent):
    """Many connections that have sent this and stay."""
    with ExitStack() as stack:
        yield [stack.enter_context(connected(service, sent)) for _ in range(number)]


def test_half_a_head(start):
    """Peers that never finish the head of their request make room for others, the oldest first."""
    service = start().service
    with crowd(service, 300, head("Content-Length: 9")[:-2]) as peers:
        everything_answers(service)
        assert select.select([peers[0]], [], [], 5)[0]
        assert status(peers[0]) is None


def test_a_head_that_drips(start):
    """A byte now and then makes no connection younger."""
    service = start().service
    with connected(service, b"GET /health/live HTTP/1.1\r\n") as peer, ExitStack() as others:
        while not select.select([peer], [], [], 0.05)[0]:
            send(peer, b"X-A: b\r\n")
            others.enter_context(connected(service))
        assert status(peer) is None


def test_half_a_body(start):
    """Peers that never finish a body leave threads for health checks; other pushes are told to come later."""
    service = start().service
    with crowd(service, 120, head("Content-Length: 9") + b"{"):
        until(lambda: service.push(good()) == 429)
        assert service.request("GET", "/health/ready")[0] == 200
    until(lambda: service.push(good()) == 204)


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize(
    ("start_of_body", "drop"),
    [(head("Content-Length: 99999"), b" "), (CHUNKED, b"1\r\n \r\n")],
    ids=["by its length", "in chunks"],
)
def test_a_body_that_drips(start, server, start_of_body, drop):
    """A body has to be there within a time, however steadily it comes; its sender is told so."""
    service = start(server, RECEIVE_TIMEOUT_SECONDS="1").service
    with connected(service, start_of_body) as peer:
        while not select.select([peer], [], [], 0.05)[0]:
            send(peer, drop)
        assert status(peer) == 400
    assert service.log()[-1]["reason"] == "not_a_push"


@pytest.mark.parametrize("server", SERVERS)
def test_a_large_push_over_a_slow_line(start, server):
    """A push of 13 MB that arrives piece by piece, within the time, is answered."""
    service, topics, _ = start(server, RECEIVE_TIMEOUT_SECONDS="30")
    body = push_of({**GOOD, "body": {"prompt": "x", "filler": "f" * 9_500_000}})
    with connected(service, head(f"Content-Length: {len(body)}")) as peer:
        pieces = 20
        for number in range(pieces):
            assert not select.select([peer], [], [], 0.1)[0], "answered before it was there"
            send(peer, body[len(body) * number // pieces : len(body) * (number + 1) // pieces])
        assert status(peer) == 204
    assert topics.response()[0]["status_code"] == 200


def test_peers_that_do_not_close(start):
    """Connections that are over, but that the peer keeps open, hold nobody up."""
    service = start().service
    with crowd(service, 300, head("Connection: close", method="GET", path="/health/live")) as peers:
        everything_answers(service)
        assert {status(peer) for peer in peers} == {200}


def test_refused_peers_that_go_on_sending(start):
    """A body that nobody wants is not waited for."""
    service = start().service
    with crowd(service, 300, head("Content-Length: 9", method="PUT", path="/nothing") + b"{"):
        everything_answers(service)


def test_peers_that_say_nothing(start):
    """Silent connections make room for others, the oldest first, whether they are new or were used before."""
    service = start().service
    with crowd(service, 300, b""):
        everything_answers(service)
    with crowd(service, 300, head(method="GET", path="/health/live")):
        everything_answers(service)


def test_a_rush(start):
    """Many connections at once wait to be accepted, instead of being dropped to try again in a second."""
    service = start(MODEL_SLOTS="200").service
    os.kill(worker(service), signal.SIGSTOP)
    try:
        with ExitStack() as stack:
            for _ in range(400):
                stack.enter_context(socket.create_connection(service.address, 5))
    finally:
        os.kill(worker(service), signal.SIGCONT)
    everything_answers(service)


def test_a_peer_that_does_not_read(start):
    """Responses that nobody takes do not hold a thread for good: the connection is ended."""
    service = start().service
    requests = head(method="GET", path="/nothing") * 1_000
    ended = select.poll()
    with socket.socket() as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        peer.connect(service.address)
        peer.setblocking(False)
        ended.register(peer, 0)
        while not ended.poll(0) and select.select([], [peer], [], 0.5)[1]:
            send(peer, requests)
        assert ended.poll(60_000)


def test_everything_at_once(start):
    """While hostile peers come in from all sides, good pushes are answered, or told to come later."""
    service = start().service
    over = threading.Event()

    def attack():
        while not over.is_set():
            for data, _ in FRAMES.values():
                answer(service, data)

    attackers = [threading.Thread(target=attack) for _ in range(4)]
    for one in attackers:
        one.start()
    try:
        statuses = [service.push(good()) for _ in range(50)]
    finally:
        over.set()
        for one in attackers:
            one.join()
    assert set(statuses) <= {204, 429}
    assert statuses.count(204) > 0

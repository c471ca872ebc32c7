"""Pushes: what Google and others send, and what is posted in their place."""

import base64
import json
import socket

import pytest

from tests.parts.processes import until
from tests.parts.service import push_of

from .conftest import GOOD, rows, said

REQUEST = {"metadata": {"id": 1}, "body": {"prompt": "push"}}
DATA = base64.b64encode(json.dumps(REQUEST).encode()).decode()


@pytest.fixture(autouse=True)
def answering(world):
    """The model answers every push of these tests."""
    world.model.replies["push"] = [said(200, GOOD)]


def posted(world, body, path="/", **headers):
    """Post something by hand: the status, the words of the refusal, and the line that it leaves in the log."""
    lines = len(world.service.log())
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    status, _, content = world.service.request("POST", path, body, {"Content-Type": "application/json", **headers})
    until(lambda: len(world.service.log()) > lines)
    return status, json.loads(content)["error"] if content else "", world.service.log()[lines]


# --- an offer of HTTP/2


def raw(world, *headers, body):
    """Send a request by its bytes and read the status line."""
    host, port = world.service.url.removeprefix("http://").split(":")
    head = ("POST / HTTP/1.1", "Host: x", "Content-Type: application/json", *headers)
    with socket.create_connection((host, int(port)), 20) as connection:
        connection.sendall("\r\n".join(head).encode() + b"\r\n\r\n" + body)
        return connection.recv(1000).split(b"\r\n")[0]


@pytest.mark.parametrize(
    "headers",
    rows(
        ("h2c, as Java's HttpClient offers it", ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c",
                                                 "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"]),
        ("h2c, as curl offers it", ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"]),
        ("h2c and keep-alive", ["Connection: keep-alive, Upgrade", "Upgrade: h2c"]),
        ("an upgrade to WebSocket", ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"]),
        ("an upgrade to TLS", ["Connection: Upgrade", "Upgrade: TLS/1.2, HTTP/1.1"]),
        ("an upgrade without a Connection", ["Upgrade: h2c"]),
    ),
)  # fmt: skip
@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_an_offer_to_upgrade_is_an_ordinary_request(world, headers, framing):
    """The offer is ignored (RFC 9110 7.8)."""
    body = push_of(REQUEST)
    if framing == "length":
        assert raw(world, *headers, f"Content-Length: {len(body)}", body=body).split()[1] == b"204"
    else:
        chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        assert raw(world, *headers, "Transfer-Encoding: chunked", body=chunks).split()[1] == b"204"


# --- what proxies add


@pytest.mark.parametrize(
    "headers",
    rows(
        ("a front end's TLS", ["X-Forwarded-Proto: https", "X-Forwarded-For: 66.249.84.1", "Forwarded: for=66.249.84.1"]),
        ("two proxies that disagree", ["X-Forwarded-Proto: https", "X-Forwarded-Ssl: off"]),
        ("a proxy that writes the environment", ["SCRIPT_NAME: /elsewhere", "PATH_INFO: /health/live"]),
    ),
)  # fmt: skip
def test_what_a_proxy_says_changes_nothing(world, headers):
    """No proxy is asked who the sender was, or over what it came."""
    body = push_of(REQUEST)
    assert raw(world, *headers, f"Content-Length: {len(body)}", body=body).split()[1] == b"204"


# --- another path


@pytest.mark.parametrize(
    "path",
    rows(
        ("the path of Google's samples", "/pubsub/push?token=abc"),
        ("a path for pushes", "/push"),
        ("a path with more in it", "/_ah/push-handlers/requests"),
        ("a slash at the end", "/pubsub/push/"),
    ),
)
def test_a_push_to_another_path(world, path):
    """It is taken: endpoints often have a path."""
    assert world.service.request("POST", path, push_of(REQUEST), {"Content-Type": "application/json"})[0] == 204


@pytest.mark.parametrize(
    ("method", "path"),
    rows(("a push by GET", "GET", "/pubsub/push"), ("a push by PUT", "PUT", "/"), ("a push to health", "POST", "/health/live")),
)  # fmt: skip
def test_whatever_is_refused_leaves_a_line(world, method, path):
    """Or else nobody can tell why nothing arrives."""
    lines = len(world.service.log())
    assert world.service.request(method, path, b"" if method == "GET" else push_of(REQUEST))[0] in (404, 405)
    until(lambda: [line["reason"] for line in world.service.log()[lines:]] == ["refused"])


# --- another shape


@pytest.mark.parametrize(
    ("body", "says"),
    rows(
        ("unwrapped without metadata", REQUEST, "write_metadata"),
        ("unwrapped without metadata, a batch line", {"custom_id": "1", "url": "/v1/completions", "body": {}}, "write_metadata"),
        ("unwrapped without metadata, no JSON", b"hello", "write_metadata"),
        ("unwrapped without metadata, any JSON", {"prompt": "x"}, "write_metadata"),
        ("a background event", {"data": DATA, "attributes": {}}, "background event"),
        ("a background event with its context", {"context": {"eventId": "1"}, "data": {"data": DATA}}, "background event"),
        ("a message without its envelope", {"messageId": "1", "data": DATA}, "without its envelope"),
        ("a CloudEvent of Cloud Storage", {"specversion": "1.0", "id": "1", "data": {"bucket": "b"}}, "CloudEvent of another kind"),
        ("a list", [REQUEST], "not a JSON object"),
    ),
)  # fmt: skip
def test_what_is_no_push_is_named(world, body, says):
    """In the answer and in the log, with what to switch on or to use."""
    status, words, line = posted(world, body)
    assert (status, line["reason"], line["severity"]) == (400, "not_a_push", "ERROR")
    assert says in words
    assert says in line["message"]
    assert DATA not in words + line["message"]


@pytest.mark.parametrize(
    ("fields", "attempt"),
    rows(
        ("a time without an offset", {"publishTime": "2026-11-25T12:00:00.123"}, 1),
        ("a time with a blank", {"publishTime": "2026-11-25 12:00:00"}, 1),
        ("a time in seconds", {"publishTime": {"seconds": 1795608000, "nanos": 5}}, 1),
        ("a time in seconds, as text", {"publish_time": {"seconds": "1795608000"}}, 1),
        ("a time of null", {"publishTime": None}, 1),
        ("nulls for what is not set", {"attributes": None, "orderingKey": None}, 1),
        ("an attempt as text", {}, "2"),
        ("an ordering key by its other name", {"ordering_key": "k"}, 1),
    ),
)  # fmt: skip
def test_fields_as_other_emulators_write_them(world, fields, attempt):
    """What has one plain meaning is taken."""
    assert world.service.push(push_of(REQUEST, attempt=attempt, **fields)) == 204


def test_an_id_that_is_a_number(world):
    """It is an id."""
    body = json.dumps({"message": {"messageId": 4711, "data": DATA}}).encode()
    assert world.service.push(body) == 204


def test_a_structured_cloud_event(world):
    """The push is in its data."""
    event = {
        "specversion": "1.0",
        "id": "structured",
        "source": "//pubsub",
        "type": "x",
        "data": {"message": {"data": DATA}},
    }
    assert world.service.push(json.dumps(event).encode(), {"Content-Type": "application/cloudevents+json"}) == 204

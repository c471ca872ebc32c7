"""Requests: what requesters and their libraries write."""

import base64
import gzip
import json
import re
import socket
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

import pytest

from tests.parts.service import running

from .conftest import GOOD, World, rows, said, settings

OK = said(200, GOOD)
PYTHON = re.compile(
    r"dictionary|\bdict\b|\bint\b|\bstr\b|\bfloat\b|\bbool\b|None|True|instance of|Options|Input should"
)


@pytest.mark.parametrize(
    ("request_", "path", "metadata"),
    rows(
        ("a batch line", {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {}},
         "/v1/chat/completions", {"custom_id": "1"}),
        ("a batch line of embeddings", {"custom_id": "1", "method": "POST", "url": "/v1/embeddings", "body": {}},
         "/v1/embeddings", {"custom_id": "1"}),
        ("a batch line with metadata", {"custom_id": "1", "url": "/v1/chat/completions", "metadata": {"a": 1}, "body": {}},
         "/v1/chat/completions", {"custom_id": "1", "a": 1}),
        ("half a batch line", {"url": "/v1/chat/completions", "metadata": {}, "body": {}}, "/v1/chat/completions", {}),
        ("a path of null", {"path": None, "metadata": {}, "body": {}}, "/v1/completions", {}),
        ("options of null", {"path": None, "metadata": {}, "body": {}, "options": None}, "/v1/completions", {}),
        ("limits of null", {"metadata": {}, "body": {}, "options": {"deadline": None, "timeout_seconds": None}},
         "/v1/completions", {}),
    ),
)  # fmt: skip
def test_what_plainly_means_something(world, request_, path, metadata):
    """It is taken for that."""
    outcome = world.deliver(request_, OK)
    assert (outcome.reasons, outcome.response["metadata"]) == (["answered"], metadata)
    assert world.model.calls[-1][0] == path


@pytest.mark.parametrize(
    ("request_", "says"),
    rows(
        ("a path misspelt", {"Path": "/v1/chat/completions", "metadata": {}, "body": {}}, "Did you mean `path`?"),
        ("an endpoint", {"endpoint": "/v1/chat/completions", "metadata": {}, "body": {}}, "Did you mean `path`?"),
        ("a limit misspelt", {"metadata": {}, "body": {}, "options": {"timeout": 1}}, "Did you mean `timeout_seconds`?"),
        ("a limit at the top", {"metadata": {}, "body": {}, "timeout_seconds": 1}, "Did you mean `options.timeout_seconds`?"),
        ("options misspelt", {"metadata": {}, "body": {}, "option": {"timeout_seconds": 1}}, "Did you mean `options`?"),
        ("the model at the top", {"model": "m", "metadata": {}, "body": {}}, "Put it inside `body`."),
        ("a body alone", {"model": "m", "messages": []}, "Put it inside `body`."),
        ("two paths", {"path": "/v1/completions", "url": "/v1/chat/completions", "metadata": {}, "body": {}}, "differ"),
        ("a GET", {"custom_id": "1", "method": "GET", "url": "/v1/models", "body": {}}, "must be \"POST\""),
        ("a body that is missing", {"metadata": {}}, "`body` is missing: it must be a JSON object, what the model's HTTP API takes"),
        ("a body of null", {"metadata": {}, "body": None}, "`body` must be a JSON object"),
        ("a body that is encoded twice", {"metadata": {}, "body": '{"prompt": "x"}'}, "JSON inside a string"),
        ("a body that is a list", {"metadata": {}, "body": [1]}, "not an array"),
        ("metadata that is text", {"metadata": "1", "body": {}}, "not a string"),
        ("options that are a list", {"metadata": {}, "body": {}, "options": []}, "`options` must be a JSON object"),
        ("a number in quotes", {"metadata": {}, "body": {}, "options": {"timeout_seconds": "5"}}, "Leave the quotes out"),
        ("a limit of zero", {"metadata": {}, "body": {}, "options": {"timeout_seconds": 0}}, "greater than 0"),
    ),
)  # fmt: skip
def test_mistakes(world, request_, says):
    """They are refused at once, without the model, in the words of JSON and with what to write instead."""
    outcome = world.deliver(request_, OK)
    assert (outcome.deliveries, outcome.calls, outcome.response["status_code"]) == (1, 0, 400)
    assert says in outcome.error
    assert not PYTHON.search(re.sub("`.*?`", "", outcome.error))


REQUEST = json.dumps({"metadata": {}, "body": {"prompt": "x"}}).encode()


@pytest.mark.parametrize(
    ("data", "attributes", "says"),
    rows(
        ("base64 of a request", base64.b64encode(REQUEST), {}, "base64 of JSON"),
        ("a request in a string", json.dumps(REQUEST.decode()).encode(), {}, "JSON inside a string"),
        ("gzip", gzip.compress(REQUEST), {}, "gzip"),
        ("UTF-16", REQUEST.decode().encode("utf-16"), {}, "UTF-16"),
        ("a request in Python's notation", b"{'metadata': {}}", {}, "json.dumps"),
        ("two requests", REQUEST + b"\n" + REQUEST, {}, "a message of its own"),
        ("a list of requests", b"[%b]" % REQUEST, {}, "a message of its own"),
        ("nothing", b"", {}, "It is empty"),
        ("Avro of a schema", b"\x02H\x08\x06abc", {"googclient_schemaencoding": "BINARY"}, "the encoding JSON"),
        ("an Avro file", b"Obj\x01\x04\x14", {}, "Avro"),
    ),
)  # fmt: skip
def test_data_that_is_no_request(world, data, attributes, says):
    """The error says what it looks like."""
    outcome = world.deliver(data, attributes=attributes)
    assert (outcome.deliveries, outcome.response["status_code"]) == (1, 400)
    assert says in outcome.error


def test_attributes_named_like_ours(world):
    """They come back under another name."""
    outcome = world.ask(OK, attributes={"status_code": "1", "model": "2", "batch": "3"})
    assert (
        outcome.attributes.items() >= {"status_code": "200", "request_status_code": "1", "request_model": "2"}.items()
    )
    assert outcome.attributes["batch"] == "3"


@pytest.fixture(scope="module")
def silent(topics, model, tmp_path_factory):
    """A service whose model's host answers no SYN: its queue of connections is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, ExitStack() as fillers:
        for _ in range(3):
            connection = fillers.enter_context(socket.socket())
            connection.setblocking(False)
            connection.connect_ex(server.getsockname())
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        with running("gunicorn", tmp_path_factory.mktemp("silent"), **settings(topics, url)) as service:
            yield World(service, topics, model)


@pytest.mark.parametrize(
    ("options", "status", "code"),
    rows(
        ("a limit of seconds while connecting", {"timeout_seconds": 1}, 504, "model_timeout"),
        ("a deadline while connecting", {"deadline": "soon"}, 408, "deadline_exceeded"),
    ),
)
def test_the_requests_own_limits_while_connecting(silent, options, status, code):
    """They end the matter when they are reached, as they do in every other state of a call."""
    if "deadline" in options:
        options = {"deadline": (datetime.now(UTC) + timedelta(seconds=1.5)).isoformat()}
    outcome = silent.deliver({"metadata": {}, "body": {}, "options": options}, most=1)
    assert outcome.reasons == ["model_timed_out"]
    assert (outcome.response["status_code"], outcome.response["body"]["error"]["code"]) == (status, code)

"""Fuzzes what reads strangers' bytes: python tests/fuzz/fuzz.py TARGET [libFuzzer's options] [corpus ...].

A target fails by any exception but the one that its module promises, and by an answer that is not what it should be.
"""

import base64
import json
import re
import sys

import atheris

with atheris.instrument_imports(include=["handler"]):
    from handler.config.settings import DEFAULT_PATHS, Settings
    from handler.push.auth import AuthError, authenticator
    from handler.push.envelope import DecodeError, decode
    from handler.push.keys import KeysUnavailable
    from handler.rules.message import batchline
    from handler.rules.message.attributes import response_attributes
    from handler.rules.message.contract import Answer, RequestError, encode_response, parse_request

WORDS = [
    *("message", "messageId", "message_id", "data", "attributes", "orderingKey", "publishTime", "subscription"),
    *("deliveryAttempt", "metadata", "body", "path", "options", "deadline", "timeout_seconds", "model", "stream"),
    *("url", "custom_id", "method", "POST"),
    *("/v1/completions", "v1/embeddings", "2030-01-31T12:00:00Z", "0001-01-01T00:00:00+23:59", "e30=", "\ud800", ""),
    *("#1e400", "#-1e999", "#NaN", "#Infinity", "#01", "#1e-400"),  # without quotes: what `json` does not write
]
NUMBERS = [0, 1, -1, 1.5, 1e308, -0.0, 10**400, 10**4299, True, False, None]
HEADERS = ("x-goog-pubsub-message-id", "x-goog-pubsub-publish-time", "x-goog-pubsub-ordering-key", "ce-id")


def text(source):
    """A word that means something, or any string."""
    return source.PickValueInList(WORDS) if source.ConsumeBool() else source.ConsumeUnicode(12)


def value(source, depth):
    """Any JSON, made of words that mean something more often than chance would have it."""
    kind = source.ConsumeIntInRange(0, 4 if depth else 2)
    if kind == 0:
        return source.PickValueInList(NUMBERS)
    if kind < 3:
        return text(source)
    size = source.ConsumeIntInRange(0, 5)
    if kind == 3:
        return [value(source, depth - 1) for _ in range(size)]
    return {text(source): value(source, depth - 1) for _ in range(size)}


def as_push(source):
    attributes = {text(source): text(source) for _ in range(source.ConsumeIntInRange(0, 3))}
    found = value(source, 4)
    more = found if isinstance(found, dict) else {"x": found}
    return {"message": {"messageId": "1", "attributes": attributes, **more}, **more}


def as_request(source):
    found, metadata = value(source, 4), value(source, 4)
    more = found if isinstance(found, dict) else {"x": found}
    return {"metadata": metadata, "body": more, **more}


def document(data, make):
    """Three in four times the bytes as they are; else a document that they stand for."""
    if data[:1] >= b"\x40":
        return data
    written = json.dumps(make(atheris.FuzzedDataProvider(data[1:])))
    return re.sub('"#([^"]+)"', r"\1", written).encode()


def envelope(data):
    """A push is a message that can be worked on, or a DecodeError."""
    named = data[:1] == b"\xff"
    headers = {name: data[1:20].decode("latin-1") for name in HEADERS if named}
    try:
        message = decode(headers, document(data, as_push))
    except DecodeError as error:
        assert str(error)
        return
    assert message.message_id
    assert message.delivery_attempt is None or message.delivery_attempt > 0
    attributes = response_attributes(message.attributes, message_id=message.message_id, status_code=200)
    assert len(attributes) <= 100
    for one in (message.message_id, message.ordering_key, message.subscription, *attributes, *attributes.values()):
        one.encode()
    contract(message.data)


def contract(data):
    """A message's data is a request or a RequestError, and the response to either is JSON with the metadata in it."""
    data = document(data, as_request)
    try:
        request = parse_request(data, DEFAULT_PATHS)
    except RequestError as error:
        response = json.loads(encode_response(error.answer, error.metadata))
        assert response["body"]["error"]["message"]
        assert response["status_code"] in (400, 404)
        return
    assert request.path in DEFAULT_PATHS
    assert not json.loads(request.model_body()).get("stream")
    response = json.loads(encode_response(Answer(200, b"{}"), request.metadata))
    assert json.dumps(response["metadata"]) == json.dumps(batchline.metadata(json.loads(data)))


def no_keys():
    raise KeysUnavailable("are not to be had")


CHECK = authenticator(
    Settings.model_validate(
        {"MODEL_URL": "http://m", "RESPONSE_TOPIC": "projects/project/topics/topic", "PUSH_AUTH": "verify"}
        | {"PUSH_ISSUER": "i", "PUSH_AUDIENCE": "a", "PUSH_SERVICE_ACCOUNT": "s"}
    ),
    clock=lambda: 0.0,
    fetch=no_keys,
)


def token(data):
    """An Authorization header that nobody signed is an AuthError, however far its token gets."""
    header = data.decode("latin-1")
    if data[:1] == b"{":
        parts = [base64.urlsafe_b64encode(part).decode().rstrip("=") for part in data.split(b".")]
        header = "Bearer " + ".".join(parts)
    try:
        CHECK(header)
    except AuthError as error:
        assert str(error)
    else:
        raise AssertionError("it passed")


TARGETS = {target.__name__: target for target in (envelope, contract, token)}

if __name__ == "__main__":
    atheris.Setup([sys.argv[0], *sys.argv[2:]], TARGETS[sys.argv[1]])
    atheris.Fuzz()

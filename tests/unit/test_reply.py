"""What an HTTP client reads is read, and what goes on is valid JSON."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handler.rules import strictjson
from handler.rules.verdict.diagnosis import Kind
from handler.rules.verdict.reply import ModelReply, read
from tests.parts.jsonvalues import json_values

JSON = "application/json"
BOM = b"\xef\xbb\xbf"


def published(body, content_type=JSON, status=200):
    """The JSON text that is published for an answer."""
    reading = read(ModelReply(status, content_type, body))
    assert reading.kind in (Kind.ANSWER, Kind.REQUESTER), reading
    strictjson.loads(reading.answer.body, finite=False)
    return reading.answer.body


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (BOM + b'{"a": 0.10}', b'{"a": 0.10}'),
        (b'{"a": [-Infinity, 0.0, Infinity, NaN, 1e400]}', b'{"a": [null, 0.0, null, null, 1e400]}'),
        (b'{"a": nan, "b": -inf, "c": -nan}', b'{"a": null, "b": null, "c": null}'),
        (b'{"a": "NaN \\" -Infinity", "NaN": NaN}', b'{"a": "NaN \\" -Infinity", "NaN": null}'),
        (b'{"a": "one\ntwo\tthree"}', b'{"a": "one\\u000atwo\\u0009three"}'),
        ('{"a": "é"}'.encode("utf-16"), '{"a": "é"}'.encode()),
        ('{"a": "é"}'.encode("utf-16-le"), '{"a": "é"}'.encode()),
        ('{"a": "é"}'.encode("utf-32"), '{"a": "é"}'.encode()),
        (b'{"a": "caf\xe9"}', '{"a": "caf�"}'.encode()),
        (b'{"a": "\xed\xa0\x80"}', b'{"a": "\\ud800"}'),
        (b'\n\n {"a": NaN}\n', b'\n\n {"a": null}\n'),
    ],
)
def test_nearly_json(body, expected):
    """It becomes JSON, and nothing else of it changes."""
    assert published(body) == expected
    assert published(body, "application/json; charset=utf-8") == expected


def test_another_charset():
    """Where the bytes are no UTF-8, the header says what they are."""
    assert published(b'{"a": "caf\xe9"}', "application/json; charset=ISO-8859-1") == '{"a": "café"}'.encode()
    for unknown in ("nonsense", "hex", "undefined", "\N{SNOWMAN}", "idna"):
        assert published(b'{"a": "caf\xe9"}', f"application/json; charset={unknown}") == '{"a": "caf�"}'.encode()


@pytest.mark.parametrize("content_type", ["", "text/plain", "text/json", "application/x-json"])
def test_nearly_json_that_nobody_called_json(content_type):
    """Its first character says so, behind a byte order mark too."""
    assert published(BOM + b'{"a": NaN}', content_type) == b'{"a": null}'


def test_an_error_that_is_nearly_json():
    """The model's own words come back, as JSON."""
    assert published(BOM + b'{"error": "no"}', status=400) == b'{"error": "no"}'


@pytest.mark.parametrize(
    "body", [b"{'a': 1}", b'{"a": None}', b'{"a": 1,}', b'{"a": NaN', b'{"a": xNaN}', b'{"a": NaN(1)}', b"{a: 1}", BOM]
)
def test_no_json_at_all(body):
    """What an HTTP client would not read is no answer."""
    assert read(ModelReply(200, JSON, body)).kind is Kind.NONSENSE


@pytest.mark.parametrize("content_type", ["application/x-ndjson", "application/jsonl", "application/x-ndjson; q=1"])
@pytest.mark.parametrize("lines", [1, 2])
def test_lines_of_json_are_text(content_type, lines):
    """However many there are."""
    text = '{"a": 1}\n' * lines
    wrapped = {"content_type": content_type, "encoding": "utf-8", "content": text}
    assert json.loads(published(text.encode(), content_type)) == wrapped


@pytest.mark.parametrize("content_type", ["application/xml", "image/svg+xml", "application/x-subrip", "text/vtt"])
def test_other_text(content_type):
    """It is not hidden in base64."""
    assert json.loads(published(b"<x/>", content_type))["content"] == "<x/>"


@pytest.mark.parametrize("content_type", ["text/html", JSON, "", "application/xhtml+xml; charset=utf-8"])
def test_a_page_is_the_operators_trouble(content_type):
    """No model's API answers in HTML: it is an ingress, or a login page."""
    reading = read(ModelReply(200, content_type, b"<!DOCTYPE html><title>Log in</title>"))
    assert reading.kind is Kind.OPERATOR
    assert "Log in" in json.loads(reading.answer.body)["error"]["message"]


@given(st.binary(max_size=200), st.sampled_from([JSON, "", "text/plain", "audio/mpeg"]), st.sampled_from([200, 400]))
def test_whatever_the_bytes_the_response_is_json(body, content_type, status):
    """It is valid always."""
    strictjson.loads(read(ModelReply(status, content_type, body)).answer.body, finite=False)


def without_nonfinite(value):
    """The same with null for what JSON cannot say."""
    if isinstance(value, dict):
        return {key: without_nonfinite(one) for key, one in value.items()}
    if isinstance(value, list):
        return [without_nonfinite(one) for one in value]
    return None if (isinstance(value, float) and abs(value) in (float("inf"),)) or value != value else value


@given(json_values(floats=st.floats()))
def test_what_python_writes_is_read(value):
    """Python's json writes what is not quite JSON; the rest of it stays."""
    document = {"choices": [] if without_nonfinite(value) is None else value}
    text = published(json.dumps(document).encode())
    assert json.loads(text) == without_nonfinite(document)

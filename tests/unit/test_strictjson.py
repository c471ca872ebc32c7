"""JSON as the RFC has it, and nothing beyond."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handler import strictjson
from handler.strictjson import JsonError

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=20,
)


@given(values)
def test_what_is_written_is_read_back(value):
    """A round trip changes nothing: numbers, key order and every string, lone surrogates among them."""
    text = strictjson.dumps(value)
    assert json.dumps(value) == json.dumps(strictjson.loads(text))


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_json_error(data):
    """Whatever the bytes, the answer is a value or a JsonError."""
    try:
        strictjson.loads(data)
    except JsonError as error:
        assert str(error)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"NaN", "NaN"),
        (b'{"a": [Infinity]}', "Infinity"),
        (b"-Infinity", "-Infinity"),
        (b"1e400", "double"),
        (b"[-1e400]", "double"),
        (b"1" * 4301, "4,300 digits"),
        (b"\xff", "UTF-8 at byte 0"),
        ('"é"'.encode("latin-1"), "UTF-8 at byte 1"),
        ('{"a": 1}'.encode("utf-16"), "UTF-8"),
        (b"\xef\xbb\xbf{}", "BOM"),
        (b"", "Expecting value"),
        (b"{} {}", "Extra data"),
        (b'{"a": 1,}', "line 1"),
        (b"'a'", "Expecting value"),
        (b"[" * 201 + b"]" * 201, "200 levels"),
        (b'{"a":' * 201 + b"1" + b"}" * 201, "200 levels"),
        (b"[" * 100_000, "200 levels"),
    ],
)
def test_refused(text, reason):
    """What is not JSON, or cannot be kept exactly, is refused with the reason and without quoting it."""
    with pytest.raises(JsonError, match=reason):
        strictjson.loads(text)


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 200 + b"]" * 200,
        b"[" + b"{}," * 500 + b"{}]",
        b"9" * 4300,
        b"[9007199254740993, -9007199254740993]",
        rb'"\ud800"',
        '{"b": 1, "a": "日本語 🚀"}'.encode(),
    ],
)
def test_kept_exactly(text):
    """Everything within the limits comes back byte by byte, but for white space."""
    assert text.replace(b", ", b",").replace(b": ", b":") == strictjson.dumps(strictjson.loads(text))


def test_overflow_is_let_through_where_the_text_is_only_passed_on():
    """With finite=False the model's own numbers are nobody's business."""
    assert [math.inf] == strictjson.loads(b"[1e400]", finite=False)


def test_pretty_keeps_other_scripts_readable():
    """What is printed for a person has no escapes."""
    assert strictjson.pretty({"é": "日"}) == '{\n  "é": "日"\n}'

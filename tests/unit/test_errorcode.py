"""Which responses hold an error of the relay's own."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handler.rules.message.contract import Answer, ErrorCode, encode_response, error
from handler.rules.message.errorcode import error_code_in

BEGINS = '"body":{"error":{"message":'


@pytest.mark.parametrize("code", ErrorCode)
def test_the_relays_own_errors(code):
    """Each is told by its form."""
    assert error_code_in(encode_response(error(code, f"as in {BEGINS}"), {BEGINS: BEGINS})) == code


@given(st.sampled_from(ErrorCode), st.dictionaries(st.text(), st.text() | st.just(BEGINS)), st.text() | st.just(BEGINS))
def test_what_goes_with_an_error_does_not_matter(code, metadata, message):
    """It is told whatever it says and whatever the metadata are."""
    assert error_code_in(encode_response(error(code, message), metadata)) == code


@pytest.mark.parametrize(
    "body",
    [
        {"choices": []},
        {"error": {"message": "no", "type": "x", "param": None, "code": None}},
        {"error": {"message": "no", "type": "server_error", "param": None, "code": "invalid_json"}},
        {"error": {"message": "no", "code": "model_error"}},
        {"error": {"message": "x" * 20_000, "type": "server_error", "param": None, "code": "model_error"}},
        {"error": {"message": "no", "type": "server_error", "param": None, "code": ["model_error"]}},
        "model_error",
    ],
)
def test_a_models_errors(body):
    """They are the model's, though they may look alike."""
    data = encode_response(Answer(502, json.dumps(body, separators=(",", ":")).encode()), {"body": "x"})
    assert error_code_in(data) == ""


@pytest.mark.parametrize("error", ["[]", "[1]", "1", "null", '"x"', "{}", '{"code": []}'])
def test_a_name_that_is_there_twice(error):
    """JSON allows it, and the last one counts: it is no error of the relay's own, whatever it is."""
    assert (
        error_code_in(b'{"status_code":200,"metadata":{},"body":{"error":{"message":"x"},"error":%b}}' % error.encode())
        == ""
    )


@given(st.binary())
def test_any_bytes(data):
    """What is no response holds none."""
    assert error_code_in(data) == ""
    assert error_code_in(BEGINS.encode() + data) in ("", *ErrorCode)

"""What is read out of an answer, for people."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handler.batch.asking import text_of
from handler.rules import strictjson

JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda of: st.lists(of, max_size=2))


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"choices": [{"message": {"content": "yes"}}]}', "yes"),
        (b'{"choices": [{"text": "yes"}]}', "yes"),
        (
            b'{"output": [{"type": "reasoning"}, {"type": "message", "content": [{"text": "ye"}, {"text": "s"}]}]}',
            "yes",
        ),
        (b'{"error": {"message": "wrong"}}', "wrong"),
        (b'{"choices": [{"message": {"content": null, "tool_calls": [{"type": "function"}]}}]}', None),
        (b'{"choices": [{"message": {"content": [{"type": "text", "text": "yes"}]}}]}', None),
        (b'{"choices": [{"text": null}]}', None),
        (b'{"error": {"message": {"code": 7}}}', None),
        (b'{"data": []}', None),
        (b"null", None),
    ],
)
def test_the_text_of_an_answer(body, text):
    """What the model said, or the error's message; None where that is no text, such as a call of a tool."""
    assert text_of(body) == text


@given(JSON)
def test_only_a_text_is_text(value):
    """Whatever else is where a text should be, it is not put into words of Python's."""
    for body in (
        {"choices": [{"message": {"content": value}}]},
        {"choices": [{"text": value}]},
        {"output": [{"type": "message", "content": [{"text": value}]}]},
        {"error": {"message": value}},
    ):
        assert text_of(strictjson.dumps(body)) == (value if isinstance(value, str) else None)

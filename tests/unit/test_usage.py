"""What a model says that its answer has cost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handler.rules.message.usage import Usage, usage_of
from handler.rules.verdict.reply import ModelReply, read
from tests.parts.jsonvalues import json_values


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}, Usage(5, 7)),
        ({"input_tokens": 5, "output_tokens": 7}, Usage(5, 7)),
        ({"prompt_tokens": 5, "total_tokens": 5}, Usage(5, None)),
        ({"prompt_tokens": 0, "completion_tokens": None}, Usage(0, None)),
        ({"prompt_tokens": None, "input_tokens": 3}, Usage(3, None)),
        ({"prompt_tokens": -1, "completion_tokens": 1.5}, Usage()),
        ({"prompt_tokens": True, "completion_tokens": "7"}, Usage()),
        ({"prompt_tokens": 10**30}, Usage()),
        (None, Usage()),
        ([], Usage()),
    ],
)
def test_usage(usage, expected):
    """Both APIs' names; what is no count is not known."""
    assert usage_of({"usage": usage}) == expected


@given(json_values(floats=st.floats()))
def test_any_document(document):
    """A document that says nothing of it costs nothing that is known."""
    assert usage_of(document) == usage_of({"usage": document}) == Usage()


def test_an_answer_has_its_usage():
    """It comes with the answer, which is read once."""
    reply = ModelReply(200, "application/json", b'{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}')
    assert read(reply).answer.usage == Usage(1, 2)

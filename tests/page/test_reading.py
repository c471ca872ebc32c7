"""What is shown of requests, responses and log lines, whatever they hold."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handler.local.page import reading


@pytest.mark.parametrize(
    ("body", "prompt"),
    [
        ({"prompt": "The sea is"}, "The sea is"),
        ({"input": "embed me"}, "embed me"),
        ({"messages": [{"role": "system", "content": "no"}, {"role": "user", "content": "hi"}]}, "hi"),
        ({"prompt": "x" * 400}, "x" * 299 + "…"),
        ({"prompt": "\ud800"}, "?"),
        ({"messages": [{"content": [{"type": "image_url"}]}]}, '{"body": {"messages": [{"content": [{"type": '),
        ({"messages": []}, '{"body": {"messages": []}}'),
    ],
)
def test_the_prompt(body, prompt):
    """What the model is asked; where that cannot be told, the message as it is."""
    data = json.dumps({"body": body}).encode()
    assert reading.request_of(data, {}).prompt.startswith(prompt)


@pytest.mark.parametrize("data", [b"", b"no json", b"[1]", b"\xff", b"[" * 100_000, b'{"body": 7, "options": []}'])
def test_what_is_no_request(data):
    """It is shown as text, cut, and never an error."""
    request = reading.request_of(data, {"priority": "low"})
    assert len(request.prompt) <= 300
    assert request.priority == "low"


def test_priority():
    """The request's own before the attribute's, else normal."""
    data = b'{"body": {}, "options": {"priority": "high"}}'
    assert reading.request_of(data, {"priority": "low"}).priority == "high"
    assert reading.request_of(b'{"body": {}}', {}).priority == "normal"


def test_the_body_is_recognised():
    """Whatever the service may change of it, and in any order of its fields; not another body."""
    request = reading.request_of(b'{"body": {"model": "a", "stream": true, "prompt": "x", "n": 1}}', {})
    assert request.body_key == reading.sent_key(b'{"n": 1, "stream": false, "prompt": "x", "model": "b"}')
    assert request.body_key != reading.sent_key(b'{"n": 2, "prompt": "x"}')
    assert reading.sent_key(b"no json") == reading.sent_key(b"[]")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'{"status_code": 200, "body": {"choices": [{"text": " yes "}]}}', (200, "yes")),
        (b'{"status_code": 400, "body": {"error": {"message": "wrong"}}}', (400, "wrong")),
        (b'{"status_code": 200, "body": {"data": []}}', (200, '{"data": []}')),
        (
            b'{"status_code": 200, "body": {"choices": [{"message": {"content": null, "tool_calls": []}}]}}',
            (200, '{"choices": [{"message": {"content": null, "tool_calls": []}}]}'),
        ),
        (b"nonsense", (0, "null")),
    ],
)
def test_the_answer(data, expected):
    """What the model said, or the error's message, or the JSON."""
    response = reading.response_of(data)
    assert (response.status, response.text) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            '{"message": "model_failed: status 500", "reason": "model_failed", "message_id": "7", "subscription": "s", '
            '"delivery_attempt": 2, "attempt": 1}',
            reading.LogLine("7", "s", 2, "model_failed", "status 500"),
        ),
        ('{"message": "answered", "reason": "answered", "delivery_attempt": null}', None),
        ('{"message": "starting"}', None),
        ("Traceback (most recent call last):", None),
        ("", None),
    ],
)
def test_log_lines(line, expected):
    """Only what is said of a push that Pub/Sub has counted."""
    assert reading.log_line_of(line) == expected


TEXTS = st.text(st.characters(), max_size=5)  # lone surrogates too
ODD = st.recursive(
    st.none() | st.booleans() | st.floats() | TEXTS, lambda inner: st.lists(inner, max_size=2), max_leaves=3
)


@st.composite
def known(draw, *names, of=ODD):
    """An object with some of these fields, of any kind."""
    return draw(ODD | st.fixed_dictionaries({}, optional=dict.fromkeys(names, of)))


SAID = st.lists(known("text", "message", of=known("content", "role")), max_size=2)
BODIES = known("prompt", "input", "messages", "choices", "error", of=SAID | known("message") | ODD)
MESSAGES = known("body", "options", "status_code", of=BODIES | known("priority"))


@given(st.binary(max_size=200) | MESSAGES.map(lambda message: json.dumps(message).encode()))
def test_nothing_is_too_strange(data):
    """Any bytes can be shown, and any kind of value in a field that is looked at, and sent as UTF-8."""
    request, response = reading.request_of(data, {}), reading.response_of(data)
    json.dumps([request.prompt, request.priority, response.text], ensure_ascii=False).encode()

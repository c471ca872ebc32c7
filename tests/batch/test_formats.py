"""What a line is read as, and what is written: pure rules, by tables and properties."""

import json
from contextlib import suppress
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handler.batch.lines import answers, check, files, formats
from handler.batch.lines.answers import Style
from handler.batch.lines.formats import DEFAULT_PATHS, BadLine, Form
from handler.config.settings import DEFAULT_PATHS as SERVICE_PATHS
from handler.rules.message.contract import Answer, encode_response, parse_request

GOOD = {"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": {"model": "m", "prompt": "p"}}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
OBJECT = st.dictionaries(st.text(), JSON, max_size=4)


def read(document, form=Form.OPENAI):
    """Read a line."""
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    return formats.read(3, text, form, DEFAULT_PATHS)


def test_the_paths_are_the_services():
    """What is checked here is what the service allows unless it is told otherwise."""
    assert DEFAULT_PATHS == SERVICE_PATHS


@pytest.mark.parametrize(
    ("line", "form"),
    [
        (GOOD, Form.OPENAI),
        ({"url": "/v1/completions", "body": {}}, Form.OPENAI),
        ({"metadata": {}, "body": {}}, Form.RELAY),
        ({"path": "/v1/completions", "body": {}}, Form.RELAY),
        ({"something": "else"}, None),
        ([], None),
    ],
)
def test_the_form_is_told_by_a_line(line, form):
    """A `custom_id` or `url` beside the body is OpenAI's; a path or metadata are the relay's."""
    assert formats.told_by(json.dumps(line).encode()) == form


@pytest.mark.parametrize(
    ("line", "code", "param"),
    [
        (b"{", "invalid_json", None),
        (b'{"custom_id": NaN}', "invalid_json", None),
        ([], "invalid_request", None),
        ({"metadata": {}, "body": {}}, "invalid_request", None),
        (GOOD | {"custom_id": 7}, "invalid_custom_id", "custom_id"),
        (GOOD | {"custom_id": ""}, "invalid_custom_id", "custom_id"),
        (GOOD | {"custom_id": "x" * 1025}, "invalid_custom_id", "custom_id"),
        (GOOD | {"custom_id": "\ud800"}, "invalid_custom_id", "custom_id"),
        (GOOD | {"method": "GET"}, "invalid_method", "method"),
        (GOOD | {"method": 7}, "invalid_method", "method"),
        ({key: GOOD[key] for key in ("custom_id", "url")}, "invalid_request", "body"),
        ({key: GOOD[key] for key in ("custom_id", "body")}, "invalid_request", "url"),
        (GOOD | {"body": []}, "invalid_request", "body"),
        (GOOD | {"url": "/v1/files"}, "path_not_allowed", "path"),
        (GOOD | {"url": 7}, "invalid_request", "path"),
    ],
)
def test_what_is_wrong_with_a_line(line, code, param):
    """Each fault has a code, the field it is in, and a sentence."""
    with pytest.raises(BadLine) as caught:
        read(line)
    assert (caught.value.code, caught.value.param) == (code, param)
    assert caught.value.message


@pytest.mark.parametrize("method", ["POST", "post", None])
def test_the_methods_that_the_service_takes(method):
    """A line may be as the service takes it: POST in any case, or left open."""
    assert read(GOOD | {"method": method}).custom_id == "a"


def test_the_longest_batch_id_counts(tmp_path):
    """A line that passes the check can be sent, whatever the batch is called: its id is a part of the message."""
    path, found = tmp_path / "r.jsonl", []
    room = formats.MAX_DATA_BYTES - len(formats.encode(read(GOOD | {"body": {"x": ""}}), "b" * 100))
    lines = [GOOD | {"custom_id": name, "body": {"x": "y" * (room + more)}} for name, more in (("a", 0), ("b", 1))]
    path.write_text("\n".join(map(json.dumps, lines)))
    check.examine(str(path), check.LineRules(), lambda *_: True, found.append)
    assert [(each.custom_id, each.code) for each in found] == [("b", "request_too_large")]


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [({"custom_id": "c", "id": "i"}, "c"), ({"id": "i"}, "i"), ({"id": 5}, "5"), ({}, "line-3"), (None, "line-3")],
)
def test_the_id_of_the_relays_own_lines(metadata, expected):
    """The metadata's custom_id, or its id, or the line's number."""
    assert read({"metadata": metadata, "body": {}}, Form.RELAY).custom_id == expected


@given(body=OBJECT, metadata=OBJECT)
def test_the_service_takes_what_is_sent(body, metadata):
    """Whatever a good line has in it, the service reads the same."""
    metadata = {**metadata, "id": "a"} if "custom_id" not in metadata else {**metadata, "custom_id": "a"}
    request = read({"metadata": metadata, "body": body}, Form.RELAY)
    parsed = parse_request(formats.encode(request, "b", None), DEFAULT_PATHS)
    assert parsed.body == body
    assert parsed.metadata == {**metadata, "custom_id": "a", "batch_id": "b"}


@given(
    st.binary(max_size=60)
    | st.fixed_dictionaries({}, optional=dict.fromkeys([*GOOD, "path", "metadata", "options", "body_ref"], JSON)).map(
        lambda line: json.dumps(line).encode()
    )
)
def test_no_line_breaks_it(text):
    """Whatever the bytes, a line is a request or a BadLine."""
    for form in Form:
        with suppress(BadLine):
            formats.read(1, text, form, DEFAULT_PATHS)


@pytest.mark.parametrize(
    ("own", "batch", "expected"),
    [
        (None, "2030-01-31T12:00:00Z", "2030-01-31T12:00:00Z"),
        ("2030-01-31T11:00:00Z", "2030-01-31T12:00:00Z", "2030-01-31T11:00:00Z"),
        ("2030-01-31T12:30:00+01:00", "2030-01-31T12:00:00Z", "2030-01-31T12:30:00+01:00"),
        ("2030-01-31T12:30:00Z", "2030-01-31T12:00:00Z", "2030-01-31T12:00:00Z"),
    ],
)
def test_the_earlier_deadline_counts(own, batch, expected):
    """A batch's deadline only ever shortens a line's own."""
    line = {"metadata": {}, "body": {}, "options": {"deadline": own} if own else {}}
    sent = parse_request(formats.encode(read(line, Form.RELAY), "b", batch), DEFAULT_PATHS)
    assert sent.options.deadline == datetime.fromisoformat(expected)


@given(body=JSON, metadata=OBJECT, status=st.integers(100, 599))
def test_what_the_service_says_is_written_unchanged(body, metadata, status):
    """Whatever the answer, its line is one line of JSON with the same body, and the metadata beside ours."""
    metadata = {**metadata, "custom_id": "a", "batch_id": "b"}
    pretty = json.dumps(body, indent=1).encode()
    answer = answers.parse(encode_response(Answer(status, pretty), metadata), {"request_message_id": "7"}, "a")
    line = answers.line_of(answer, Style.OPENAI)
    assert line.count(b"\n") == 1
    written = json.loads(line)
    assert written["response"] == {"status_code": status, "request_id": "7", "body": body}
    assert (written["id"], written["custom_id"], written["error"]) == ("batch_req_7", "a", None)
    own = {key: value for key, value in metadata.items() if key not in ("custom_id", "batch_id")}
    assert written.get("metadata", {}) == own
    assert bool(answer.code) == (not 200 <= status < 300)


def test_numbers_are_not_touched():
    """A body goes through byte by byte: integers of any length, and doubles as they were written."""
    body = b'{"n": 1.10, "big": 123456789012345678901234567890, "e": 1e400}'
    answer = answers.parse(encode_response(Answer(200, body), {}), {}, "a")
    assert body in answers.line_of(answer, Style.OPENAI)


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 4}, (3, 4)),
        ({"input_tokens": 3, "output_tokens": 4}, (3, 4)),
        ({"prompt_tokens": 3}, (3, 0)),
        ({"prompt_tokens": "3"}, (0, 0)),
        ({"prompt_tokens": True, "completion_tokens": -5}, (0, 0)),
        ({"prompt_tokens": 1 << 60, "completion_tokens": 4}, (0, 4)),
        (None, (0, 0)),
    ],
)
def test_tokens(usage, expected):
    """Both of OpenAI's ways to say what was used; what is no number counts nothing."""
    data = encode_response(Answer(200, json.dumps({"usage": usage}).encode()), {})
    answer = answers.parse(data, {}, "a")
    assert (answer.tokens_in, answer.tokens_out) == expected


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"status_code":"x","metadata":{},"body":1}', b"\xff"])
def test_what_is_no_answer(data):
    """Whatever else comes is said to be none."""
    with pytest.raises(answers.NotAResponse):
        answers.parse(data, {}, "a")


def test_the_origin_without_attributes():
    """Where attributes did not come back, the metadata tell whose it is."""
    data = encode_response(Answer(200, b"{}"), {"batch_id": "b", "custom_id": "c"})
    assert answers.origin(data, {}) == ("b", "c")
    assert answers.origin(b"nothing", {}) == (None, None)


def test_lines_of_a_file(tmp_path):
    """Blank lines are passed over, a byte order mark too, and numbers are those of an editor."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xef\xbb\xbf{}\n\n  \r\n{}\r\nlast")
    with files.opened(str(path)) as stream:
        assert list(files.lines(stream)) == [(1, b"{}\n"), (4, b"{}\r\n"), (5, b"last")]


def test_a_line_without_an_end(tmp_path, monkeypatch):
    """It is never held in whole; what follows it is read."""
    monkeypatch.setattr(files, "MAX_LINE_BYTES", 10)
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"x" * 35 + b"\nshort\n" + b"y" * 10)
    with files.opened(str(path)) as stream:
        assert list(files.lines(stream)) == [(1, None), (2, b"short\n"), (3, None)]

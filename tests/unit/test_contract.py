"""The wire contract: requests in, responses out, and errors that say what to do."""

import base64
import gzip
import json
import re
from datetime import UTC, datetime
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handler.rules import strictjson
from handler.rules.message.attributes import response_attributes
from handler.rules.message.content import wrap_content
from handler.rules.message.contract import (
    ERRORS,
    MAX_METADATA_BYTES,
    Answer,
    ErrorCode,
    InferenceRequest,
    InferenceResponse,
    Options,
    RequestError,
    encode_response,
    error,
    parse_request,
)
from tests.parts.jsonvalues import json_objects, json_values

PATHS = ("/v1/completions", "/v1/chat/completions")
SCHEMAS = Path(__file__).parents[2] / "docs" / "schemas"


def refusal(data):
    """The error that a message's data gets."""
    with pytest.raises(RequestError) as caught:
        parse_request(data if isinstance(data, bytes) else json.dumps(data).encode(), PATHS)
    return caught.value


def test_the_documented_request():
    """The request of the documentation is read field by field."""
    request = parse_request(
        b'{"path": "/v1/completions", "metadata": {"key": "val"}, "body": {"model": "my-model", "prompt": "..."}}',
        PATHS,
    )
    assert (request.path, request.metadata, request.model) == ("/v1/completions", {"key": "val"}, "my-model")
    assert request.model_body() == b'{"model":"my-model","prompt":"..."}'


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (None, "/v1/completions"),
        ("v1/chat/completions", "/v1/chat/completions"),
        ("/v1/completions", "/v1/completions"),
    ],
)
def test_path(path, expected):
    """The path has a default, and a missing leading slash is added."""
    given_path = {} if path is None else {"path": path}
    assert expected == parse_request(json.dumps({"metadata": {}, "body": {}} | given_path).encode(), PATHS).path


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/v1/completions/../x",
        "/v1/completions/",
        "//v1/completions",
        "//host/v1/completions",
        "http://host/v1/completions",
        "/v1/%63ompletions",
        "/v1/completions%2e%2e",
        "/v1/completions?x=1",
        "/v1/completions#x",
        "/v1/completions\n",
        "/v1/completions\x00",
        " /v1/completions",
        "/V1/completions",
        "/v1/\u0441ompletions",
        "\ud800",
    ],
)
def test_any_other_path_is_not_allowed(path):
    """A path is compared character by character, after no normalisation, and never reaches the model otherwise."""
    refused = refusal({"path": path, "metadata": {"id": 1}, "body": {}})
    assert refused.answer.status_code in (400, 404)
    assert refused.metadata == {"id": 1}


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        (b'{"stream":true,"n":1}', b'{"stream":false,"n":1}'),
        (b'{"stream":null}', b'{"stream":false}'),
        (b'{"stream_options":{"include_usage":true},"n":1}', b'{"n":1}'),
        (b'{"n":9007199254740993}', b'{"n":9007199254740993}'),
        (rb'{"prompt":"\ud800"}', rb'{"prompt":"\ud800"}'),
        ('{"prompt":"日本語"}'.encode(), '{"prompt":"日本語"}'.encode()),
    ],
)
def test_the_models_body(body, sent):
    """The body goes as it came, save that nothing is streamed."""
    assert sent == parse_request(b'{"metadata": {}, "body": %b}' % body, PATHS).model_body()


@pytest.mark.parametrize(
    ("data", "code", "says"),
    [
        (b"", "invalid_json", "Publish a JSON object"),
        (b"\xff\xfe", "invalid_json", "UTF-8"),
        (b'{"metadata": {}, "body": {"n": NaN}}', "invalid_json", "NaN"),
        (b'{"metadata": {}, "body": {"n": 1e400}}', "invalid_json", "double"),
        (b'{"metadata": {}, "body": ' + b"[" * 300, "invalid_json", "200 levels|Expecting"),
        ([], "invalid_request", "must be a JSON object"),
        ({"body": {}}, "invalid_request", "`metadata` is missing"),
        ({"metadata": {}}, "invalid_request", "`body` is missing: it must be a JSON object, what the model's HTTP API"),
        ({"metadata": {}, "body": None}, "invalid_request", "not null"),
        ({"metadata": {}, "body": [{}]}, "invalid_request", "not an array"),
        ({"metadata": {}, "body": '{"prompt": "x"}'}, "invalid_request", "JSON inside a string"),
        ({"metadata": "x", "body": {}}, "invalid_request", "`metadata` must be a JSON object, which comes back"),
        ({"metadata": {}, "body": {}, "options": []}, "invalid_request", "must be a JSON object, e.g. {"),
        ({"metadata": {}, "body": {}, "path": 1}, "invalid_request", "must be a string, e.g. "),
        ({"metadata": None, "body": {}}, "invalid_request", "`metadata`"),
        ({"metadata": "x", "body": {}}, "invalid_request", "`metadata`"),
        ({"metadata": {}, "body": []}, "invalid_request", "`body`"),
        ({"metadata": {}, "body": {}, "path": 1}, "invalid_request", "`path`"),
        ({"metadata": {}, "body": {}, "path": "/v1/x"}, "path_not_allowed", "/v1/completions, /v1/chat/completions"),
        ({"metadata": {}, "body": {}, "options": 1}, "invalid_request", "`options`"),
        (
            {"metadata": {}, "body": {}, "options": {"x": 1}},
            "invalid_request",
            "`timeout_seconds` and `priority`",
        ),
        ({"metadata": {}, "body": {}, "options": {"timeout_seconds": 0}}, "invalid_request", "greater than 0"),
        ({"metadata": {}, "body": {}, "options": {"timeout_seconds": True}}, "invalid_request", "timeout_seconds"),
        ({"metadata": {}, "body": {}, "options": {"timeout_seconds": "5"}}, "invalid_request", "Leave the quotes"),
        ({"metadata": {}, "body": {}, "options": {"timeout_seconds": [5]}}, "invalid_request", "must be a number"),
        ({"metadata": {}, "body": {}, "options": {"timeout": 5}}, "invalid_request", "you mean `timeout_seconds`?"),
        ({"metadata": {}, "body": {}, "options": {"timeoutSeconds": 5}}, "invalid_request", "mean `timeout_seconds`?"),
        ({"metadata": {}, "body": {}, "options": {"deadline": "tomorrow"}}, "invalid_request", "RFC 3339"),
        ({"metadata": {}, "body": {}, "options": {"deadline": 1900000000}}, "invalid_request", "RFC 3339"),
        ({"metadata": {}, "body": {}, "options": {"deadline": "2030-01-31T12:00:00"}}, "invalid_request", "offset"),
        ({"metadata": {}, "body": {}, "options": {"deadline": "2030-13-31T12:00:00Z"}}, "invalid_request", "month"),
        ({"metadata": {"x": "x" * MAX_METADATA_BYTES}, "body": {}}, "invalid_request", "1 MiB"),
        pytest.param(
            b'{"metadata": {"x": [' + b"1e15," * 60_000 + b'1]}, "body": {}}', "invalid_request", "1 MiB", id="grows"
        ),
    ],
)
def test_refused(data, code, says):
    """A request that no retry can mend gets an OpenAI-shaped error that says what to do."""
    refused = refusal(data)
    body = json.loads(refused.answer.body)["error"]
    assert set(body) == {"message", "type", "param", "code"}
    assert (body["code"], refused.code) == (code, code)
    assert refused.answer.status_code == ERRORS[ErrorCode(code)].status_code
    assert any(part in body["message"] for part in says.split("|"))


@given(
    st.lists(
        st.text().map(lambda text: json.dumps(text, ensure_ascii=False))
        | st.from_regex(r"-?[1-9](\.[0-9])?e-?[0-9]{1,2}", fullmatch=True)
    ),
    st.sampled_from([[], ['"\\ud800"']]),
)
def test_json_that_is_written_anew_has_less_than_eight_times_the_bytes(values, lone_surrogate):
    """So metadata of a small message need not be written to see that it is small."""
    data = f"[{','.join(values + lone_surrogate)}]".encode()
    assert len(strictjson.dumps(strictjson.loads(data))) < 8 * len(data)


def test_metadata_that_can_be_read_comes_back_with_the_error():
    """The requester can join an error to its request wherever its metadata could be read."""
    assert refusal({"metadata": {"id": 7}}).metadata == {"id": 7}
    assert refusal({"metadata": "seven"}).metadata == {}


def test_deadline():
    """A deadline is a point in time, whatever its offset."""
    data = b'{"metadata": {}, "body": {}, "options": {"deadline": "2030-01-31t12:00:00.5+02:00", "timeout_seconds": 5}}'
    options = parse_request(data, PATHS).options
    assert options.deadline == datetime(2030, 1, 31, 10, 0, 0, 500000, UTC)
    assert options.timeout_seconds == 5


@pytest.mark.parametrize(
    ("field", "says"),
    [
        ("Path", "Did you mean `path`?"),
        ("pth", "Did you mean `path`?"),
        ("endpoint", "Did you mean `path`?"),
        ("metaData", "Did you mean `metadata`?"),
        ("meta", "Did you mean `metadata`?"),
        ("id", "Did you mean `metadata`?"),
        ("payload", "Did you mean `body`?"),
        ("params", "Did you mean `body`?"),
        ("option", "Did you mean `options`?"),
        ("timeout_seconds", "Did you mean `options.timeout_seconds`?"),
        ("timeoutSeconds", "Did you mean `options.timeout_seconds`?"),
        ("deadline", "Did you mean `options.deadline`?"),
        ("priority", "Did you mean `options.priority`?"),
        ("model", "Put it inside `body`."),
        ("max_tokens", "Put it inside `body`."),
        ("whatever", "A request has `path`, `metadata`, `body`, `body_ref` and `options`."),
        ("\ud800", "is not a field of a request"),
        ("x" * 100_000, "is not a field of a request"),
        ("", "is not a field of a request"),
    ],
)
def test_what_looks_like_a_mistake(field, says):
    """A field outside the contract is an error that names the one that is meant, whatever else is wrong."""
    for others in ({"metadata": {"id": 1}, "body": {}}, {"metadata": {"id": 1}}):
        refused = refusal({**others, field: 1})
        error_object = json.loads(refused.answer.body)["error"]
        assert says in error_object["message"]
        assert error_object["param"] == (field if len(field) < 99 else field[:60] + "...")
        assert len(error_object["message"]) < 400
        assert refused.metadata == {"id": 1}


def test_null_means_not_set():
    """Serialisers of typed languages write fields that are not set."""
    names = ("path", "options", "url", "method", "custom_id")
    document = {"metadata": {}, "body": {}, **dict.fromkeys(names)}
    request = parse_request(json.dumps(document).encode(), PATHS)
    assert (request.path, request.metadata, request.options) == ("/v1/completions", {}, Options())
    limits = {"timeout_seconds": None, "deadline": None}
    assert parse_request(json.dumps({**document, "options": limits}).encode(), PATHS).options == Options()


# --- lines of OpenAI's batch files

LINE = {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {"messages": []}}


def test_a_batch_line():
    """It is taken for what it says, and its id comes back in the metadata."""
    request = parse_request(json.dumps(LINE).encode(), PATHS)
    assert (request.path, request.metadata, request.body) == (
        "/v1/chat/completions",
        {"custom_id": "1"},
        {"messages": []},
    )


@pytest.mark.parametrize(
    ("changes", "metadata"),
    [
        ({"metadata": {"a": 1}}, {"custom_id": "1", "a": 1}),
        ({"metadata": {"a": 1, "custom_id": "1"}}, {"a": 1, "custom_id": "1"}),
        ({"metadata": None}, {"custom_id": "1"}),
        ({"metadata": {}, "custom_id": None}, {}),
        ({"custom_id": 7}, {"custom_id": 7}),
        ({"method": "post", "url": "v1/chat/completions"}, {"custom_id": "1"}),
        ({"method": None, "path": "/v1/chat/completions"}, {"custom_id": "1"}),
        ({"options": {"timeout_seconds": 5}}, {"custom_id": "1"}),
    ],
)
def test_half_a_batch_line(changes, metadata):
    """What was converted by half means the same."""
    request = parse_request(json.dumps(LINE | changes).encode(), PATHS)
    assert (request.path, list(request.metadata.items())) == ("/v1/chat/completions", list(metadata.items()))


@pytest.mark.parametrize(
    ("changes", "param", "code"),
    [
        ({"url": "/v1/models"}, "path", "path_not_allowed"),
        ({"url": "https://api.openai.com/v1/chat/completions"}, "path", "path_not_allowed"),
        ({"url": 1}, "url", "invalid_request"),
        ({"path": "/v1/completions"}, "url", "invalid_request"),
        ({"method": "GET"}, "method", "invalid_request"),
        ({"method": 1}, "method", "invalid_request"),
        ({"custom_id": []}, "custom_id", "invalid_request"),
        ({"custom_id": True}, "custom_id", "invalid_request"),
        ({"metadata": {"custom_id": "2"}}, "custom_id", "invalid_request"),
        ({"metadata": "x"}, "metadata", "invalid_request"),
        ({"body": None}, "body", "invalid_request"),
        ({"params": {}}, "params", "invalid_request"),
    ],
)
def test_a_batch_line_that_contradicts_itself(changes, param, code):
    """It is refused, and never sent to another path."""
    refused = refusal(LINE | changes)
    error_object = json.loads(refused.answer.body)["error"]
    assert (error_object["param"], error_object["code"]) == (param, code)
    assert "custom_id" in refused.metadata or changes == {"metadata": "x"}


# --- data that is no JSON object

REQUEST = b'{"metadata": {}, "body": {}}'


@pytest.mark.parametrize(
    ("data", "attributes", "says"),
    [
        (b" ", {}, "It is empty."),
        (base64.b64encode(REQUEST), {}, "base64 of JSON"),
        (base64.urlsafe_b64encode(REQUEST).rstrip(b"=") + b"\n", {}, "base64 of JSON"),
        (json.dumps(base64.b64encode(REQUEST).decode()).encode(), {}, "base64 of JSON"),
        (json.dumps(REQUEST.decode()).encode(), {}, "JSON inside a string"),
        (b"\x02H\x08data", {"googclient_schemaencoding": "BINARY"}, "the schema settings the encoding JSON"),
        (b"\x02H\x08data", {"googclient_schemaencoding": "JSON"}, "cannot be read as JSON"),
        (b"Obj\x01\x04", {}, "Avro"),
        (gzip.compress(REQUEST, mtime=0), {}, "gzip"),
        (REQUEST.decode().encode("utf-16"), {}, "UTF-16"),
        (REQUEST.decode().encode("utf-16-le"), {}, "UTF-16"),
        (b"<request/>", {}, "XML"),
        (b"{'metadata': {}}", {}, "json.dumps"),
        (REQUEST + b"\n" + REQUEST, {}, "several requests"),
        (b"[%b]" % REQUEST, {}, "a message of its own"),
        (b"hello, world", {}, "cannot be read as JSON"),
        (b"7", {}, "not a number"),
        (b"abcdefgh", {}, "cannot be read as JSON"),
        (b"a" * 5_000_001, {}, "cannot be read as JSON"),
    ],
)
def test_data_says_what_it_looks_like(data, attributes, says):
    """So that whoever encoded it twice, or not at all, sees why."""
    with pytest.raises(RequestError) as caught:
        parse_request(data, PATHS, attributes)
    assert says in str(caught.value)


PYTHON = re.compile(
    r"dict|list|str\b|int\b|float|None|True|instance|valid (string|number)|Options|function-|Input should"
)


@given(st.binary(max_size=300))
@settings(max_examples=300)
def test_no_bytes_raise_anything_but_request_error(data):
    """Whatever is published, the answer is a request or an error response that can be sent."""
    try:
        parse_request(data, PATHS)
    except RequestError as refused:
        json.loads(encode_response(refused.answer, refused.metadata))


values = json_values()
documents = st.fixed_dictionaries(
    {},
    optional={
        "metadata": values | json_objects(values),
        "body": values | json_objects(values, st.sampled_from(["model", "prompt", "stream", "stream_options"])),
        "path": values | st.sampled_from(PATHS),
        "url": values | st.sampled_from(PATHS),
        "method": values | st.just("POST"),
        "custom_id": values,
        "options": values
        | json_objects(values | st.datetimes().map(str), st.sampled_from([*Options.model_fields, "x", "\ud800"])),
    },
)


@given(documents)
@settings(max_examples=400)
def test_no_document_raises_anything_but_request_error(document):
    """Whatever is in the fields, the answer is a request that can be sent on, or an error that can be published."""
    try:
        request = parse_request(json.dumps(document).encode(), PATHS)
    except RequestError as refused:
        message = json.loads(encode_response(refused.answer, refused.metadata))["body"]["error"]["message"]
        assert message
        assert not PYTHON.search(re.sub("`.*?`", "", message)), "it speaks JSON, not Python"
    else:
        assert not json.loads(request.model_body()).get("stream")
        echoed = json.loads(encode_response(Answer(200, b"{}"), request.metadata))["metadata"]
        assert {"custom_id": document.get("custom_id"), **echoed} == {
            "custom_id": document.get("custom_id"),
            **(document.get("metadata") or {}),
        }


@given(json_objects(values, width=5))
def test_metadata_comes_back_as_it_was(metadata):
    """Any JSON object survives the way from request to response, key order included."""
    request = parse_request(strictjson.dumps({"metadata": metadata, "body": {}}), PATHS)
    response = encode_response(Answer(200, b"{}"), request.metadata)
    assert json.dumps(metadata) == json.dumps(strictjson.loads(response)["metadata"])


def test_the_models_json_goes_through_byte_by_byte():
    """Numbers that no double holds, and spellings, stay as the model wrote them."""
    body = b'{"a": 1e400, "b": 0.10, "c": 123456789012345678901234567890}'
    assert encode_response(Answer(200, body), {}).endswith(b',"body":' + body + b"}")


@pytest.mark.parametrize(
    ("content_type", "content", "expected"),
    [
        ("text/plain; charset=utf-8", "é".encode(), {"encoding": "utf-8", "content": "é"}),
        ("text/plain", b"\xff", {"encoding": "base64", "content": "/w=="}),
        ("audio/mpeg", b"\x00\x01", {"encoding": "base64", "content": "AAE="}),
    ],
)
def test_content_that_is_not_json(content_type, content, expected):
    """Other content is wrapped in an object, as text where it is text."""
    assert json.loads(wrap_content(content_type, content)) == {"content_type": content_type, **expected}


def test_attributes_of_the_response():
    """Ours, then the request's own, without what is reserved."""
    requested = {"batch_id": "b", "status_code": "999", "googclient_traceparent": "x", "CloudPubSubDeadLetter": "x"}
    assert response_attributes(requested, message_id="7", status_code=200, model="m") == {
        "request_message_id": "7",
        "status_code": "200",
        "model": "m",
        "request_status_code": "999",
        "batch_id": "b",
    }


def test_attributes_that_are_named_like_ours():
    """They are kept under another name, which is nobody's: responses may be requests of another relay."""
    requested = {"model": "a", "request_model": "b", "request_message_id": "c"}
    attributes = response_attributes(requested, message_id="7", status_code=200)
    assert attributes == {
        "request_message_id": "7",
        "status_code": "200",
        "request_request_model": "a",
        "request_model": "b",
        "request_request_message_id": "c",
    }


attribute_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)


@given(
    st.dictionaries(attribute_texts, attribute_texts.map(lambda text: text * 4), max_size=130),
    st.text(max_size=2000),
    st.none() | st.text(max_size=2000),
)
def test_attributes_stay_within_pubsubs_limits(requested, message_id, model):
    """100 attributes, keys of 1 to 256 bytes, values of 1,024 bytes: ours win, the requester's go from the end."""
    attributes = response_attributes(requested, message_id=message_id, status_code=200, model=model)
    assert len(attributes) <= 100
    assert attributes["status_code"] == "200"
    for key, value in attributes.items():
        assert 0 < len(key.encode()) <= 256
        assert len(value.encode()) <= 1024


def test_the_requesters_attributes_are_dropped_from_the_end():
    """With 100 of the requester's own, the first ones stay."""
    requested = {f"key{number:03}": "" for number in range(100)}
    attributes = response_attributes(requested, message_id="7", status_code=200)
    assert list(attributes) == ["request_message_id", "status_code", *list(requested)[:98]]


def test_every_error_code_is_described():
    """A code without a status, a type and a meaning could not be sent or documented."""
    assert set(ERRORS) == set(ErrorCode)
    assert all(kind.meaning and 400 <= kind.status_code < 600 for kind in ERRORS.values())


@pytest.mark.parametrize(("name", "model"), [("request", InferenceRequest), ("response", InferenceResponse)])
def test_the_published_schemas_are_those_of_the_code(name, model):
    """docs/schemas/ is made from the code: run `make docs` after a change."""
    assert json.loads((SCHEMAS / f"{name}.json").read_text()) == model.model_json_schema()


def test_responses_match_their_schema():
    """What is sent is what the schema promises."""
    schema = json.loads((SCHEMAS / "response.json").read_text())
    for answer in (Answer(200, b'{"choices": []}'), error(ErrorCode.MODEL_TIMEOUT, "too slow")):
        jsonschema.validate(json.loads(encode_response(answer, {"id": 1})), schema)

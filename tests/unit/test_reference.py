"""References to Cloud Storage: what is one, and where it may stand."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handler.rules.message.contract import ErrorCode, RequestError, parse_request
from handler.rules.message.reference import MAX_GENERATION, Reference, Stored, parse

PATHS = ("/v1/completions", "/v1/audio/transcriptions")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gs://bucket/a", Reference("bucket", "a")),
        ("gs://bucket/a/b c/ü.mp3", Reference("bucket", "a/b c/ü.mp3")),
        ("gs://my-bucket_1.example.com/a", Reference("my-bucket_1.example.com", "a")),
        ("gs://bucket/a#7", Reference("bucket", "a", 7)),
        ("gs://bucket/a#b", Reference("bucket", "a#b")),
        ("gs://bucket/a#1#2", Reference("bucket", "a#1", 2)),
        (f"gs://bucket/a#{MAX_GENERATION}", Reference("bucket", "a", MAX_GENERATION)),
    ],
)
def test_a_reference(text, expected):
    """A bucket, a name with nearly anything in it, and perhaps a generation; it is written as it was read."""
    assert parse(text) == expected
    assert str(expected) == text


@pytest.mark.parametrize(
    "text",
    [
        *("", "a", "gs://", "gs://bucket", "gs://bucket/", "gs:///a", "s3://bucket/a", "https://bucket/a"),
        *("GS://bucket/a", " gs://bucket/a", "gs://Bucket/a", "gs://b/a", "gs://buck et/a", "gs://-bucket/a"),
        *("gs://bucket/a\nb", "gs://bucket/.", "gs://bucket/..", "gs://bucket/\ud800", "gs://bucket/" + "x" * 1025),
        *("gs://bucket/a#0", f"gs://bucket/a#{MAX_GENERATION + 1}", "gs://user@bucket/a", "gs://bucket:80/a"),
        *(None, 7, ["gs://bucket/a"], {"uri": "gs://bucket/a"}, b"gs://bucket/a"),
    ],
)
def test_what_is_no_reference(text):
    """It is told what one looks like."""
    with pytest.raises(ValueError, match="gs://BUCKET/OBJECT"):
        parse(text)


@given(st.text())
def test_whatever_is_read_is_written_as_it_was(name):
    """No text makes it raise anything else, or read something else."""
    text = f"gs://bucket/{name}"
    try:
        found = parse(text)
    except ValueError:
        return
    assert found.bucket == "bucket"
    assert (str(found) == text) or found.generation is not None


def refused(**fields):
    """What is said of a request that cannot be read: the code and the field."""
    with pytest.raises(RequestError) as caught:
        parse_request(json.dumps({"metadata": {"id": 1}, **fields}).encode(), PATHS)
    assert caught.value.metadata == {"id": 1}
    return caught.value.code, json.loads(caught.value.answer.body)["error"]["param"]


FORM = {"path": "/v1/audio/transcriptions"}


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"body_ref": "gs://bucket"}, ErrorCode.INVALID_REFERENCE, "body_ref"),
        ({"body_ref": 7}, ErrorCode.INVALID_REQUEST, "body_ref"),
        ({"body_ref": "gs://bucket/a", "body": {}}, ErrorCode.INVALID_REQUEST, "body_ref"),
        ({"body_ref": None}, ErrorCode.INVALID_REQUEST, "body"),
        (FORM | {"body_ref": "gs://bucket/a"}, ErrorCode.INVALID_REFERENCE, "body_ref"),
        (FORM | {"body": {"model": "m"}}, ErrorCode.INVALID_REFERENCE, "body.file"),
        (FORM | {"body": {"file": {}}}, ErrorCode.INVALID_REFERENCE, "body.file"),
    ],
)
def test_references_in_the_wrong_place(fields, code, param):
    """The error says which field, and the metadata comes back."""
    assert refused(**fields) == (code, param)


def test_where_a_reference_stands():
    """In place of the body, or as the form's file, which is no part of the fields; elsewhere `file` means nothing."""
    found = parse_request(b'{"metadata": {}, "body_ref": "gs://bucket/a"}', PATHS)
    assert (found.find_reference(), found.body, found.is_form) == (Reference("bucket", "a"), {}, False)
    body = {"model": "w", "file": "gs://bucket/a#2", "stream": True, "language": "de"}
    found = parse_request(json.dumps({"metadata": {}, "body": body, **FORM}).encode(), PATHS)
    assert (found.find_reference(), found.is_form, found.model) == (Reference("bucket", "a", 2), True, "w")
    assert json.loads(found.model_body()) == {"model": "w", "stream": False, "language": "de"}
    found = parse_request(b'{"metadata": {}, "body": {"file": "a"}}', PATHS)
    assert (found.find_reference(), found.model_body()) == (None, b'{"file":"a"}')


def test_what_stands_for_a_response():
    """Four facts, as JSON."""
    stored = Stored("gs://b/responses/1", 7, "audio/mpeg", "ab")
    assert json.loads(stored.to_json()) == {
        "content_ref": {"uri": "gs://b/responses/1", "bytes": 7, "content_type": "audio/mpeg", "sha256": "ab"}
    }

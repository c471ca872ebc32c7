"""Forms with a file in them, made of a request's JSON."""

from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.formparser import parse_form_data

from handler.delivery import inference_of
from handler.model.multipart import FormError, Multipart, form_fields
from handler.rules.message.contract import RequestError
from handler.rules.verdict.outcome import Reason
from handler.storage.claimcheck import ClaimCheck

from .test_claimcheck import FORM, SETTINGS, Shelf, fetched, read, relayed
from .test_relay import STREAM, Model, Topic, message


def test_a_form_is_as_long_as_it_says_and_can_be_sent_twice():
    """What it takes here is its fields; a server reads the file out of it."""
    with fetched(FORM, Shelf(**{"a/b.wav": b"RIFF"})) as whole:
        sent = b"".join(whole.body)
        assert len(sent) == len(whole.body)
        assert b"".join(whole.body) == sent
        assert whole.size == len(whole.metadata) + len(sent) - len(b"RIFF") - len(sent.partition(b"RIFF")[2])
        fields, files = form(whole.body)
    assert fields == {"model": ["w"]}
    with files["file"].stream as file:
        assert (files["file"].filename, file.read()) == ("b.wav", b"RIFF")
    assert files["file"].mimetype in ("audio/x-wav", "audio/wav", "audio/vnd.wave")


def form(body):
    """A form, as a server reads it."""
    environ = {
        "wsgi.input": BytesIO(b"".join(body)),
        "CONTENT_TYPE": body.content_type,
        "CONTENT_LENGTH": str(len(body)),
    }
    _, fields, files = parse_form_data(environ | {"REQUEST_METHOD": "POST"})
    return fields.to_dict(flat=False), files


def test_the_fields_are_held_while_it_waits():
    """So their bytes count among what may wait: a small message may become a large form."""
    body = FORM["body"] | {"p": "y" * 5_000_000}
    with fetched(FORM | {"body": body}, Shelf(**{"a/b.wav": b"RIFF"})) as whole:
        assert whole.size >= 5_000_000


def test_the_fields_of_a_form():
    """JSON in the way of OpenAI's clients."""
    fields = {"a": "x", "b": 1.5, "c": True, "d": None, "e": ["x", 2], "f[]": ["y"], "g": {"h": {"i": 1}, "j": ["z"]}}
    assert list(form_fields(fields)) == [
        *(("a", "x"), ("b", "1.5"), ("c", "true"), ("e[]", "x"), ("e[]", "2"), ("f[]", "y")),
        *(("g[h][i]", "1"), ("g[j][]", "z")),
    ]


LONG = "k" * 1_000_000


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"x": [0] * 1_000_000}, id="many"),
        pytest.param({LONG: [0] * 1_000}, id="a long name, many times"),
        pytest.param({LONG: {str(number): number for number in range(1_000)}}, id="inside a long name"),
        pytest.param({LONG: {str(number): [] for number in range(100_000)}}, id="nothing inside a long name"),
        pytest.param({"x": [[[None] * 100] * 100] * 100}, id="nothing, many times"),
        pytest.param({"x": {LONG: {LONG: {LONG: {LONG: 0}}}}}, id="a name that grows"),
        pytest.param({"\u00e9" * 3_000_000: [0, 0]}, id="in UTF-8"),
        pytest.param({'"' * 1_000: [0] * 9_000}, id="quotes, which are escaped"),
    ],
)
def test_a_small_request_becomes_no_large_form(fields):
    """Each item of a list repeats its name, so that a form could be a thousand times what came; that is refused."""
    request = read(FORM)
    request = request.model_copy(update={"body": request.body | fields})
    with ClaimCheck(SETTINGS, Shelf(**{"a/b.wav": b"RIFF"})).fetched(request, 10.0) as whole:
        with pytest.raises(RequestError, match=r"10,000 fields|10 MB") as caught:
            inference_of(whole.request, {}, STREAM, SETTINGS, None, whole.file)
        assert (caught.value.code, caught.value.metadata) == ("invalid_request", {"id": 7})


@pytest.mark.parametrize(
    "fields", [{"prompt": "a\ud800"}, {"a": [{"b": ["\udfff"]}]}, {"\ud800": 1}, {"a": {"\ud800": 1}}]
)
def test_a_field_that_no_form_can_hold(fields):
    """JSON has strings that UTF-8 has not: it is answered, and not tried again."""
    model, topic = Model(), Topic()
    verdict = relayed(model, topic, message(FORM | {"body": FORM["body"] | fields}), Shelf(**{"a/b.wav": b"RIFF"}))
    assert (verdict.reason, verdict.detail, model.calls) == (Reason.REQUEST_REFUSED, "invalid_request", [])
    assert "surrogate" in topic.response["body"]["error"]["message"]
    assert topic.response["metadata"] == {"id": 7}


@pytest.mark.parametrize("value", ["y" * 9_999_000, ["y"] * 9_900, ["\u00e9" * 400_000] * 12])
def test_a_large_form(value):
    """As much as a message holds, whatever it is made of."""
    assert [text for _, text in form_fields({"x": value})] == (value if isinstance(value, list) else [value])


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cc"]), min_size=1), st.text(st.characters(), min_size=1)
    ),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda name: name.strip("/. ")),
    st.binary(),
)
def test_no_field_or_name_breaks_a_form(fields, name, content):
    """The boundary is not to be guessed, and quotes and line breaks do not end a header; what is no text is refused."""
    if any(0xD800 <= ord(one) < 0xE000 for text in (*fields, *fields.values()) for one in text):
        with pytest.raises(FormError):
            Multipart(fields, "file", name, "audio/mpeg", len(content), [content])
        return
    body = Multipart(fields, "file", name, "audio/mpeg", len(content), [content])
    sent = b"".join(body)
    assert len(sent) == len(body)
    boundary = b"--" + body.content_type.rpartition("boundary=")[2].encode()
    parts = sent.split(boundary)
    assert (len(parts), parts[-1]) == (len(fields) + 3, b"--\r\n")
    assert parts[-2].partition(b"\r\n\r\n")[2] == content + b"\r\n"

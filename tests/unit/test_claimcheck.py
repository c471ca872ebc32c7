"""The claim check, with a Cloud Storage that does as it is told."""

import hashlib
import json
import time
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from handler.admission import Refused
from handler.admission.limit import FixedLimit
from handler.admission.line import Line
from handler.config.settings import DEFAULT_PATHS, Settings
from handler.delivery import inference_of
from handler.ledger import Claim, State
from handler.relay import Relay
from handler.routes import Route, Routes
from handler.rules.message.content import wrap_content
from handler.rules.message.contract import Answer, RequestError, parse_request
from handler.rules.message.reference import Stored
from handler.rules.verdict.outcome import Reason
from handler.rules.verdict.reply import ModelReply, is_storable
from handler.storage import Found, NoSuchObject, StorageFailed, TooLarge, requests
from handler.storage.claimcheck import ClaimCheck

from .test_relay import STREAM, Model, Notes, Topic, held, message

ENVIRONMENT = {
    "MODEL_URL": "http://model",
    "RESPONSE_TOPIC": "projects/p/topics/responses",
    "PUSH_AUTH": "platform",
    "REQUEST_BUCKETS": "gs://inputs/, more-inputs",
    "RESPONSE_BUCKET": "outputs",
    "MAX_BODY_REF_MB": "1",
    "MAX_RESPONSE_MB": "10",
}
SETTINGS = Settings.from_environment(ENVIRONMENT)
FORM = {
    "path": "/v1/audio/transcriptions",
    "body": {"model": "w", "file": "gs://inputs/a/b.wav"},
    "metadata": {"id": 7},
}
REQUEST = {"body_ref": "gs://inputs/body", "metadata": {"id": 7}}


class Shelf:
    """Objects in memory; raises the errors that it was given, one a look, first."""

    def __init__(self, *errors, encoding="", **contents):
        self.errors, self.encoding, self.contents, self.written = list(errors), encoding, contents, {}

    def find(self, reference):
        if self.errors:
            raise self.errors.pop(0)
        if reference.name not in self.contents or reference.generation not in (None, 5):
            raise NoSuchObject
        return Found(replace(reference, generation=5), len(self.contents[reference.name]), "", self.encoding)

    def read(self, found):
        assert found.reference.generation == 5
        if self.errors:
            raise self.errors.pop(0)
        yield self.contents[found.reference.name]

    def write(self, reference, content_type, parts, limit):
        content = b"".join(parts)
        if self.errors:
            raise self.errors.pop(0)
        if len(content) > limit:
            raise TooLarge
        self.written[str(reference)] = content
        return Stored(str(reference), len(content), content_type, hashlib.sha256(content).hexdigest())


def read(request):
    """A request, as it is read."""
    return parse_request(json.dumps(request).encode(), DEFAULT_PATHS)


@contextmanager
def fetched(request, shelf, seconds=10.0):
    """A request with what it refers to."""
    with ClaimCheck(SETTINGS, shelf).fetched(read(request), seconds) as whole:
        yield inference_of(whole.request, {}, STREAM, SETTINGS, None, whole.file)


# --- requests


def test_what_refers_to_nothing_is_left_alone():
    """Whether there is a Cloud Storage or not."""
    given = read({"metadata": {}, "body": {"model": "m"}})
    with ClaimCheck(SETTINGS).fetched(given, 1.0) as whole:
        assert whole.request is given


def test_a_body_that_lies_elsewhere():
    """It becomes the body, with what one message back needs, and its model's name counts."""
    shelf = Shelf(body=b'{"model": "m", "stream": true, "stream_options": {}, "n": 1}')
    with fetched(REQUEST, shelf) as whole:
        assert (json.loads(whole.body), whole.model) == ({"model": "m", "stream": False, "n": 1}, "m")
        assert whole.size == len(whole.body) + len(whole.metadata)


@pytest.mark.parametrize(
    ("request_", "shelf", "code"),
    [
        ({**REQUEST, "body_ref": "gs://others/body"}, Shelf(body=b"{}"), "reference_not_allowed"),
        ({**REQUEST, "body_ref": "gs://inputs/none"}, Shelf(body=b"{}"), "reference_not_found"),
        ({**REQUEST, "body_ref": "gs://inputs/body#4"}, Shelf(body=b"{}"), "reference_not_found"),
        (REQUEST, Shelf(body=b" " * ((1 << 20) + 1)), "reference_too_large"),
        (REQUEST, Shelf(body=b""), "invalid_reference"),
        (REQUEST, Shelf(body=b"{}", encoding="gzip"), "invalid_reference"),
        (REQUEST, Shelf(body=b'{"a": NaN}'), "invalid_json"),
        (REQUEST, Shelf(body=b"[]"), "invalid_request"),
        (FORM, Shelf(), "reference_not_found"),
        (REQUEST, None, "reference_not_allowed"),
    ],
)
def test_references_that_cannot_be_used(request_, shelf, code):
    """No retry mends them, and each says what it is."""
    with pytest.raises(RequestError) as caught, fetched(request_, shelf):
        pytest.fail("it was fetched")
    assert (caught.value.code, caught.value.metadata) == (code, {"id": 7})


def test_a_file_that_is_gone_when_it_is_sent():
    """It is told then."""
    shelf = Shelf(**{"a/b.wav": b"RIFF"})
    with fetched(FORM, shelf) as whole:
        shelf.errors = [NoSuchObject()]
        with pytest.raises(RequestError, match=r"There is no gs://inputs/a/b.wav#5"):
            list(whole.body)


# --- responses


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (ModelReply(200, "application/json", b""), True),
        (ModelReply(206, "audio/mpeg", b""), True),
        (ModelReply(200, "", b""), True),
        (ModelReply(500, "application/json", b""), False),
        (ModelReply(302, "application/json", b""), False),
        (ModelReply(200, "text/html; charset=utf-8", b""), False),
        (ModelReply(200, "text/event-stream", b""), False),
        (ModelReply(200, "application/json", b"", content_encoding="br"), False),
    ],
)
def test_what_is_stored(reply, expected):
    """Answers, and nothing that would not have been one had it been smaller."""
    assert is_storable(reply) is expected


@pytest.mark.parametrize(
    ("answer", "content_type", "content"),
    [
        (Answer(200, b'{"a":1}'), "application/json", b'{"a":1}'),
        (Answer(201, wrap_content("audio/mpeg", b"\xff\0"), wraps="audio/mpeg"), "audio/mpeg", b"\xff\0"),
        (Answer(200, wrap_content("text/vtt", "ü".encode()), wraps="text/vtt"), "text/vtt", "ü".encode()),
    ],
)
def test_an_answer_is_stored_as_the_model_sent_it(answer, content_type, content):
    """Not in base64, under the name that it is given."""
    shelf = Shelf()
    stored = ClaimCheck(SETTINGS, shelf).stored("key", answer, 10.0)
    assert shelf.written == {"gs://outputs/responses/key": content}
    assert (stored.status_code, stored.is_reference) == (answer.status_code, True)
    reference = json.loads(stored.body)["content_ref"]
    assert (reference["bytes"], reference["content_type"]) == (len(content), content_type)
    assert reference["sha256"] == hashlib.sha256(content).hexdigest()


def test_without_a_bucket_nothing_is_stored():
    """As ever."""
    without = ClaimCheck(SETTINGS.model_copy(update={"response_bucket": None}), Shelf())
    assert (without.overflow("key"), without.stored("key", Answer(200, b"{}"), 1.0)) == (None, None)


# --- the way of a message


def relayed(model, topic, incoming, shelf, ledger=None, waited=0.0):
    """The verdict on a message, which has waited for so many seconds."""
    relay = relay_of(model, topic, ledger or Notes(), shelf)
    return relay.answer(relay.delivery(incoming, STREAM, time.monotonic() - waited, held()))


def relay_of(model, topic, ledger, shelf, slots=4):
    """A relay with these around it."""
    routes = Routes([Route(SETTINGS.routing.routes[0], model, Line(FixedLimit(slots)))])
    return Relay(SETTINGS, routes, topic, ledger, lambda _: False, ClaimCheck(SETTINGS, shelf))


def test_a_response_that_does_not_fit_is_stored():
    """The small response is what is kept and published; its attributes say so."""
    content = b'{"usage":{"prompt_tokens":3,"completion_tokens":4},"choices":["%b"]}' % (b"x" * 5000)
    topic, ledger, shelf = Topic(room=1000), Notes(), Shelf(body=b"{}")
    verdict = relayed(Model(ModelReply(200, "application/json", content)), topic, message(REQUEST), shelf, ledger)
    assert (verdict.reason, verdict.detail) == (Reason.ANSWERED, "stored")
    ((uri, written),) = shelf.written.items()
    assert (written, topic.response["body"]["content_ref"]["uri"]) == (content, uri)
    attributes = topic.messages[0].attributes
    assert (attributes["content_ref"], attributes["prompt_tokens"]) == ("true", "3")
    assert attributes["completion_tokens"] == "4"
    assert ledger.notes == [("keep", replace(topic.messages[0], topic="")), "answered"]


@pytest.mark.parametrize(("status", "attempt"), [(400, 1), (500, 10)])
def test_an_error_is_never_stored(status, attempt):
    """Not even where no message can hold it: only answers are."""
    reply = ModelReply(status, "application/json", b'{"error":{"message":"%b"}}' % (b"x" * 5000))
    topic, shelf = Topic(room=1000), Shelf()
    verdict = relayed(Model(reply), topic, message(delivery_attempt=attempt), shelf)
    assert (verdict.reason, shelf.written) == (Reason.RESPONSE_TOO_LARGE, {})
    assert topic.response["body"]["error"]["code"] == "response_too_large"


def test_each_attempt_stores_an_object_of_its_own():
    """The one that loses the message must not replace what the other one's response refers to."""
    large, shelf, topic = ModelReply(200, "application/json", b" " * 5000 + b"{}"), Shelf(), Topic(room=1000)
    for _ in range(2):
        relayed(Model(large), topic, message(), shelf)
    published = [json.loads(one.data)["body"]["content_ref"]["uri"] for one in topic.messages]
    assert sorted(published) == sorted(shelf.written)
    assert len({uri.rsplit("/", 1)[0] for uri in published}) == 1  # the message's


def test_a_response_that_was_stored_while_it_came():
    """It is answered with its status."""
    stored = Stored("gs://outputs/responses/1", 30_000_000, "application/json", "ab")
    topic = Topic()
    verdict = relayed(Model(ModelReply(201, "", b"", truncated=True, stored=stored)), topic, message(), Shelf())
    assert (verdict.reason, topic.response["status_code"]) == (Reason.ANSWERED, 201)
    assert topic.response["body"] == json.loads(stored.to_json())


def test_a_reference_that_cannot_be_used_is_answered():
    """Without the model, and with the metadata."""
    model, topic = Model(), Topic()
    verdict = relayed(model, topic, message(REQUEST), Shelf())
    assert (verdict.reason, verdict.detail, model.calls) == (Reason.REQUEST_REFUSED, "reference_not_found", [])
    assert (topic.response["status_code"], topic.response["metadata"]) == (404, {"id": 7})


@pytest.mark.parametrize("when", ["reading", "writing"])
def test_trouble_of_cloud_storage(when):
    """It counts as a failed attempt, and the last one answers."""
    reply = ModelReply(200, "application/json", b" " * 5000 + b"{}")
    incoming = message(REQUEST) if when == "reading" else message()
    for attempt, (reason, published) in ((1, (Reason.STORAGE_FAILED, 0)), (10, (Reason.GAVE_UP, 1))):
        topic, ledger = Topic(room=1000), Notes()
        verdict = relayed(
            Model(reply), topic, replace(incoming, delivery_attempt=attempt), Shelf(StorageFailed("away")), ledger
        )
        assert (verdict.reason, len(topic.messages)) == (reason, published)
        assert ledger.notes[-1] == ("answered" if published else "failed")
        assert "away" in verdict.detail
    assert topic.response["body"]["error"]["code"] == "storage_failed"


def test_a_slot_is_free_again_after_trouble():
    """As many failures as there are slots, and one more, do not hang."""

    class Broken(Model):
        def call(self, path, body, seconds, headers, model, overflow):
            raise StorageFailed("away")

    relay = relay_of(Broken(), Topic(), Notes(), Shelf(), slots=1)
    for _ in range(2):
        verdict = relay.answer(relay.delivery(message(), STREAM, time.monotonic(), held()))
        assert verdict.reason is Reason.STORAGE_FAILED


@pytest.mark.parametrize("request_", [REQUEST, FORM])
def test_nothing_is_fetched_for_a_push_without_time_left(request_):
    """It is delivered again, as one that refers to nothing: Cloud Storage has not failed, and it was no attempt."""
    topic, ledger, late = Topic(), Notes(), message(request_, delivery_attempt=10)
    with pytest.raises(Refused) as refused:
        relayed(Model(), topic, late, Shelf(StorageFailed("away")), ledger, SETTINGS.ack_deadline_seconds)
    assert refused.value.reason is Reason.OVERDUE
    assert (topic.messages, ledger.notes) == ([], ["released"])


def test_nothing_is_fetched_where_the_requests_own_deadline_has_passed_too():
    """Nobody waits for it any more: it is answered."""
    topic, late = Topic(), message(REQUEST | {"options": {"deadline": "2020-01-01T00:00:00Z"}})
    verdict = relayed(Model(), topic, late, Shelf(StorageFailed("away")), waited=SETTINGS.ack_deadline_seconds)
    assert (verdict.reason, topic.response["metadata"]) == (Reason.REQUEST_REFUSED, {"id": 7})
    assert topic.response["body"]["error"]["code"] == "deadline_exceeded"


def test_nothing_is_loaded_where_the_wait_for_room_took_the_time(monkeypatch):
    """Cloud Storage would be said to have failed, which it has not: nothing large is asked of it at the very end."""
    clock, shelf = [0.0], Shelf(body=b"{}")
    check = ClaimCheck(SETTINGS, shelf)

    @contextmanager
    def taken(_size, seconds):
        clock[0] += seconds - 0.1
        yield

    monkeypatch.setattr(requests, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(check._requests._memory, "taken", taken)
    monkeypatch.setattr(shelf, "read", lambda _: pytest.fail("it was loaded"))
    with pytest.raises(Refused) as refused, check.fetched(read(REQUEST), 10.0):
        pytest.fail("it was fetched")
    assert refused.value.reason is Reason.OVERDUE


def test_nothing_is_loaded_where_finding_it_took_all_of_the_time(monkeypatch):
    """It was no attempt, either."""
    monkeypatch.setattr(requests, "LEAST_SECONDS", 0.0)
    shelf = Shelf(body=b"{}")
    shelf.find = lambda reference: time.sleep(0.1) or Shelf.find(shelf, reference)
    with pytest.raises(Refused) as refused, fetched(REQUEST, shelf, seconds=0.05):
        pytest.fail("it was loaded")
    assert refused.value.reason is Reason.OVERDUE


PASSED = {"options": {"deadline": "2020-01-01T00:00:00Z"}}


@pytest.mark.parametrize("request_", [REQUEST, FORM])
@pytest.mark.parametrize(
    ("claim", "options", "reason", "code"),
    [
        (Claim(State.MINE, cancelled=True), {}, Reason.CANCELLED, "cancelled"),
        (Claim(State.MINE), PASSED, Reason.REQUEST_REFUSED, "deadline_exceeded"),
    ],
)
def test_nothing_is_fetched_for_a_request_that_nobody_waits_for(request_, claim, options, reason, code):
    """It may be 64 MB, and the answer does not need it."""
    model, topic, shelf = Model(), Topic(), Shelf(StorageFailed("away"))
    verdict = relayed(model, topic, message(request_ | options), shelf, Notes(claim))
    assert (verdict.reason, model.calls, len(shelf.errors)) == (reason, [], 1)
    assert (topic.response["body"]["error"]["code"], topic.response["metadata"]) == (code, {"id": 7})


def test_a_deadline_that_passes_while_a_body_is_fetched():
    """The model is not called for it."""
    deadline = datetime.now(UTC) + timedelta(seconds=0.2)
    shelf, model, topic = Shelf(body=b"{}"), Model(), Topic()

    def find(reference):
        while datetime.now(UTC) <= deadline:
            time.sleep(0.01)
        return Shelf.find(shelf, reference)

    shelf.find = find
    relayed(model, topic, message(REQUEST | {"options": {"deadline": deadline.isoformat()}}), shelf)
    assert (topic.response["body"]["error"]["code"], model.calls) == ("deadline_exceeded", [])

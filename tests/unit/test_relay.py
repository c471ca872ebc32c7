"""The way of one message, with a model and a topic that do as they are told."""

import json
import time
from datetime import UTC, datetime, timedelta

import pytest

from handler.config import Settings
from handler.envelope import PubsubMessage
from handler.outcome import ModelFailure, ModelReply, Reason
from handler.publisher import PublishFailed, PublishRefused, ResponseTooLarge
from handler.relay import Relay

SETTINGS = Settings.from_environment(
    {"MODEL_URL": "http://model", "RESPONSE_TOPIC": "projects/p/topics/responses", "PUSH_AUTH": "platform"}
)
REQUEST = {"metadata": {"id": 7}, "body": {"model": "m", "prompt": "x", "stream": True}}
REPLY = ModelReply(200, "application/json", b'{"choices":[]}')


class Model:
    """Replies the same to everything, and keeps what it was asked."""

    def __init__(self, reply=REPLY):
        self.reply, self.calls = reply, []

    def call(self, path, body, seconds):
        self.calls.append((path, json.loads(body), seconds))
        return self.reply


class Topic:
    """Takes messages; raises the errors that it was given, one a publish, first."""

    def __init__(self, *errors):
        self.errors, self.messages = list(errors), []

    def publish(self, message):
        if self.errors:
            raise self.errors.pop(0)
        self.messages.append(message)
        return "id"

    @property
    def response(self):
        """The one response that was published."""
        (message,) = self.messages
        return json.loads(message.data)


def message(request=REQUEST, **fields):
    """A message with this request."""
    return PubsubMessage(**{"message_id": "1", "data": json.dumps(request).encode()} | fields)


def relayed(model, topic, incoming):
    """The verdict on a message."""
    return Relay(SETTINGS, model, topic).answer(incoming, time.monotonic())


def test_a_request_is_answered():
    """The model gets the body, the topic its answer with the metadata, the attributes and the ordering key."""
    model, topic = Model(), Topic()
    verdict = relayed(model, topic, message(attributes={"batch_id": "b"}, ordering_key="k"))
    assert verdict.reason is Reason.ANSWERED
    ((path, body, seconds),) = model.calls
    assert (path, body) == ("/v1/completions", {"model": "m", "prompt": "x", "stream": False})
    assert 0 < seconds <= SETTINGS.model_timeout_seconds
    assert topic.response == {"status_code": 200, "metadata": {"id": 7}, "body": {"choices": []}}
    assert topic.messages[0].ordering_key == "k"
    assert topic.messages[0].attributes == {
        "request_message_id": "1",
        "status_code": "200",
        "model": "m",
        "batch_id": "b",
    }


def test_a_request_that_cannot_be_read_is_answered_without_the_model():
    """The error names the message, so that it can be joined even without metadata."""
    model, topic = Model(), Topic()
    assert relayed(model, topic, message(data=b"not json")).reason is Reason.REQUEST_REFUSED
    assert model.calls == []
    assert (topic.response["status_code"], topic.response["metadata"]) == (400, {})
    assert topic.messages[0].attributes["request_message_id"] == "1"


def test_a_request_past_its_deadline_is_answered_without_the_model():
    """Nobody waits for it any more."""
    model, topic = Model(), Topic()
    late = REQUEST | {"options": {"deadline": "2020-01-01T00:00:00Z"}}
    assert relayed(model, topic, message(late)).reason is Reason.REQUEST_REFUSED
    assert model.calls == []
    assert topic.response["body"]["error"]["code"] == "deadline_exceeded"


def test_the_requests_own_limit_shortens_the_call():
    """options.timeout_seconds bounds the call, and reaching it is answered at once."""
    model, topic = Model(ModelFailure.TIMEOUT), Topic()
    verdict = relayed(model, topic, message(REQUEST | {"options": {"timeout_seconds": 3}}))
    assert model.calls[0][2] == 3
    assert (verdict.reason, topic.response["status_code"]) == (Reason.MODEL_TIMED_OUT, 504)


def test_a_push_without_time_left_is_delivered_again():
    """A push that waited too long in this process does not start what it cannot finish."""
    model, topic = Model(ModelFailure.TIMEOUT), Topic()
    arrived = time.monotonic() - SETTINGS.ack_deadline_seconds
    assert Relay(SETTINGS, model, topic).answer(message(), arrived).reason is Reason.MODEL_FAILED
    assert model.calls[0][2] < 0
    assert topic.messages == []


@pytest.mark.parametrize(
    ("fields", "published"),
    [
        ({}, 0),
        ({"delivery_attempt": 9}, 0),
        ({"delivery_attempt": 10}, 1),
        ({"publish_time": datetime.now(UTC) - timedelta(hours=23)}, 0),
        ({"publish_time": datetime.now(UTC) - timedelta(hours=25)}, 1),
        ({"publish_time": datetime.min.replace(tzinfo=UTC)}, 1),
    ],
)
def test_the_last_attempt_answers(fields, published):
    """A failing request waits for its redelivery until MAX_ATTEMPTS or MAX_AGE, and then gets the error."""
    topic = Topic()
    verdict = relayed(Model(ModelFailure.UNREACHABLE), topic, message(**fields))
    assert verdict.status == (204 if published else 503)
    assert len(topic.messages) == published


def test_a_failed_publish_is_delivered_again():
    """Nothing is acknowledged before its response is confirmed."""
    verdict = relayed(Model(), Topic(PublishFailed("ServiceUnavailable")), message())
    assert (verdict.reason, verdict.status, verdict.detail) == (Reason.PUBLISH_FAILED, 503, "ServiceUnavailable")


def test_a_response_that_does_not_fit():
    """The requester learns why there is no response."""
    topic = Topic(ResponseTooLarge())
    assert relayed(Model(), topic, message()).reason is Reason.RESPONSE_TOO_LARGE
    assert topic.response["body"]["error"]["code"] == "response_too_large"
    assert topic.response["metadata"] == {"id": 7}


def test_attributes_that_pubsub_refuses():
    """The response is not lost for the sake of what it echoes."""
    topic = Topic(PublishRefused("bad attribute"))
    assert relayed(Model(), topic, message(attributes={"batch_id": "b"})).reason is Reason.ANSWERED
    assert set(topic.messages[0].attributes) == {"request_message_id", "status_code", "model"}
    assert topic.response["status_code"] == 200


def test_a_response_that_pubsub_refuses_altogether():
    """Then there is no acknowledgement either: the message ends in the dead-letter topic."""
    verdict = relayed(Model(), Topic(PublishRefused("schema"), PublishRefused("schema")), message())
    assert (verdict.reason, verdict.detail) == (Reason.PUBLISH_FAILED, "schema")

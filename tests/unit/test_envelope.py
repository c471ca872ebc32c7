"""An HTTP push becomes a message, or a DecodeError."""

import base64
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from werkzeug.datastructures import Headers

from handler.push.envelope import DecodeError, PubsubMessage, decode
from tests.parts.jsonvalues import json_values

NO_HEADERS = Headers()


def push(**message):
    """A wrapped push of a message with these fields."""
    return json.dumps({"message": {"messageId": "1", **message}, "subscription": "projects/p/subscriptions/s"}).encode()


def test_wrapped():
    """The push of Google's documentation is read field by field."""
    body = json.dumps(
        {
            "deliveryAttempt": 5,
            "message": {
                "attributes": {"key": "value"},
                "data": "SGVsbG8gQ2xvdWQgUHViL1N1YiEgSGVyZSBpcyBteSBtZXNzYWdlIQ==",
                "messageId": "2070443601311540",
                "message_id": "2070443601311540",
                "orderingKey": "key",
                "publishTime": "2021-02-26T19:13:55.749Z",
                "publish_time": "2021-02-26T19:13:55.749Z",
            },
            "subscription": "projects/myproject/subscriptions/mysubscription",
        }
    ).encode()
    assert decode(NO_HEADERS, body) == PubsubMessage(
        message_id="2070443601311540",
        data=b"Hello Cloud Pub/Sub! Here is my message!",
        attributes={"key": "value"},
        ordering_key="key",
        publish_time=datetime(2021, 2, 26, 19, 13, 55, 749000, UTC),
        subscription="projects/myproject/subscriptions/mysubscription",
        delivery_attempt=5,
    )


def test_what_is_left_out_has_its_default():
    """Data, attributes, key, time and attempt are missing from a push when they are empty."""
    assert decode(NO_HEADERS, b'{"message": {"message_id": "7"}}') == PubsubMessage("7", b"")


def test_unwrapped():
    """With payload unwrapping the body is the data; its attributes cannot be told from headers and are left out."""
    headers = Headers(
        {
            "X-Goog-Pubsub-Message-Id": "7",
            "X-Goog-Pubsub-Subscription-Name": "projects/p/subscriptions/s",
            "X-Goog-Pubsub-Publish-Time": "2021-02-26T19:13:55.749123456Z",
            "X-Goog-Pubsub-Ordering-Key": "k",
            "Key": "value",
        }
    )
    assert decode(headers, b"\x00raw") == PubsubMessage(
        message_id="7",
        data=b"\x00raw",
        ordering_key="k",
        publish_time=datetime(2021, 2, 26, 19, 13, 55, 749123, UTC),
        subscription="projects/p/subscriptions/s",
    )


def test_cloud_event():
    """Eventarc puts the wrapped push into the body of a binary CloudEvent."""
    message = decode(Headers({"ce-id": "9", "ce-specversion": "1.0"}), push(data="aGk=", messageId="8"))
    assert (message.message_id, message.data) == ("8", b"hi")


def test_cloud_event_whose_id_is_only_in_the_header():
    """The event's id is the message's id."""
    assert decode(Headers({"ce-id": "9"}), b'{"message": {"data": "aGk="}}').message_id == "9"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not JSON"),
        (b"hello", "not JSON"),
        (b"\xff", "not JSON: not UTF-8"),
        (b"[" * 100_000, "not JSON: nested"),
        (b"[]", "the body is not a JSON object"),
        (b"{}", "message is not a JSON object"),
        (b'{"message": "x"}', "message is not a JSON object"),
        (b'{"message": {"data": "aGk="}}', "no id"),
        (push(messageId=""), "no id"),
        (push(messageId=[7]), "messageId is not a string"),
        (push(messageId=True), "messageId is not a string"),
        (push(messageId=1.5), "messageId is not a string"),
        (push(messageId=-1), "messageId is not a string"),
        (push(messageId=10**4000), "messageId is not a string"),
        (push(messageId="\ud800"), "messageId is not Unicode"),
        (push(data=7), "message.data is not a string"),
        (push(data="%%%"), "message.data is not base64"),
        (push(data="aGk"), "message.data is not base64"),
        (push(data="é"), "message.data is not base64"),
        (push(data="_-_-"), "message.data is not base64"),
        (push(attributes=[]), "message.attributes is not a JSON object"),
        (push(attributes={"a": 1}), "attribute's value is not a string"),
        (push(attributes={"\ud800": "1"}), "attribute's key is not Unicode"),
        (push(orderingKey=1), "message.orderingKey is not a string"),
        (push(orderingKey="k" * 1025), "message.orderingKey is longer"),
        (push(publishTime="yesterday"), "message.publishTime is not"),
        (push(publishTime={}), "message.publishTime is not an RFC 3339 time"),
        (push(publishTime={"seconds": 1e308}), "message.publishTime is not an RFC 3339 time"),
        (push(publishTime={"seconds": "x"}), "message.publishTime is not an RFC 3339 time"),
        (push(publishTime={"seconds": 10**4000}), "message.publishTime is not an RFC 3339 time"),
        (push(publishTime={"seconds": 999999999999}), "message.publishTime is not an RFC 3339 time"),
        (push(publishTime={"seconds": 1, "nanos": -1}), "message.publishTime is not an RFC 3339 time"),
        (push(publishTime=1), "message.publishTime is not a string"),
        (push(publishTime=0), "message.publishTime is not a string"),
        (push(publishTime=""), "message.publishTime is not an RFC 3339 time"),
        (b'{"message": {"messageId": "1"}, "subscription": 1}', "subscription is not a string"),
        (b'{"message": {"messageId": "1"}, "deliveryAttempt": "one"}', "deliveryAttempt"),
        (b'{"message": {"messageId": "1"}, "deliveryAttempt": "-1"}', "deliveryAttempt"),
        (b'{"message": {"messageId": "1"}, "deliveryAttempt": true}', "deliveryAttempt"),
        (b'{"message": {"messageId": "1"}, "deliveryAttempt": -1}', "deliveryAttempt"),
        (b'{"message": {"messageId": "1"}, "deliveryAttempt": 1.5}', "deliveryAttempt"),
    ],
)
def test_malformed(body, reason):
    """Every way of being malformed is a DecodeError that names the field."""
    with pytest.raises(DecodeError, match=reason):
        decode(NO_HEADERS, body)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"metadata": {}, "body": {}}', "write_metadata"),
        (b'{"custom_id": "1", "url": "/v1/completions"}', "write_metadata"),
        (b"{}", "write_metadata"),
        (b'{"prompt": "hi"}', "write_metadata"),
        (b"not json", "write_metadata"),
        (b'{"data": "aGk=", "attributes": {}}', "background event"),
        (b'{"@type": "type.googleapis.com/google.pubsub.v1.PubsubMessage", "data": "aGk="}', "background event"),
        (b'{"context": {"eventId": "1"}, "data": {"data": "aGk="}}', "background event"),
        (b'{"messageId": "1", "data": "aGk="}', "without its envelope"),
        (b'{"specversion": "1.0", "id": "1", "data": {"bucket": "b"}}', "CloudEvent of another kind"),
        (b'{"specversion": "1.0", "id": "1", "data": "aGk="}', "CloudEvent of another kind"),
    ],
)
def test_what_else_it_is(body, says):
    """A push of another shape is named, with what to switch on or to use."""
    with pytest.raises(DecodeError, match=says) as caught:
        decode(NO_HEADERS, body)
    assert "aGk" not in str(caught.value)


def test_a_structured_cloud_event():
    """The push is its data, and its id that of the message."""
    event = {"specversion": "1.0", "id": "9", "type": "google.cloud.pubsub.topic.v1.messagePublished", "data": None}
    event["data"] = {"message": {"data": "aGk="}, "subscription": "projects/p/subscriptions/s"}
    message = decode(Headers({"content-type": "application/cloudevents+json"}), json.dumps(event).encode())
    assert (message.message_id, message.data, message.subscription) == ("9", b"hi", "projects/p/subscriptions/s")


@pytest.mark.parametrize(
    "time",
    [
        "2021-02-26T19:13:55.749Z",
        "2021-02-26T19:13:55.749",
        "2021-02-26 19:13:55.749",
        "2021-02-26T20:13:55.749+01:00",
        {"seconds": 1614366835, "nanos": 749000000},
        {"seconds": "1614366835", "nanos": 749000000},
    ],
)
@pytest.mark.parametrize("name", ["publishTime", "publish_time"])
def test_times_of_other_emulators(name, time):
    """A time without an offset is UTC."""
    published = decode(NO_HEADERS, push(**{name: time})).publish_time
    assert published == datetime(2021, 2, 26, 19, 13, 55, 749000, UTC)


def test_fields_of_other_emulators():
    """Names as Protocol Buffers have them, numbers as strings and the other way round."""
    body = {"message": {"message_id": 7, "ordering_key": "k", "publish_time": None}, "delivery_attempt": "5"}
    message = decode(NO_HEADERS, json.dumps(body).encode())
    assert (message.message_id, message.ordering_key, message.delivery_attempt) == ("7", "k", 5)


def test_a_whole_number_however_it_is_written():
    """JSON has one kind of number."""
    attempt = decode(NO_HEADERS, b'{"message": {"messageId": "1"}, "deliveryAttempt": 5.0}').delivery_attempt
    assert (type(attempt), attempt) == (int, 5)


def test_attempt_zero_means_not_counted():
    """Protocol buffers write 0 for a number that is not set."""
    assert decode(NO_HEADERS, b'{"message": {"messageId": "1"}, "deliveryAttempt": 0}').delivery_attempt is None


@given(st.binary())
def test_data_of_any_bytes_survives(data):
    """The data of a message is any bytes."""
    assert decode(NO_HEADERS, push(data=base64.b64encode(data).decode())).data == data


FIELDS = st.sampled_from(
    [
        "message",
        "messageId",
        "specversion",
        "seconds",
        "data",
        "attributes",
        "orderingKey",
        "publishTime",
        "deliveryAttempt",
        "subscription",
        "x",
    ]
)
documents = json_values(FIELDS, st.floats(), depth=4)
header_values = st.text(st.characters(exclude_characters="\r\n"))


@given(documents, st.dictionaries(st.sampled_from(["ce-id", "X-Goog-Pubsub-Message-Id"]), header_values))
@settings(max_examples=300)
def test_no_document_raises_anything_but_decode_error(document, headers):
    """Whatever is posted, the answer is a message or a DecodeError."""
    try:
        message = decode(Headers(headers), json.dumps(document).encode())
    except DecodeError as error:
        assert str(error)
    else:
        assert message.message_id

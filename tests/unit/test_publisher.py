"""The response topic, against a Pub/Sub that fails on demand."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from google.cloud import pubsub_v1

from handler.local.pubsub import Fault, LocalPubSub
from handler.publisher import OutgoingMessage, Publisher, PublishFailed, PublishRefused, ResponseTooLarge

TOPIC = "projects/p/topics/responses"
SUBSCRIPTION = "projects/p/subscriptions/responses"


@pytest.fixture
def broker(monkeypatch):
    """A Pub/Sub with a topic and a subscription to it."""
    with LocalPubSub() as started:
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", started.address)
        with pubsub_v1.PublisherClient() as publisher, pubsub_v1.SubscriberClient() as subscriber:
            publisher.create_topic(name=TOPIC)
            subscriber.create_subscription(name=SUBSCRIPTION, topic=TOPIC)
            yield started


def received(broker):
    """Every message that was published."""
    messages = []
    with pubsub_v1.SubscriberClient() as subscriber:
        while len(messages) < broker.stats().published:
            pulled = subscriber.pull(subscription=SUBSCRIPTION, max_messages=1000).received_messages
            messages += [one.message for one in pulled]
            subscriber.acknowledge(subscription=SUBSCRIPTION, ack_ids=[one.ack_id for one in pulled])
    return messages


def test_what_is_published_arrives(broker):
    """Data, attributes and ordering key arrive, under the id that was confirmed."""
    message_id = Publisher(TOPIC, 10).publish(OutgoingMessage(b"{}", {"status_code": "200"}, "key"))
    (message,) = received(broker)
    assert (message.message_id, message.data, message.ordering_key) == (message_id, b"{}", "key")
    assert dict(message.attributes) == {"status_code": "200"}


@pytest.mark.parametrize("ordering_key", ["", "key"])
def test_attributes_of_any_name(broker, ordering_key):
    """The client library's own parameter names are names like any other."""
    attributes = dict.fromkeys(("self", "topic", "data", "ordering_key", "retry", "timeout", "message"), "x")
    Publisher(TOPIC, 10).publish(OutgoingMessage(b"{}", attributes, ordering_key))
    assert [attributes] == [dict(message.attributes) for message in received(broker)]


def test_many_threads(broker):
    """Each of 64 threads gets the id of its own message."""
    publisher = Publisher(TOPIC, 10)
    bodies = [str(number).encode() for number in range(64)]
    with ThreadPoolExecutor(64) as threads:
        ids = list(threads.map(lambda body: publisher.publish(OutgoingMessage(body)), bodies))
    assert dict(zip(ids, bodies, strict=True)) == {message.message_id: message.data for message in received(broker)}


@pytest.mark.parametrize("ordering_key", ["", "key"])
def test_a_moment_of_trouble(broker, ordering_key):
    """What is temporary is tried again within the time given."""
    broker.faults.add(Fault(kind="publish-fails", times=2))
    Publisher(TOPIC, 10).publish(OutgoingMessage(b"{}", {}, ordering_key))
    assert len(received(broker)) == 1


@pytest.mark.parametrize("ordering_key", ["", "key"])
def test_longer_trouble(broker, ordering_key):
    """Trouble that outlasts the time fails; what was given up on is not published later, nor is its key paused."""
    publisher = Publisher(TOPIC, 0.5)
    broker.faults.add(Fault(kind="publish-fails"))
    with pytest.raises(PublishFailed, match="fault on demand"):
        publisher.publish(OutgoingMessage(b"1", {}, ordering_key))
    broker.faults.clear()
    publisher.publish(OutgoingMessage(b"2", {}, ordering_key))
    assert [message.data for message in received(broker)] == [b"2"]


def test_one_bad_message_does_not_take_its_batch_along(broker):
    """A refused batch is published again one by one: another message in it may have been at fault."""
    broker.faults.add(Fault(kind="publish-fails", status="INVALID_ARGUMENT", times=1))
    Publisher(TOPIC, 10).publish(OutgoingMessage(b"{}"))
    assert len(received(broker)) == 1


@pytest.mark.parametrize("ordering_key", ["", "key"])
def test_refused_for_good(broker, ordering_key):
    """A message that Pub/Sub will never take is not tried again and again."""
    too_long = {"k" * 257: "v"}
    with pytest.raises(PublishRefused, match="InvalidArgument"):
        Publisher(TOPIC, 10).publish(OutgoingMessage(b"{}", too_long, ordering_key))
    assert received(broker) == []


@pytest.mark.parametrize("ordering_key", ["", "key"])
def test_too_large(broker, ordering_key):
    """A message beyond the limit of a publish request is not sent."""
    with pytest.raises(ResponseTooLarge):
        Publisher(TOPIC, 10).publish(OutgoingMessage(b" " * 10_000_000, {}, ordering_key))


@pytest.mark.parametrize("ordering_key", ["", "key"])
def test_large(broker, ordering_key):
    """A message just below the limit is."""
    Publisher(TOPIC, 10).publish(OutgoingMessage(b" " * 9_990_000, {}, ordering_key))
    assert broker.stats().published == 1


def test_a_topic_that_is_not_there(broker):
    """An operator's mistake is no reason to lose a response: it can be mended."""
    with pytest.raises(PublishFailed, match="NotFound"):
        Publisher("projects/p/topics/missing", 10).publish(OutgoingMessage(b"{}"))


def test_no_credentials(monkeypatch):
    """Without credentials a publish fails with the reason; nothing was connected before it was needed."""
    monkeypatch.delenv("PUBSUB_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", os.devnull + ".missing")
    publisher = Publisher(TOPIC, 1)
    with pytest.raises(PublishFailed, match="DefaultCredentialsError"):
        publisher.publish(OutgoingMessage(b"{}"))

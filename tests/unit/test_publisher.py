"""The response topic, against a Pub/Sub that fails on demand."""

import gc
import math
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from google.cloud import pubsub_v1
from hypothesis import given
from hypothesis import strategies as st

from handler.local.pubsub import Fault, LocalPubSub
from handler.publisher import (
    MAX_REQUEST_BYTES,
    SENDERS,
    OutgoingMessage,
    Publisher,
    PublishFailed,
    PublishRefused,
    ResponseTooLarge,
    _alike,
    _Outbox,
    _Publish,
    _raw,
    _Request,
)
from tests.parts.garbage import uncollected
from tests.parts.processes import until

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
    message_id = Publisher(TOPIC).publish(OutgoingMessage(b"{}", {"status_code": "200"}, "key"), 10)
    (message,) = received(broker)
    assert (message.message_id, message.data, message.ordering_key) == (message_id, b"{}", "key")
    assert dict(message.attributes) == {"status_code": "200"}


@pytest.mark.parametrize("ordering_key", ["", "key"])
def test_attributes_of_any_name(broker, ordering_key):
    """The client library's own parameter names are names like any other."""
    attributes = dict.fromkeys(("self", "topic", "data", "ordering_key", "retry", "timeout", "message"), "x")
    Publisher(TOPIC).publish(OutgoingMessage(b"{}", attributes, ordering_key), 10)
    assert [attributes] == [dict(message.attributes) for message in received(broker)]


def test_many_threads(broker):
    """Each of 64 threads gets the id of its own message."""
    publisher = Publisher(TOPIC)
    bodies = [str(number).encode() for number in range(64)]
    with ThreadPoolExecutor(64) as threads:
        ids = list(threads.map(lambda body: publisher.publish(OutgoingMessage(body), 10), bodies))
    assert dict(zip(ids, bodies, strict=True)) == {message.message_id: message.data for message in received(broker)}


@pytest.mark.parametrize("ordering_key", ["", "key"])
def test_a_moment_of_trouble(broker, ordering_key):
    """What is temporary is tried again within the time given."""
    broker.faults.add(Fault(kind="publish-fails", times=2))
    Publisher(TOPIC).publish(OutgoingMessage(b"{}", {}, ordering_key), 10)
    assert len(received(broker)) == 1


@pytest.mark.parametrize("ordering_key", ["", "key"])
def test_longer_trouble(broker, ordering_key):
    """Trouble that outlasts the time fails; what was given up on is not published later, nor is its key paused."""
    publisher = Publisher(TOPIC)
    broker.faults.add(Fault(kind="publish-fails"))
    with pytest.raises(PublishFailed, match="ServiceUnavailable"):
        publisher.publish(OutgoingMessage(b"1", {}, ordering_key), 0.5)
    broker.faults.clear()
    publisher.publish(OutgoingMessage(b"2", {}, ordering_key), 10)
    assert [message.data for message in received(broker)] == [b"2"]


@pytest.mark.parametrize(
    ("status", "times"),
    [("UNAVAILABLE", 0), ("UNAVAILABLE", 1), ("UNAVAILABLE", 100), ("INVALID_ARGUMENT", 100), ("NOT_FOUND", 100)],
)
def test_nothing_is_held_afterwards(broker, status, times):
    """No cycle of references keeps a message that was published, at last, or was not: it may have 10 MB."""
    publisher = Publisher(TOPIC)
    if times:
        broker.faults.add(Fault(kind="publish-fails", status=status, times=times))
    with uncollected():
        for _ in range(3):
            with suppress(PublishFailed, PublishRefused):
                publisher.publish(OutgoingMessage(b"{}"), 0.5)
        until(lambda: not any(isinstance(one, _Publish) for one in gc.get_objects()))


def test_one_bad_message_does_not_take_its_batch_along(broker):
    """A refused batch is published again one by one: another message in it may have been at fault."""
    broker.faults.add(Fault(kind="publish-fails", status="INVALID_ARGUMENT", times=1))
    until = time.monotonic() + 10
    batch = [_Publish(TOPIC, _raw(OutgoingMessage(body)), until) for body in (b"1", b"2")]
    _Outbox()._send(batch)
    assert all(one.outcome.result(0) for one in batch)
    assert {message.data for message in received(broker)} == {b"1", b"2"}


def test_who_has_the_least_time_is_published_first(broker):
    """One by one takes its time, which the last ones may not have."""
    broker.faults.add(Fault(kind="publish-fails", status="INVALID_ARGUMENT", times=1))
    now = time.monotonic()
    batch = [_Publish(TOPIC, _raw(OutgoingMessage(b"%d" % left)), now + left) for left in (30, 10, 20)]
    _Outbox()._send(batch)
    ids = {one.message.data: int(one.outcome.result(0)) for one in batch}
    assert sorted(ids, key=ids.get) == [b"10", b"20", b"30"]


def to_send(*seconds):
    """A message for each, whose publisher gives up after so many seconds."""
    now = time.monotonic()
    return [_Publish(TOPIC, _raw(OutgoingMessage(b"{}")), now + left) for left in seconds]


def test_what_is_past_its_time_fails_alone(broker):
    """When a request is sent, whose time is up hears that, and the others are published."""
    late, patient = to_send(-1, 30)
    _Outbox()._send([late, patient])
    with pytest.raises(PublishFailed, match="DeadlineExceeded"):
        late.outcome.result(0)
    assert patient.outcome.result(0)
    assert len(received(broker)) == 1


def test_who_has_little_time_left_takes_none_of_the_others(broker):
    """A Pub/Sub that is too slow for one message is not for those that have time."""
    broker.faults.add(Fault(kind="publish-late", seconds=1))
    outbox, (patient, hasty) = _Outbox(), to_send(60, 0.2)
    outbox._waiting.put(patient)
    outbox._waiting.put(hasty)
    outbox._start()
    assert patient.outcome.result(60)
    assert hasty.outcome.exception(60)


@given(st.lists(st.floats(-100, 100) | st.just(math.inf), min_size=1))
def test_a_request_is_of_those_that_have_about_the_same_time(seconds):
    """None has more than twice the time of another that shares its request, or none has any left; nobody is left out.

    The most hurried go first.
    """
    rest = [_Publish(TOPIC, None, 1000.0 + left) for left in seconds]
    requests = []
    while rest:
        batch, rest = _alike(rest, 1000.0)
        requests.append(sorted(one.until - 1000.0 for one in batch))
    assert [left for request in requests for left in request] == sorted(one + 1000.0 - 1000.0 for one in seconds)
    assert all(request[-1] <= max(2 * request[0], 0) for request in requests)


@pytest.mark.parametrize(
    ("messages", "together"),
    [
        ([OutgoingMessage(b"x" * 4_000_000)] * 5, [2, 2, 1]),
        ([OutgoingMessage(b"x" * 9_990_000)] * 2, [1, 1]),
        ([OutgoingMessage(b"{}")] * 2500, [1000, 1000, 500]),
        ([OutgoingMessage(b"{}"), OutgoingMessage(b"{}", {}, "key"), OutgoingMessage(b"{}")], [1, 1, 1]),
    ],
    ids=["large", "as large as can be", "many", "ordered"],
)
def test_a_request_has_an_end(messages, together):
    """What does not fit in a request is left to the next sender, in its order."""
    outbox, publishes = _Outbox(), [_Publish(TOPIC, _raw(message), math.inf) for message in messages]
    for one in publishes:
        outbox._waiting.put(one)
    collected = [outbox._collect() for _ in together]
    assert [len(batch) for batch in collected] == together
    assert [one for batch in collected for one in batch] == publishes
    assert outbox._waiting.empty()
    for batch in collected:
        assert _Request(topic=TOPIC, messages=[one.message for one in batch]).ByteSize() <= MAX_REQUEST_BYTES


def test_what_comes_together_shares_requests(broker, monkeypatch):
    """While a request is on its way the next ones gather; more than a few are never on their way at once."""
    publisher, under_way, most = Publisher(TOPIC), [], []
    publish, counting = publisher._outbox._channel.publish, threading.Lock()

    def counted(request, seconds):
        with counting:
            under_way.append(1)
            most.append(len(under_way))
        try:
            return publish(request, seconds)
        finally:
            under_way.pop()

    monkeypatch.setattr(publisher._outbox._channel, "publish", counted)
    broker.faults.add(Fault(kind="publish-late", seconds=0.5))
    with ThreadPoolExecutor(200) as threads:
        ids = list(threads.map(lambda n: publisher.publish(OutgoingMessage(b"%d" % n), 10), range(200)))
    assert len(set(ids)) == 200
    assert len(most) < 50
    assert max(most) <= SENDERS


def test_a_topic_holds_up_no_other(broker):
    """Messages that were collected together go to their topics side by side."""
    with pubsub_v1.PublisherClient() as publisher:
        publisher.create_topic(name=f"{TOPIC}-slow")
    broker.faults.add(Fault(kind="publish-late", seconds=3, match="slow"))
    outbox, until = _Outbox(), time.monotonic() + 30
    slow, fast = (_Publish(topic, _raw(OutgoingMessage(b"{}")), until) for topic in (f"{TOPIC}-slow", TOPIC))
    outbox._waiting.put(slow)
    outbox._waiting.put(fast)
    outbox._start()
    assert fast.outcome.result(30)
    assert not slow.outcome.done()
    assert slow.outcome.result(30)


def test_a_silent_pubsub_holds_nobody_longer_than_asked():
    """However many publish, each is told in its time; those that no request was begun for hear that, too."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as silent, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PUBSUB_EMULATOR_HOST", "{}:{}".format(*silent.getsockname()))
        publisher = Publisher(TOPIC)

        def publish(_):
            with pytest.raises(PublishFailed) as failed:
                publisher.publish(OutgoingMessage(b"{}"), 1)
            return str(failed.value)

        begun = time.monotonic()
        with ThreadPoolExecutor(100) as threads:
            assert all(threads.map(publish, range(100)))
        assert time.monotonic() - begun < 3


NO_WAY = "is there a way to Pub/Sub, or to PUBSUB_EMULATOR_HOST where it is set?"


@pytest.mark.parametrize(
    ("status", "says"),
    [
        ("INVALID_ARGUMENT", "InvalidArgument: Pub/Sub does not take it: has the topic a schema?"),
        ("UNAVAILABLE", f"ServiceUnavailable: {NO_WAY}"),
        ("DEADLINE_EXCEEDED", f"DeadlineExceeded: {NO_WAY}"),
    ],
)
def test_what_pubsub_says_is_not_passed_on(broker, status, says):
    """It may quote attributes, and what is raised is logged: its kind is named, and what can be done about it."""
    broker.faults.add(Fault(kind="publish-fails", status=status))
    with pytest.raises((PublishFailed, PublishRefused)) as failed:
        Publisher(TOPIC).publish(OutgoingMessage(b"{}", {"planted": "planted"}), 2)
    assert str(failed.value) == says
    assert "planted" not in repr(OutgoingMessage(b"planted", {"planted": "planted"}))


@pytest.mark.parametrize("ordering_key", ["", "key"])
def test_refused_for_good(broker, ordering_key):
    """A message that Pub/Sub will never take is not tried again and again."""
    too_long = {"k" * 257: "v"}
    with pytest.raises(PublishRefused, match="InvalidArgument"):
        Publisher(TOPIC).publish(OutgoingMessage(b"{}", too_long, ordering_key), 10)
    assert received(broker) == []


@pytest.mark.parametrize("ordering_key", ["", "key"])
def test_too_large(broker, ordering_key):
    """A message beyond the limit of a publish request is not sent."""
    with pytest.raises(ResponseTooLarge):
        Publisher(TOPIC).publish(OutgoingMessage(b" " * 10_000_000, {}, ordering_key), 10)


@pytest.mark.parametrize("ordering_key", ["", "key"])
def test_large(broker, ordering_key):
    """A message just below the limit is."""
    Publisher(TOPIC).publish(OutgoingMessage(b" " * 9_990_000, {}, ordering_key), 10)
    assert broker.stats().published == 1


def test_a_topic_that_is_not_there(broker):
    """An operator's mistake is no reason to lose a response: it can be mended."""
    with pytest.raises(PublishFailed, match="NotFound"):
        Publisher("projects/p/topics/missing").publish(OutgoingMessage(b"{}"), 10)


def test_no_credentials(monkeypatch):
    """Without credentials a publish fails with the reason; nothing was connected before it was needed."""
    monkeypatch.delenv("PUBSUB_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", os.devnull + ".missing")
    publisher = Publisher(TOPIC)
    with pytest.raises(PublishFailed, match="DefaultCredentialsError"):
        publisher.publish(OutgoingMessage(b"{}"), 1)

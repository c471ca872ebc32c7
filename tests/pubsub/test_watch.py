"""What the broker tells those who watch: one event for each thing that happens to a message."""

from collections.abc import Callable
from typing import Any

import pytest

from handler.local.pubsub import LocalPubSub, Rules, Watch
from handler.local.pubsub.core.watch import Acked, Delivered, Event, Failed, Paced, Published, PushAnswered
from tests.parts.processes import until


def watched(connect: Callable[[str], Any], endpoint: Any, **config: Any) -> list[Event]:
    """Everything that is told of one message, from its publish to its end."""
    events: list[Event] = []
    with LocalPubSub(rules=Rules(push_backoff=False)) as broker:
        remote = connect(broker.address)
        topic, dead = remote.topic(), remote.topic()
        if attempts := config.pop("attempts", None):
            config["dead_letter_policy"] = {"dead_letter_topic": dead, "max_delivery_attempts": attempts}
        remote.subscribe(topic, push=endpoint.url, **config)
        broker.watch.add(events.append)
        remote.publish(topic, {"data": b"hello", "attributes": {"key": "value"}})
        until(lambda: isinstance(events[-1], Acked) or _is_dead(events[-1]), 40)
    return events


def _is_dead(event: Event) -> bool:
    return isinstance(event, Failed) and event.wait is None


def test_a_message_that_is_acked_at_the_second_attempt(connect: Any, endpoint: Any) -> None:
    """Each step of both attempts, in order, with the status and the wait in between."""
    endpoint.answer = lambda push: 503 if push.number == 0 else 204
    events = watched(connect, endpoint, retry_policy={"minimum_backoff": {"nanos": 200_000_000}})
    published = events[0]
    assert isinstance(published, Published)
    assert (published.data, published.attributes) == (b"hello", {"key": "value"})
    known = published.message_id
    name = next(event.subscription for event in events if isinstance(event, Delivered))
    assert events[1:] == [
        Delivered(name, known, 1),
        PushAnswered(name, known, 503, ""),
        Paced(name, 1, 0.0),
        Failed(name, known, 1, 0.2),
        Delivered(name, known, 2),
        PushAnswered(name, known, 204, ""),
        Paced(name, 2, 0.0),
        Acked(name, known),
    ]


def test_a_dead_letter(connect: Any, endpoint: Any) -> None:
    """The last failure has no wait, and the copy is a message of its own in the dead-letter topic."""
    endpoint.answer = lambda _: 500
    events = watched(connect, endpoint, attempts=5)
    waits = [event.wait for event in events if isinstance(event, Failed)]
    assert waits == [0.0, 0.0, 0.0, 0.0, None]
    first, copy = (event for event in events if isinstance(event, Published))
    assert first.topic != copy.topic
    assert first.message_id != copy.message_id


@pytest.mark.parametrize(("break_it", "trouble"), [("closes", "the connection broke"), ("is away", "no connection")])
def test_why_there_is_no_status(connect: Any, endpoint: Any, break_it: str, trouble: str) -> None:
    """A status of 0 comes with its reason."""
    events: list[Event] = []
    endpoint.answer = lambda _: None
    if break_it == "is away":
        endpoint.close()
    with LocalPubSub() as broker:
        remote = connect(broker.address)
        topic = remote.topic()
        remote.subscribe(topic, push=endpoint.url)
        broker.watch.add(events.append)
        remote.publish(topic, {"data": b"hello"})
        until(lambda: any(isinstance(event, Failed) for event in events), 40)
    assert next((each.status, each.trouble) for each in events if isinstance(each, PushAnswered)) == (0, trouble)


def test_nothing_is_made_while_nobody_listens() -> None:
    """An event costs nothing then; every listener gets the same one."""

    def never(*_: object) -> Event:
        raise AssertionError("made for nobody")

    Watch().tell(never, "a", 1)
    heard: list[Event] = []
    watch = Watch()
    watch.add(heard.append)
    watch.add(heard.append)
    watch.tell(Acked, "s", "1")
    assert heard == [Acked("s", "1")] * 2

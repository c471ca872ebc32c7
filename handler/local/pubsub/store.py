"""The topics and subscriptions of one broker, and how a publish reaches them. No network here."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import grpc

from handler.local.pubsub import limits, pb
from handler.local.pubsub.backlog import Backlog, Delivery, Entry, Policy
from handler.local.pubsub.limits import Refusal
from handler.local.pubsub.pb import Message
from handler.local.pubsub.rules import Rules

_DELETED = "_deleted-topic_"
_DAY = 86400
_FIXED = {"name", "topic", "filter", "enable_message_ordering"}
PULL_ROOM = 3_500_000  # bytes in one answer: clients in emulator mode keep gRPC's receive limit of 4 MB


class Bell:
    """Wakes whoever waits for something to change."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def ring(self) -> None:
        """Wake everyone who waits now."""
        self._event.set()
        self._event = asyncio.Event()

    async def wait(self, seconds: float) -> None:
        """Until the next ring, `seconds` at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(None if seconds == float("inf") else max(0.0, seconds)):
                await self._event.wait()


class Subscription:
    """A subscription: its configuration, its backlog, and a bell for those who wait for messages."""

    def __init__(self, config: Message, store: "Store") -> None:
        self.config = config
        self.bell = Bell()
        self.clock = store.clock
        self.deleted = False
        self._rules = store.rules
        self.backlog = Backlog(self._policy(), lambda entry: store.bury(self, entry), store.counts)

    def apply(self, config: Message) -> None:
        """A new configuration, in force from the next delivery on."""
        self.config = config
        self.backlog.policy = self._policy()
        self.bell.ring()

    def take(self, holder: object, limit: int, room: float = PULL_ROOM) -> list[Delivery]:
        """Up to `limit` messages, leased to `holder`."""
        return self.backlog.take(holder, self.clock(), limit, room)

    def ack(self, ack_ids: Iterable[str]) -> None:
        """These deliveries are done."""
        for ack_id in ack_ids:
            self.backlog.ack(ack_id)
        self.bell.ring()

    def modify(self, ack_id: str, seconds: float, extra: float = 0.0) -> None:
        """The deadline of a delivery: 0 is a nack, which may come again after `extra` seconds at the earliest."""
        if seconds:
            self.backlog.extend(ack_id, self.clock(), seconds)
        else:
            self.backlog.nack(ack_id, self.clock(), extra)
        self.bell.ring()

    async def change(self, until: float = float("inf")) -> None:
        """Wait until something may have changed: a ring, an expiry, the end of a wait, or the time `until`."""
        await self.bell.wait(min(until, self.backlog.next_event()) - self.clock())

    def _policy(self) -> Policy:
        config = self.config
        retry = config.retry_policy
        return Policy(
            ack_deadline=config.ack_deadline_seconds,
            ordered=config.enable_message_ordering,
            min_backoff=_seconds(retry.minimum_backoff),
            max_backoff=_seconds(retry.maximum_backoff),
            backoff_growth=self._rules.backoff_growth,
            max_attempts=config.dead_letter_policy.max_delivery_attempts,
        )


class Store:
    """Everything one broker knows. `clock` tells the seconds that leases and waits are counted in."""

    def __init__(self, rules: Rules, clock: Callable[[], float]) -> None:
        self.rules = rules
        self.clock = clock
        self.counts: Counter[str] = Counter()
        self.topics: dict[str, Message] = {}
        self.subscriptions: dict[str, Subscription] = {}
        self.on_subscription: Callable[[Subscription], None] = lambda _: None
        self._ids = itertools.count(time.time_ns() // 1000)

    def topic(self, name: str) -> Message:
        """The topic's configuration, or NOT_FOUND."""
        return _found(self.topics, name, "topic")

    def subscription(self, name: str) -> Subscription:
        """The subscription, or NOT_FOUND."""
        found: Subscription = _found(self.subscriptions, name, "subscription")
        return found

    def of_topic(self, name: str) -> list[Subscription]:
        """The subscriptions of a topic."""
        return [each for each in self.subscriptions.values() if each.config.topic == name]

    def create_topic(self, config: Message) -> Message:
        """A new topic, or ALREADY_EXISTS."""
        limits.check_name(config.name, "topics")
        limits.check_known(config)
        _free(self.topics, config.name)
        config.state = config.ACTIVE
        self.topics[config.name] = config
        return config

    def delete_topic(self, name: str) -> None:
        """Its subscriptions stay, without a topic."""
        self.topic(name)
        del self.topics[name]
        for subscription in self.of_topic(name):
            subscription.config.topic = _DELETED

    def create_subscription(self, config: Message) -> Message:
        """A new subscription to messages published from now on."""
        limits.check_name(config.name, "subscriptions")
        limits.check_known(config)
        _free(self.subscriptions, config.name)
        self.topic(config.topic)
        _fill(config)
        limits.check_subscription(config, self.rules)
        self.subscriptions[config.name] = subscription = Subscription(config, self)
        self.on_subscription(subscription)
        return config

    def update_subscription(self, config: Message, mask: Any) -> Message:
        """Replace the fields that `mask` names."""
        subscription = self.subscription(config.name)
        if not mask.paths or _FIXED.intersection(path.split(".")[0] for path in mask.paths):
            raise limits.invalid(f"update_mask names at least one field, and none of {sorted(_FIXED)}")
        updated = pb.Subscription()
        updated.CopyFrom(subscription.config)
        mask.MergeMessage(config, updated, True, True)
        limits.check_known(updated)
        _fill(updated)
        limits.check_subscription(updated, self.rules)
        subscription.apply(updated)
        self.on_subscription(subscription)
        return updated

    def delete_subscription(self, name: str) -> None:
        """The subscription and what it had to deliver."""
        subscription = self.subscription(name)
        subscription.deleted = True
        del self.subscriptions[name]
        self.on_subscription(subscription)
        subscription.bell.ring()

    def publish(self, topic: str, messages: Iterable[Message]) -> list[str]:
        """Give each message an id and a time, hand it to the topic's subscriptions, and return the ids."""
        self.topic(topic)
        subscriptions = self.of_topic(topic)
        ids = [self._deliver(message, subscriptions) for message in messages]
        for subscription in subscriptions:
            subscription.bell.ring()
        return ids

    def bury(self, subscription: Subscription, entry: Entry) -> bool:
        """Copy a message that failed too often to the dead-letter topic, if that exists."""
        topic = subscription.config.dead_letter_policy.dead_letter_topic
        if topic not in self.topics:
            return False
        copy = pb.PubsubMessage()
        copy.CopyFrom(entry.message)
        _, project, _, name = subscription.config.name.split("/")
        published = entry.message.publish_time.ToJsonString().replace("Z", "+00:00")
        copy.attributes["CloudPubSubDeadLetterSourceDeliveryCount"] = str(entry.failures)
        copy.attributes["CloudPubSubDeadLetterSourceSubscription"] = name
        copy.attributes["CloudPubSubDeadLetterSourceSubscriptionProject"] = project
        copy.attributes["CloudPubSubDeadLetterSourceTopicPublishTime"] = published
        self.publish(topic, [copy])
        return True

    def _deliver(self, message: Message, subscriptions: Iterable[Subscription]) -> str:
        message.message_id = str(next(self._ids))
        message.publish_time.FromMilliseconds(time.time_ns() // 1_000_000)
        self.counts["published"] += 1
        size = message.ByteSize()
        for subscription in subscriptions:
            subscription.backlog.add(message, size)
        return message.message_id


def _found(things: dict[str, Any], name: str, kind: str) -> Any:
    if name not in things:
        raise Refusal(grpc.StatusCode.NOT_FOUND, f"no {kind} {name!r}; create it first")
    return things[name]


def _free(things: dict[str, Any], name: str) -> None:
    if name in things:
        raise Refusal(grpc.StatusCode.ALREADY_EXISTS, f"{name!r} exists already")


def _fill(config: Message) -> None:
    """The service's defaults, for what was left empty."""
    config.state = config.ACTIVE
    config.ack_deadline_seconds = config.ack_deadline_seconds or 10
    if not config.HasField("message_retention_duration"):
        config.message_retention_duration.seconds = 7 * _DAY
    if not config.HasField("expiration_policy"):
        config.expiration_policy.ttl.seconds = 31 * _DAY
    if config.HasField("dead_letter_policy"):
        policy = config.dead_letter_policy
        policy.max_delivery_attempts = policy.max_delivery_attempts or 5
    if config.HasField("retry_policy"):
        _fill_retry(config.retry_policy)


def _fill_retry(policy: Message) -> None:
    if not policy.HasField("minimum_backoff"):
        policy.minimum_backoff.seconds = 10
    if not policy.HasField("maximum_backoff"):
        policy.maximum_backoff.seconds = 600


def _seconds(duration: Message) -> float:
    return float(duration.seconds + duration.nanos / 1e9)

"""The topics and subscriptions of one broker, and how a publish reaches them. No network here."""

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask
from grpc import StatusCode

from handler.local.pubsub.core import limits, pb
from handler.local.pubsub.core.limits import require
from handler.local.pubsub.core.pb import Message
from handler.local.pubsub.core.rules import Rules
from handler.local.pubsub.core.subscription import Entry, Subscription
from handler.local.pubsub.core.watch import Published, Watch

_DAY = 86400
_FIXED = {"name", "topic", "filter", "enable_message_ordering"}
_DEAD = "CloudPubSubDeadLetterSource"


class Store:
    """Everything one broker knows. `clock` counts the seconds of leases and waits.

    `follow` is called with each subscription that was made, changed or deleted.
    """

    def __init__(self, rules: Rules, clock: Callable[[], float] = time.monotonic) -> None:
        self.rules = rules
        self.clock = clock
        self.counts: Counter[str] = Counter()
        self.watch = Watch()
        self.topics: dict[str, Message] = {}
        self.subscriptions: dict[str, Subscription] = {}
        self.follow: Callable[[Subscription], None] = lambda _: None
        self._ids = itertools.count(time.time_ns() // 1000)

    def topic(self, name: str) -> Message:
        """Find a topic's configuration."""
        limits.check_name(name, "topics")
        require(name in self.topics, f"{name!r} does not exist; create it first", StatusCode.NOT_FOUND)
        return self.topics[name]

    def subscription(self, name: str) -> Subscription:
        """Find a subscription."""
        limits.check_name(name, "subscriptions")
        require(name in self.subscriptions, f"{name!r} does not exist; create it first", StatusCode.NOT_FOUND)
        return self.subscriptions[name]

    def list_topics(self, project: str) -> list[Message]:
        """List a project's topics."""
        return [each for name, each in self.topics.items() if name.startswith(f"{project}/")]

    def list_subscriptions(self, project: str) -> list[Message]:
        """List the configurations of a project's subscriptions."""
        return [each.config for name, each in self.subscriptions.items() if name.startswith(f"{project}/")]

    def list_names(self, topic: str) -> list[str]:
        """List the names of a topic's subscriptions."""
        self.topic(topic)
        return [each.config.name for each in self._subscribed(topic)]

    def create_topic(self, config: Message) -> Message:
        """Add a topic."""
        limits.check_config(config, "topics")
        require(config.name not in self.topics, f"{config.name!r} exists already", StatusCode.ALREADY_EXISTS)
        config.state = config.ACTIVE
        self.topics[config.name] = config
        return config

    def delete_topic(self, name: str) -> None:
        """Remove a topic; its subscriptions stay, with what they have."""
        self.topic(name)
        del self.topics[name]
        for subscription in self._subscribed(name):
            subscription.config.topic = "_deleted-topic_"

    def create_subscription(self, config: Message) -> Message:
        """Add a subscription to what is published from now on."""
        name = config.name
        limits.check_config(config, "subscriptions")
        require(name not in self.subscriptions, f"{name!r} exists already", StatusCode.ALREADY_EXISTS)
        self.topic(config.topic)
        self._find_dead_letter_topic(config)
        _fill(config)
        limits.check_subscription(config, self.rules)
        bury = partial(self.bury, name)
        subscription = Subscription(config, self.rules, self.clock, bury, self.counts, self.watch)
        self.subscriptions[name] = subscription
        self.follow(subscription)
        return config

    def update_subscription(self, config: Message, mask: Any) -> Message:
        """Replace the fields that `mask` names."""
        subscription = self.subscription(config.name)
        changed = {path.split(".")[0] for path in mask.paths}
        require(changed and not changed & _FIXED, f"update_mask names one field at least, and none of {sorted(_FIXED)}")
        for path in mask.paths:
            known = FieldMask(paths=[path]).IsValidForDescriptor(config.DESCRIPTOR)
            require(known, f"update_mask: {path!r} is not a known field; they are spelled like push_config")
        updated = pb.Subscription()
        updated.CopyFrom(subscription.config)
        mask.MergeMessage(config, updated, True, True)
        if "dead_letter_policy" in changed:
            self._find_dead_letter_topic(updated)
        _fill(updated)
        limits.check_config(updated, "subscriptions")
        limits.check_subscription(updated, self.rules)
        subscription.config = updated
        subscription.ring()
        self.follow(subscription)
        return updated

    def modify_push(self, name: str, push: Message) -> None:
        """Push elsewhere or otherwise, or, without an endpoint, no longer."""
        self.update_subscription(pb.Subscription(name=name, push_config=push), FieldMask(paths=["push_config"]))

    def delete_subscription(self, name: str) -> None:
        """Remove a subscription and what it had to deliver."""
        subscription = self.subscription(name)
        del self.subscriptions[name]
        subscription.deleted = True
        self.follow(subscription)
        subscription.ring()

    def publish(self, topic: str, messages: Iterable[Message]) -> list[str]:
        """Give each message an id and a time, and hand it to the topic's subscriptions."""
        self.topic(topic)
        subscriptions = self._subscribed(topic)
        ids = [self._deliver(topic, message, subscriptions) for message in messages]
        for subscription in subscriptions:
            subscription.ring()
        return ids

    def bury(self, name: str, entry: Entry) -> bool:
        """Copy a message that failed too often to the subscription's dead-letter topic, if that exists."""
        topic = self.subscriptions[name].config.dead_letter_policy.dead_letter_topic
        if topic not in self.topics:
            return False
        copy = pb.PubsubMessage()
        copy.CopyFrom(entry.message)
        copy.attributes[f"{_DEAD}DeliveryCount"] = str(entry.failures)
        copy.attributes[f"{_DEAD}Subscription"] = name.split("/")[3]
        copy.attributes[f"{_DEAD}SubscriptionProject"] = name.split("/")[1]
        copy.attributes[f"{_DEAD}TopicPublishTime"] = copy.publish_time.ToJsonString().replace("Z", "+00:00")
        self.publish(topic, [copy])
        return True

    def _find_dead_letter_topic(self, config: Message) -> None:
        """A dead-letter topic has to be there when it is named, though it may be deleted afterwards."""
        if config.HasField("dead_letter_policy"):
            self.topic(config.dead_letter_policy.dead_letter_topic)

    def _subscribed(self, topic: str) -> list[Subscription]:
        return [each for each in self.subscriptions.values() if each.config.topic == topic]

    def _deliver(self, topic: str, message: Message, subscriptions: Iterable[Subscription]) -> str:
        message.message_id = str(next(self._ids))
        message.publish_time.FromMilliseconds(time.time_ns() // 1_000_000)
        self.counts["published"] += 1
        size = message.ByteSize()
        self.watch.tell(Published, topic, message.message_id, message.data, dict(message.attributes))
        for subscription in subscriptions:
            subscription.add(message, size)
        return str(message.message_id)


def _fill(config: Message) -> None:
    """Fill in the service's defaults."""
    config.state = config.ACTIVE
    config.ack_deadline_seconds = config.ack_deadline_seconds or 10
    _default(config, "message_retention_duration", seconds=7 * _DAY)
    _default(config, "expiration_policy", ttl={"seconds": 31 * _DAY})
    if config.HasField("dead_letter_policy"):
        policy = config.dead_letter_policy
        policy.max_delivery_attempts = policy.max_delivery_attempts or 5
    if config.HasField("retry_policy"):
        _default(config.retry_policy, "minimum_backoff", seconds=10)
        _default(config.retry_policy, "maximum_backoff", seconds=600)


def _default(config: Message, field: str, **value: Any) -> None:
    if not config.HasField(field):
        getattr(config, field).MergeFrom(type(getattr(config, field))(**value))

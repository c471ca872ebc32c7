"""The bench's side of Pub/Sub: makes what Terraform does, publishes, takes the responses."""

from collections.abc import Mapping, Sequence

import grpc
from google.protobuf.duration_pb2 import Duration
from google.pubsub_v1 import PublisherClient, SubscriberClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

from bench.backlog.scenarios import SUBSCRIPTION, Backlog
from bench.message import data
from bench.systems import TOPIC as RESPONSES

_REQUESTS, _DEAD = "projects/bench/topics/requests", "projects/bench/topics/dead"
_COLLECTED = "projects/bench/subscriptions/responses"
_BATCH = 500  # messages a call
_OPTIONS = (("grpc.max_receive_message_length", -1),)


class Topics:
    """The topics of one run, in the broker that listens on `port`."""

    def __init__(self, port: int, backlog: Backlog) -> None:
        channel = grpc.insecure_channel(f"127.0.0.1:{port}", _OPTIONS)
        self._publisher = PublisherClient(transport=PublisherGrpcTransport(channel=channel))
        self._subscriber = SubscriberClient(transport=SubscriberGrpcTransport(channel=channel))
        self._index_by_id: dict[str, int] = {}
        for topic in (_REQUESTS, _DEAD, RESPONSES):
            self._publisher.create_topic(name=topic)
        self._subscriber.create_subscription(name=_COLLECTED, topic=RESPONSES, ack_deadline_seconds=600)
        self._subscriber.create_subscription(_subscription(backlog))

    def publish(self, backlog: Backlog) -> None:
        """Let all messages of the backlog wait."""
        for first in range(0, backlog.messages, _BATCH):
            indexes = range(first, min(first + _BATCH, backlog.messages))
            messages = [{"data": data(index, backlog.prompt_bytes)} for index in indexes]
            answer = self._publisher.publish(topic=_REQUESTS, messages=messages)
            self._index_by_id |= dict(zip(answer.message_ids, indexes, strict=True))

    def push_to(self, port: int) -> None:
        """Let Pub/Sub push from now on."""
        self._subscriber.modify_push_config(
            subscription=SUBSCRIPTION, push_config={"push_endpoint": f"http://127.0.0.1:{port}/"}
        )

    def responses(self, count: int) -> Sequence[tuple[int, float]]:
        """All responses, of which there are `count`: the index of the request, and the time of the publish (epoch)."""
        found: list[tuple[int, float]] = []
        while len(found) < count:
            answer = self._subscriber.pull(subscription=_COLLECTED, max_messages=_BATCH)
            messages = [received.message for received in answer.received_messages]
            found += [(self._index_of(one.attributes), one.publish_time.timestamp()) for one in messages]
        return found

    def _index_of(self, attributes: Mapping[str, str]) -> int:
        return self._index_by_id.get(attributes.get("request_message_id", ""), -1)


def _subscription(backlog: Backlog) -> Mapping[str, object]:
    """As terraform/modules/relay/subscriptions.tf has it; nothing is pushed yet."""
    return {
        "name": SUBSCRIPTION,
        "topic": _REQUESTS,
        "ack_deadline_seconds": 600 // backlog.divisor,
        "retry_policy": {
            "minimum_backoff": Duration(seconds=10 // backlog.divisor),
            "maximum_backoff": Duration(seconds=600 // backlog.divisor),
        },
        "dead_letter_policy": {"dead_letter_topic": _DEAD, "max_delivery_attempts": 100},
    }

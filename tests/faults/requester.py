"""The requester: publishes requests at a rate, and collects whatever comes back by streaming pull."""

import json
import threading
import time
from dataclasses import dataclass

from google.cloud import pubsub_v1

from tests.parts.pubsub import end

TOPICS = {name: f"projects/faults/topics/{name}" for name in ("requests", "responses", "dead")}
SUBSCRIPTIONS = {name: f"projects/faults/subscriptions/{name}" for name in ("push", "responses", "dead")}


@dataclass(frozen=True, slots=True)
class Response:
    """One response: to which request, with which status, and when it was published."""

    key: str
    status: int
    published: float


class Requester:
    """Publishes and collects. A response that is delivered twice is one response; one published twice is two."""

    def __init__(self, push_url, ack_deadline, minimum_backoff):
        self._push = {
            "name": SUBSCRIPTIONS["push"],
            "topic": TOPICS["requests"],
            "ack_deadline_seconds": ack_deadline,
            "push_config": {"push_endpoint": push_url},
            "retry_policy": {
                "minimum_backoff": {"nanos": round(minimum_backoff % 1 * 1e9), "seconds": int(minimum_backoff)},
                "maximum_backoff": {"seconds": max(2, round(10 * minimum_backoff))},
            },
            "dead_letter_policy": {"dead_letter_topic": TOPICS["dead"], "max_delivery_attempts": 100},
        }
        self.published: list[str] = []
        self._responses: dict[str, Response] = {}
        self._lock = threading.Lock()

    @property
    def responses(self):
        """What has come so far."""
        with self._lock:
            return list(self._responses.values())

    def has_all(self):
        """Whether every request has a response."""
        return set(self.published) <= {response.key for response in self.responses}

    def __enter__(self):
        self._publisher, self._subscriber = pubsub_v1.PublisherClient(), pubsub_v1.SubscriberClient()
        for topic in TOPICS.values():
            self._publisher.create_topic(name=topic)
        for name in ("responses", "dead"):
            self._subscriber.create_subscription(name=SUBSCRIPTIONS[name], topic=TOPICS[name])
        self._subscriber.create_subscription(request=self._push)
        self._stream = self._subscriber.subscribe(SUBSCRIPTIONS["responses"], callback=self._receive)
        return self

    def __exit__(self, *_):
        end(self._stream, self._subscriber, self._publisher)

    def publish(self, seed, messages, rate):
        """Publish so many requests, so many a second."""
        begun, pending = time.monotonic(), []
        for number in range(messages):
            time.sleep(max(0.0, begun + number / rate - time.monotonic()))
            key = f"{seed}-{number}"
            body = {"model": "m", "prompt": f"[{key}] is my name", "max_tokens": 16}
            data = json.dumps({"metadata": {"id": key}, "body": body}).encode()
            pending.append((key, self._publisher.publish(TOPICS["requests"], data)))
        for key, future in pending:
            future.result(60)
            self.published.append(key)

    def _receive(self, message):
        content = json.loads(message.data)
        key, published = content["metadata"]["id"], message.publish_time.timestamp()
        with self._lock:
            self._responses[message.message_id] = Response(key, content["status_code"], published)
        message.ack()

"""Requests that the page publishes: what its form may ask for, and their way to the topic."""

import itertools
import json
from dataclasses import dataclass
from typing import Any

from google.cloud import pubsub_v1

MOST = 100
_MAX_TOKENS = 24
_LONGEST = 2000
_PRIORITIES = ("high", "normal", "low")


class Refused(Exception):
    """What was asked for cannot be done. The message says what is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """So many requests."""

    prompt: str
    count: int
    priority: str
    model: str

    @classmethod
    def of(cls, fields: Any) -> "Order":
        """Read what the form sent. Raises Refused."""
        if not isinstance(fields, dict):
            raise Refused("an object is expected")
        prompt, count, model = fields.get("prompt"), fields.get("count"), fields.get("model")
        if not isinstance(prompt, str) or not 1 <= len(prompt.strip()) <= _LONGEST:
            raise Refused(f"a prompt of 1 to {_LONGEST} characters is needed")
        if not isinstance(count, int) or not 1 <= count <= MOST:
            raise Refused(f"1 to {MOST} requests can be published at once")
        if fields.get("priority") not in _PRIORITIES:
            raise Refused(f"the priority is one of {', '.join(_PRIORITIES)}")
        if not isinstance(model, str) or not 1 <= len(model.strip()) <= _LONGEST:
            raise Refused("the model's name is needed")
        return cls(prompt=prompt, count=count, priority=fields["priority"], model=model.strip())

    def requests(self, numbers: "itertools.count[int]") -> list[bytes]:
        """Make the messages' data."""
        return [self._request(f"page-{next(numbers)}") for _ in range(self.count)]

    def _request(self, name: str) -> bytes:
        """`user`, which models pass over, tells equal requests apart when the model is asked."""
        body = {"model": self.model, "prompt": self.prompt, "max_tokens": _MAX_TOKENS, "user": name}
        options = {"priority": self.priority}
        return json.dumps({"metadata": {"id": name}, "options": options, "body": body}).encode()


class Publisher:
    """Publishes requests as any program would: with Google's client."""

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._numbers = itertools.count(1)
        self._client = pubsub_v1.PublisherClient()

    def publish(self, order: Order) -> None:
        """Publish, and wait until Pub/Sub has taken all."""
        futures = [self._client.publish(self._topic, data) for data in order.requests(self._numbers)]
        for future in futures:
            future.result(30)

    def close(self) -> None:
        """Let the connection go."""
        self._client.stop()
        self._client.transport.close()

"""Publishes requests and waits for their responses, as any requester would."""

import queue
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from google.cloud import pubsub_v1

from handler import strictjson


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request as it was published, and its response as it came; `seconds` from the one to the other."""

    request: bytes
    status_code: int
    metadata: dict[str, Any]
    body: Any
    seconds: float


class Requester:
    """Publishes to a topic, and reads the responses from a subscription until left."""

    def __init__(self, topic: str, subscription: str) -> None:
        self._topic = topic
        self._received: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._published: dict[str, tuple[bytes, float]] = {}
        self._publisher = pubsub_v1.PublisherClient()
        self._subscriber = pubsub_v1.SubscriberClient()
        self._stream = self._subscriber.subscribe(subscription, callback=self._received.put)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        self._stream.cancel()
        self._stream.result()
        self._subscriber.close()
        self._publisher.stop()
        self._publisher.transport.close()

    def publish(self, requests: Sequence[bytes]) -> None:
        """Publish every request and wait until all are confirmed."""
        started = time.monotonic()
        futures = [(self._publisher.publish(self._topic, request), request) for request in requests]
        self._published = {future.result(): (request, started) for future, request in futures}

    def responses(self, patience: float) -> Iterator[Exchange]:
        """Each response as it comes, once, until all are there or none has come for `patience` seconds."""
        waiting = dict(self._published)
        while waiting:
            try:
                message = self._received.get(timeout=patience)
            except queue.Empty:
                return
            message.ack()
            published = waiting.pop(message.attributes["request_message_id"], None)
            if published is not None:
                yield _exchange(message.data, *published)


def _exchange(data: bytes, request: bytes, published: float) -> Exchange:
    response = strictjson.loads(data, finite=False)
    return Exchange(request=request, seconds=time.monotonic() - published, **response)

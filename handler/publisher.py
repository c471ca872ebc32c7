"""The response topic: the only module of the service that imports google.cloud.pubsub."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from google.api_core import exceptions
from google.api_core.retry import Retry, if_exception_type
from google.auth.exceptions import GoogleAuthError
from google.cloud.pubsub_v1 import PublisherClient
from google.cloud.pubsub_v1.publisher.exceptions import MessageTooLargeError
from google.cloud.pubsub_v1.types import BatchSettings
from google.pubsub_v1 import PublisherClient as GeneratedClient
from google.pubsub_v1.types import PublishRequest, PubsubMessage

from handler import strictjson

MAX_REQUEST_BYTES = 10_000_000  # https://cloud.google.com/pubsub/quotas#resource_limits

# The parameters of PublisherClient.publish, which takes attributes as keyword arguments beside them.
_PARAMETERS = frozenset({"self", "topic", "data", "ordering_key", "retry", "timeout"})

_TRANSIENT = if_exception_type(
    exceptions.Aborted,
    exceptions.Cancelled,
    exceptions.DeadlineExceeded,
    exceptions.InternalServerError,
    exceptions.ResourceExhausted,
    exceptions.ServiceUnavailable,
    exceptions.Unknown,
)


@dataclass(frozen=True, slots=True)
class OutgoingMessage:
    """What is published: JSON as bytes, attributes within Pub/Sub's limits, an ordering key or none."""

    data: bytes
    attributes: Mapping[str, str] = field(default_factory=dict)
    ordering_key: str = ""

    def to_bytes(self) -> bytes:
        """The message in one piece, to be kept."""
        head = strictjson.dumps({"attributes": dict(self.attributes), "ordering_key": self.ordering_key})
        return head + b"\n" + self.data

    @classmethod
    def from_bytes(cls, kept: bytes) -> Self:
        """The message that `to_bytes` wrote."""
        head, _, data = kept.partition(b"\n")
        return cls(data, **strictjson.loads(head))


class PublishFailed(Exception):
    """Not published, or not confirmed in time: a later try may succeed. The message names the cause, not the data."""


class PublishRefused(Exception):
    """Pub/Sub will never take this message."""


class ResponseTooLarge(Exception):
    """The message does not fit in one publish request."""


class Publisher:
    """Publishes to one topic and waits for the confirmation.

    Its client is made at the first publish, in the process that publishes: gRPC does not survive a fork.
    """

    def __init__(self, topic: str, seconds: float) -> None:
        self._topic = topic
        self._seconds = seconds
        # A last try may begin just before the retries' time is up and then take its own: together `seconds`. The
        # outcome must be known before the push is answered, or a publish given up on would still arrive later.
        self._retry = Retry(predicate=_TRANSIENT, initial=0.1, maximum=2.0, timeout=seconds / 2)
        self._client: PublisherClient | None = None
        self._lock = threading.Lock()

    def publish(self, message: OutgoingMessage) -> str:
        """Publish and return the confirmed message's id.

        Raises PublishFailed, PublishRefused or ResponseTooLarge, within the seconds given.
        """
        try:
            if message.ordering_key or not _PARAMETERS.isdisjoint(message.attributes):
                return self._alone(message)
            return self._batched(message)
        except exceptions.InvalidArgument as error:
            raise PublishRefused(_cause(error)) from None
        except (exceptions.GoogleAPIError, GoogleAuthError, TimeoutError) as error:
            raise PublishFailed(_cause(error)) from None

    def _batched(self, message: OutgoingMessage) -> str:
        """Share a request with whatever else is published at this moment."""
        try:
            future = self._connected().publish(
                self._topic, message.data, retry=self._retry, timeout=self._seconds / 2, **message.attributes
            )
            return str(future.result(timeout=self._seconds))
        except MessageTooLargeError:
            raise ResponseTooLarge from None
        except exceptions.InvalidArgument:
            # The whole batch was refused, perhaps for another message in it.
            return self._alone(message)

    def _alone(self, message: OutgoingMessage) -> str:
        """A request of its own: with ordering keys the batching client would pause a key for good after a failure."""
        request = PublishRequest(
            topic=self._topic,
            messages=[
                PubsubMessage(data=message.data, attributes=message.attributes, ordering_key=message.ordering_key)
            ],
        )
        if PublishRequest.pb(request).ByteSize() > MAX_REQUEST_BYTES:
            raise ResponseTooLarge
        response = GeneratedClient.publish(self._connected(), request, retry=self._retry, timeout=self._seconds / 2)
        return str(response.message_ids[0])

    def _connected(self) -> PublisherClient:
        with self._lock:
            if self._client is None:
                self._client = PublisherClient(batch_settings=BatchSettings(max_latency=0))
            return self._client


def _cause(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__

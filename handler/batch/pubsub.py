"""Pub/Sub, from the requester's side: the only module here that talks to it, with google-cloud-pubsub's own clients.

Requests are published with the generated client and without its retries: a retry of a publish whose confirmation was
lost makes a second message, which the model would be paid for again. Responses come over the library's streaming pull.
"""

import os
import queue
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

import google.auth
import grpc
from google.api_core import exceptions
from google.auth.exceptions import DefaultCredentialsError
from google.cloud import pubsub_v1
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport
from google.pubsub_v1.types import PublishRequest, PubsubMessage

from handler.batch.errors import CannotRun

MAX_BATCH_MESSAGES = 500  # of the 1,000 that a publish request may have: what a kill leaves unsure should be little
MAX_BATCH_BYTES = 9_000_000  # of 10,000,000; a larger message goes alone
_PUBLISH_SECONDS = 60.0
_CONNECT_SECONDS = 60.0
# Answers that are held before they are on the disk: enough that none waits for another, and bounded in bytes.
_FLOW = {"max_messages": 5_000, "max_bytes": 64 << 20, "max_lease_duration": 3_600}
_OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.keepalive_time_ms", 30_000),
]
_Request = PublishRequest.pb()
_Message = PubsubMessage.pb()

# Refusals: Pub/Sub has not taken the messages.
_LATER = (exceptions.ResourceExhausted, exceptions.Aborted)
_NEVER = (exceptions.InvalidArgument, exceptions.FailedPrecondition)
_NOT_ALLOWED = (exceptions.PermissionDenied, exceptions.Unauthenticated, exceptions.NotFound)


class NotTaken(Exception):
    """Pub/Sub took none of the messages. `worth_a_retry` tells whether it may take them later."""

    def __init__(self, cause: Exception, *, worth_a_retry: bool) -> None:
        super().__init__(str(cause))
        self.worth_a_retry = worth_a_retry


class OutcomeUnknown(Exception):
    """The messages were sent, and no confirmation came: they may have been published, or not."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to be published."""

    data: bytes
    attributes: Mapping[str, str]


def emulated() -> bool:
    """Whether Pub/Sub is a local one."""
    return bool(os.environ.get("PUBSUB_EMULATOR_HOST"))


def default_project() -> str:
    """The project of names that have none. Raises CannotRun."""
    project = os.environ.get("GOOGLE_CLOUD_PROJECT") or ("local" if emulated() else None)
    if not project:
        with suppress(DefaultCredentialsError):
            project = google.auth.default()[1]
    if not project:
        raise CannotRun("which project? Give --project, or set GOOGLE_CLOUD_PROJECT, or write projects/ID/topics/NAME")
    return str(project)


def full_name(kind: str, name: str, project: str | None) -> str:
    """projects/ID/topics/NAME of a topic's (or a subscription's) short or full name."""
    return name if name.startswith("projects/") else f"projects/{project or default_project()}/{kind}/{name}"


def project_of(full: str) -> str:
    """The project in a full name."""
    return full.split("/")[1]


def _channel() -> grpc.Channel:
    return grpc.insecure_channel(os.environ["PUBSUB_EMULATOR_HOST"], options=_OPTIONS)


def _client(client: Any, transport: Any) -> Any:
    """A client of the real service or, with gRPC's limits on a message's size lifted, of a local one."""
    try:
        return client(transport=transport(channel=_channel())) if emulated() else client()
    except DefaultCredentialsError:
        raise CannotRun("no Google Cloud credentials: run `gcloud auth application-default login`") from None


class Topic:
    """A topic to publish to."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._client = _client(pubsub_v1.PublisherClient, PublisherGrpcTransport)
        self._metadata = (("x-goog-request-params", f"topic={name}"),)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.stop()
        self._client.transport.close()

    def connected(self, seconds: float) -> bool:
        """Wait for a connection; whether there is one."""
        try:
            grpc.channel_ready_future(self._client.transport.grpc_channel).result(timeout=seconds)
        except grpc.FutureTimeoutError:
            return False
        return True

    def publish(self, messages: Sequence[Outgoing]) -> list[str]:
        """Publish in one request, and return the message ids.

        Raises NotTaken, OutcomeUnknown, or CannotRun where the topic is not there or not allowed.
        """
        try:
            reply = self._client.transport.publish(
                self._raw(messages), timeout=_PUBLISH_SECONDS, metadata=self._metadata, wait_for_ready=True
            )
        except grpc.RpcError as error:
            raise self._meaning(exceptions.from_grpc_error(error)) from None
        return list(reply.message_ids)

    def _raw(self, messages: Sequence[Outgoing]) -> Any:
        made = [_Message(data=each.data, attributes=each.attributes) for each in messages]
        return _Request(topic=self.name, messages=made)

    def _meaning(self, error: exceptions.GoogleAPICallError) -> Exception:
        if isinstance(error, _NOT_ALLOWED):
            return CannotRun(f"{self.name} takes no publish from you: {error.message}.\n{_ASK_PUBLISH}")
        if isinstance(error, _LATER + _NEVER):
            return NotTaken(error, worth_a_retry=isinstance(error, _LATER))
        return OutcomeUnknown(f"{type(error).__name__}: {error.message}")


_ASK_PUBLISH = (
    "Ask your platform team for its name, and for roles/pubsub.publisher on it (Terraform: the variable `requesters`)."
)
_ASK_SUBSCRIPTION = (
    "Ask your platform team for a subscription of your own to {topic}, with roles/pubsub.subscriber for you "
    "(Terraform: the variable `response_subscriptions`), and give its name with --subscription. Or ask for "
    "roles/pubsub.editor in the project, so that each batch can make its own and delete it."
)


def batch_filter(batch_id: str) -> str:
    """The filter of a subscription that has one batch's responses."""
    return f'attributes.batch_id = "{batch_id}"'


class Subscription:
    """A subscription to read from."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._client = _client(pubsub_v1.SubscriberClient, SubscriberGrpcTransport)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def create(self, topic: str, only: str) -> None:
        """Make it, with a filter, unless it is there. Raises CannotRun."""
        request = {"name": self.name, "topic": topic, "filter": only, "ack_deadline_seconds": 60}
        try:
            self._client.create_subscription(request=request, timeout=_CONNECT_SECONDS)
        except exceptions.AlreadyExists:
            return
        except exceptions.NotFound as error:
            raise CannotRun(f"no such topic for responses: {error.message}. Give its name with --responses.") from None
        except (exceptions.PermissionDenied, exceptions.Unauthenticated) as error:
            advice = _ASK_SUBSCRIPTION.format(topic=topic)
            raise CannotRun(f"you may not make a subscription: {error.message}.\n{advice}") from None
        except (exceptions.GoogleAPICallError, exceptions.RetryError) as error:
            raise CannotRun(f"no connection to Pub/Sub: {error}") from None

    def delete(self) -> None:
        """Delete it, if it is there and may be deleted."""
        with suppress(exceptions.GoogleAPICallError, exceptions.RetryError):
            self._client.delete_subscription(subscription=self.name, timeout=_CONNECT_SECONDS)

    def messages(self) -> "Messages":
        """Begin to read."""
        return Messages(self._client, self.name)


class Messages:
    """Messages as they come, each to be acked, nacked or dropped. Flow control bounds those that are held."""

    def __init__(self, client: Any, name: str) -> None:
        self._name = name
        self._received: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._stream = client.subscribe(
            name, callback=self._received.put, flow_control=pubsub_v1.types.FlowControl(**_FLOW)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.cancel()
        with suppress(Exception):  # why it ended was told by `next_ones`
            self._stream.result(timeout=30)

    def next_ones(self, most: int, seconds: float) -> list[Any]:
        """Up to `most` messages, or none when `seconds` have passed. Raises CannotRun where it cannot be read."""
        taken: list[Any] = list(self._available(1, seconds))
        taken += self._available(most - 1, 0.0) if taken else ()
        if not taken and self._stream.done():
            self._say_why()
        return taken

    def _available(self, most: int, seconds: float) -> Iterator[Any]:
        with suppress(queue.Empty):
            for _ in range(most):
                yield self._received.get(timeout=seconds) if seconds else self._received.get_nowait()

    def _say_why(self) -> None:
        try:
            self._stream.result(timeout=0)
        except FutureTimeout:
            return
        except exceptions.NotFound:
            raise CannotRun(f"{self._name} does not exist (any more): its answers cannot be read") from None
        except Exception as error:  # noqa: BLE001 - whatever ended the stream, the person should read it
            raise CannotRun(f"{self._name} cannot be read: {error}") from None
        raise CannotRun(f"{self._name}: the stream of answers ended")

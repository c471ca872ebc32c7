"""Pub/Sub, from the requester's side: the only module here that talks to it, with google-cloud-pubsub's own clients.

Requests are published with the generated client and without its retries: a retry of a publish whose confirmation was
lost makes a second message, which the model would be paid for again.
"""

import os
import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Self

import grpc
from google.api_core import exceptions, retry
from google.auth.exceptions import DefaultCredentialsError
from google.cloud import pubsub_v1
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport
from google.pubsub_v1.types import PublishRequest, PubsubMessage

from handler.batch.errors import CannotRun, NotAcked, NotTaken, OutcomeUnknown
from handler.batch.names import emulated

MAX_BATCH_MESSAGES = 500  # of the 1,000 that a publish request may have: what a kill leaves unsure should be little
MAX_BATCH_BYTES = 9_000_000  # of 10,000,000; a larger message goes alone
_PUBLISH_SECONDS = 60.0
_CONNECT_SECONDS = 60.0
LEASE_SECONDS = 30  # of a batch's own subscription: what a killed process had pulled comes again after these
# The longest retention there is; a request and then its answer wait for twice that, after which none can be left.
_KEPT = {"message_retention_duration": timedelta(days=31), "expiration_policy": {"ttl": timedelta(days=63)}}
_PULLS_AT_ONCE = 4
MOST_PULLED, _MOST_ACKS = 1_000, 1_000
_PULL_SECONDS = 5.0
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.2, 10.0
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
# An ack may be repeated whatever became of it.
_REPEATED = retry.if_exception_type(exceptions.ServerError, *_LATER)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to be published."""

    data: bytes
    attributes: Mapping[str, str]
    ordering_key: str = ""


def _client(client: Any, transport: Any) -> Any:
    """A client of the real service or, with gRPC's limits on a message's size lifted, of a local one."""
    try:
        if not emulated():
            return client()
    except DefaultCredentialsError:
        raise CannotRun("no Google Cloud credentials: run `gcloud auth application-default login`") from None
    channel = grpc.insecure_channel(os.environ["PUBSUB_EMULATOR_HOST"], options=_OPTIONS)
    return client(transport=transport(channel=channel))


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
        with suppress(grpc.FutureTimeoutError):
            grpc.channel_ready_future(self._client.transport.grpc_channel).result(timeout=seconds)
            return True
        return False

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
        made = [_Message(data=one.data, attributes=one.attributes, ordering_key=one.ordering_key) for one in messages]
        return _Request(topic=self.name, messages=made)

    def _meaning(self, error: exceptions.GoogleAPICallError) -> Exception:
        if isinstance(error, _NOT_ALLOWED):
            return CannotRun(f"{self.name} takes no publish from you: {error.message}.\n{_ASK_PUBLISH}{_if_local()}")
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


def _if_local() -> str:
    """What to look at where the Pub/Sub that is away, or lacks a name, is meant to be a local one."""
    address = os.environ.get("PUBSUB_EMULATOR_HOST")
    local = f"\nPUBSUB_EMULATOR_HOST is {address}. Is `make up` running there? Its topics are in the project `local`."
    return local if address else ""


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
        """Make it, with a filter; one that is there keeps as much from now on, if that is allowed. Raises CannotRun."""
        request = {"name": self.name, "topic": topic, "filter": only, "ack_deadline_seconds": LEASE_SECONDS}
        try:
            self._make(request)
        except exceptions.AlreadyExists:
            self._keep_for_longer()
        except exceptions.NotFound as error:
            advice = f"Give its name with --responses.{_if_local()}"
            raise CannotRun(f"no such topic for responses: {error.message}. {advice}") from None
        except (exceptions.PermissionDenied, exceptions.Unauthenticated) as error:
            advice = _ASK_SUBSCRIPTION.format(topic=topic)
            raise CannotRun(f"you may not make a subscription: {error.message}.\n{advice}") from None
        except (exceptions.GoogleAPICallError, exceptions.RetryError) as error:
            raise CannotRun(f"no subscription could be made: {error}{_if_local()}") from None

    def _make(self, request: Mapping[str, Any]) -> None:
        try:
            self._client.create_subscription({**request, **_KEPT}, timeout=_CONNECT_SECONDS)
        except exceptions.InvalidArgument:
            if not emulated():  # Google's emulator keeps nothing for so long
                raise
            self._client.create_subscription(request, timeout=_CONNECT_SECONDS)

    def _keep_for_longer(self) -> None:
        change = {"subscription": {"name": self.name, **_KEPT}, "update_mask": {"paths": list(_KEPT)}}
        with suppress(exceptions.GoogleAPICallError, exceptions.RetryError):
            self._client.update_subscription(change, timeout=_CONNECT_SECONDS)

    def delete(self) -> None:
        """Delete it, if it is there and may be deleted."""
        with suppress(exceptions.GoogleAPICallError, exceptions.RetryError):
            self._client.delete_subscription(subscription=self.name, timeout=_CONNECT_SECONDS)

    def messages(self, most: int = MOST_PULLED) -> "Messages":
        """Begin to read, so many at once at most."""
        return Messages(self._client, self.name, most)

    def see(self, seconds: float = _PULL_SECONDS, *, by_reader: bool = True) -> None:
        """See, in so many seconds, that it can be read, or is there, before answers are paid for. Raises CannotRun."""
        messages, fatal = self.messages(), _NOT_ALLOWED + _NEVER if by_reader else (exceptions.NotFound, *_NEVER)
        try:
            reply = self._client.pull(subscription=self.name, max_messages=1, retry=None, timeout=seconds)
        except fatal as error:
            raise messages.meaning(error) from None
        except exceptions.GoogleAPICallError:  # none waits, or Pub/Sub is away, which the work waits out
            return
        messages.lease([_received(each) for each in type(reply).pb(reply).received_messages], 0)


@dataclass(frozen=True, slots=True)
class Received:
    """A message that was pulled."""

    ack_id: str
    data: bytes
    attributes: Mapping[str, str]
    ordering_key: str
    message_id: str
    published: float  # seconds since 1970


class Messages:
    """Messages as they come, pulled by a few threads into a short queue, which bounds what is held.

    The library's streaming pull would extend leases for as long as a message is worked on. Here who takes them settles
    them or extends their leases, and what a killed process has left comes again `LEASE_SECONDS` after its last word.
    """

    def __init__(self, client: Any, name: str, most: int) -> None:
        self._client, self.name, self._most = client, name, most
        self._pulled: queue.Queue[list[Received]] = queue.Queue(_PULLS_AT_ONCE)
        self._ended = threading.Event()
        self._left: list[Received] = []
        self._threads = [threading.Thread(target=self._pull, name="pull", daemon=True) for _ in range(_PULLS_AT_ONCE)]
        self._failure: exceptions.GoogleAPICallError | None = None

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    def next_ones(self, enough: int, seconds: float) -> list[Received]:
        """At least `enough` messages if so many wait, or none when `seconds` pass. Raises CannotRun."""
        taken: list[Received] = []
        with suppress(queue.Empty):
            taken += self._pulled.get(timeout=seconds) if seconds else self._pulled.get_nowait()
            while len(taken) < enough:
                taken += self._pulled.get_nowait()
        if not taken and self._failure:
            raise self.meaning(self._failure)
        return taken

    def stop(self) -> list[Received]:
        """Pull no more; what was pulled and not taken. Within the seconds of a pull."""
        self._ended.set()
        for thread in self._threads:
            thread.join()
        while not self._pulled.empty():
            self._left += self._pulled.get_nowait()
        return self._left

    def ack(self, received: Sequence[Received]) -> None:
        """Acknowledge, for a minute if need be. Raises NotAcked where some may come again, after all were tried."""
        again, failure = retry.Retry(_REPEATED, timeout=_CONNECT_SECONDS), ""
        for ack_ids in _ack_ids(received):
            request = {"subscription": self.name, "ack_ids": ack_ids}
            try:
                self._client.acknowledge(request, retry=again, timeout=_CONNECT_SECONDS)
            except (exceptions.GoogleAPICallError, exceptions.RetryError) as error:
                failure = str(error)
        if failure:
            raise NotAcked(failure)

    def lease(self, received: Sequence[Received], seconds: int) -> None:
        """Have them for so long from now; 0 gives them back."""
        for ack_ids in _ack_ids(received):
            request = {"subscription": self.name, "ack_ids": ack_ids, "ack_deadline_seconds": seconds}
            with suppress(exceptions.GoogleAPICallError, exceptions.RetryError):
                self._client.modify_ack_deadline(request, timeout=_CONNECT_SECONDS)

    def meaning(self, error: exceptions.GoogleAPICallError) -> CannotRun:
        """Why it cannot be read, and what to do."""
        if isinstance(error, exceptions.NotFound):
            return CannotRun(f"{self.name} does not exist (any more): see that name and project are right{_if_local()}")
        advice = "\nAsk your platform team for roles/pubsub.subscriber on it." if error.code == 403 else ""
        return CannotRun(f"{self.name} cannot be read: {error.message}{advice}")

    def _pull(self) -> None:
        request = {"subscription": self.name, "max_messages": self._most}
        pause = 0.0
        while not self._ended.wait(pause):
            try:
                reply = self._client.pull(request, retry=None, timeout=_PULL_SECONDS)
            except exceptions.DeadlineExceeded:
                pause = 0.0
            except _NOT_ALLOWED + _NEVER as error:
                self._failure = error
                return
            except exceptions.GoogleAPICallError:
                pause = min(2 * pause + _FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS)
            except ValueError:  # the channel was closed meanwhile
                return
            else:
                pause = 0.0
                self._put([_received(each) for each in type(reply).pb(reply).received_messages])

    def _put(self, received: list[Received]) -> None:
        """Wait for room in the queue, unless nobody takes from it any more."""
        while not self._ended.is_set():
            with suppress(queue.Full):
                self._pulled.put(received, timeout=1.0)
                return
        self._left += received


def _ack_ids(received: Sequence[Received]) -> Iterator[list[str]]:
    for start in range(0, len(received), _MOST_ACKS):
        yield [each.ack_id for each in received[start : start + _MOST_ACKS]]


def _received(pulled: Any) -> Received:
    message = pulled.message
    published = message.publish_time.seconds + message.publish_time.nanos / 1e9
    attributes = dict(message.attributes)
    return Received(pulled.ack_id, message.data, attributes, message.ordering_key, message.message_id, published)

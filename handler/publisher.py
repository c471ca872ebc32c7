"""The response topic: the only module of the service that talks to Pub/Sub.

google-cloud-pubsub makes the connection and knows the messages; what is published goes straight to its method, since
the library's batching client starts a thread for each batch and hands every message over between three.
"""

import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field, replace
from typing import Any, Self

import google.auth
import google.auth.exceptions
import grpc
from google.api_core import exceptions
from google.api_core.gapic_v1.routing_header import to_grpc_metadata
from google.api_core.retry import Retry, if_exception_type
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.types import PublishRequest, PublishResponse, PubsubMessage

from handler import greenlets
from handler.frames import let_go
from handler.rules import strictjson
from handler.rules.message.attributes import MAX_ATTRIBUTES

MAX_REQUEST_BYTES = 10_000_000  # https://cloud.google.com/pubsub/quotas#resource_limits
MAX_BATCH_MESSAGES = 1_000  # the same page
BATCH_BYTES = MAX_REQUEST_BYTES - 2 * 1024  # and the topic
# Requests under way at once. Each takes one of the few native threads that everything which blocks shares; what comes
# while all are under way shares the next one.
SENDERS = 6
# Shortly after a request, what comes next waits for this long to share one: a request costs as much as ten messages.
# A message that comes alone is sent at once.
BATCH_SECONDS = 0.005

_OPTIONS = [("grpc.max_send_message_length", -1), ("grpc.keepalive_time_ms", 30_000)]

# The raw classes: proto-plus, which the library wraps around them, costs more than the rest of a publish.
_Request = PublishRequest.pb()
_Response = PublishResponse.pb()
_Message = PubsubMessage.pb()

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
    """What is published: JSON as bytes, attributes within Pub/Sub's limits, an ordering key or none.

    `topic` is where, if that is not the publisher's own; it is not kept.
    """

    data: bytes = field(repr=False)
    attributes: Mapping[str, str] = field(default_factory=dict, repr=False)
    ordering_key: str = ""
    topic: str = ""

    def within(self, context: Mapping[str, str]) -> Self:
        """The message with its place in a trace (W3C's names) as Google's clients hand it on, if there is room."""
        if not context or len(self.attributes) + len(context) > MAX_ATTRIBUTES:
            return self
        handed_on = {f"googclient_{name}": value for name, value in context.items()}
        return replace(self, attributes={**self.attributes, **handed_on})

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
    """Publishes, to its topic or to the one that a message names, and waits for the confirmation.

    It connects at the first publish, in the process that publishes: gRPC does not survive a fork.
    """

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._outbox = _Outbox()

    def fits(self, message: OutgoingMessage) -> bool:
        """Whether a publish request can hold the message."""
        if len(message.data) < MAX_REQUEST_BYTES // 2:  # what else there is has limits of its own
            return True
        size: int = _Request(topic=message.topic or self._topic, messages=[_raw(message)]).ByteSize()
        return size <= MAX_REQUEST_BYTES

    def publish(self, message: OutgoingMessage, seconds: float) -> str:
        """Publish within `seconds` and return the confirmed message's id.

        Raises PublishFailed or PublishRefused, and ResponseTooLarge where `fits` denies it.
        """
        if not self.fits(message):
            raise ResponseTooLarge
        try:
            return self._outbox.send(message.topic or self._topic, _raw(message), seconds)
        except Exception as error:  # noqa: BLE001 - whatever it is, the message is not published
            raise (error if isinstance(error, PublishFailed | PublishRefused) else _failure(error)) from None


def _raw(message: OutgoingMessage) -> Any:
    return _Message(data=message.data, attributes=message.attributes, ordering_key=message.ordering_key)


@dataclass(frozen=True, slots=True)
class _Publish:
    """A message on its way; `until` is when its publisher gives up, on the monotonic clock."""

    topic: str
    message: Any
    until: float
    outcome: "Future[str]" = field(default_factory=Future)

    @property
    def is_alone(self) -> bool:
        """Messages of one ordering key have to be sent in order, and one that fails holds up the others."""
        return bool(self.message.ordering_key)

    @property
    def size(self) -> int:
        """Its bytes in a request."""
        return int(self.message.ByteSize()) + 16  # and its frame


class _Outbox:
    """Messages that wait to be sent together, and the few threads that send them."""

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[_Publish] = queue.SimpleQueue()
        self._next: _Publish | None = None  # taken out, but left for the next request
        self._batches: deque[Sequence[_Publish]] = deque()  # collected together, for a sender each
        self._collecting = threading.Lock()
        self._sent_at = 0.0
        self._channel = _Channel()
        self._senders: list[threading.Thread] = []
        self._starting = threading.Lock()

    def send(self, topic: str, message: Any, seconds: float) -> str:
        """The id of the published message; raises what kept it from being published."""
        publish = _Publish(topic, message, time.monotonic() + seconds)
        if not self._senders:
            self._start()
        self._waiting.put(publish)
        try:
            return publish.outcome.result(seconds)
        except FutureTimeoutError:
            if publish.outcome.cancel():  # nobody has begun to send it
                raise
            return publish.outcome.result()  # its request ends now, too
        finally:
            del publish  # or what is raised and it hold each other, and a response of 10 MB

    def _start(self) -> None:
        with self._starting:
            if not self._senders:
                self._senders = [threading.Thread(target=self._run, daemon=True) for _ in range(SENDERS)]
                for sender in self._senders:
                    sender.start()

    def _run(self) -> None:
        while True:
            with self._collecting:
                batch = self._next_batch()
            self._send([one for one in batch if one.outcome.set_running_or_notify_cancel()])
            del batch  # while it waits for the next

    def _next_batch(self) -> Sequence[_Publish]:
        """What shares the next request. A topic that is slow holds up no other that was collected with it."""
        if not self._batches:
            self._batches.extend(_by_topic(self._collect()))
        batch, rest = _alike(self._batches.popleft(), time.monotonic())
        if rest:
            self._batches.appendleft(rest)
        return batch

    def _collect(self) -> Sequence[_Publish]:
        """What shares the next request, or one for each topic; waits for the first.

        What does not fit is left to another sender, which need not wait for this one.
        """
        first, self._next = self._next or self._waiting.get(), None
        if first.is_alone:
            return [first]
        pause = self._sent_at + BATCH_SECONDS - time.monotonic()
        if pause > 0:
            time.sleep(pause)
        self._sent_at = time.monotonic()
        collected, room = [first], BATCH_BYTES - first.size
        while not self._waiting.empty() and self._next is None:
            one = self._waiting.get()
            room -= one.size
            if one.is_alone or room < 0 or len(collected) == MAX_BATCH_MESSAGES:
                self._next = one
            else:
                collected.append(one)
        return collected

    def _send(self, batch: Sequence[_Publish]) -> None:
        now = time.monotonic()
        batch = _in_time(batch, now)
        if not batch:
            return
        try:
            ids = self._request(batch, now)
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must hear of it
            let_go(error)
            if len(batch) > 1 and isinstance(error, exceptions.InvalidArgument):
                for one in sorted(batch, key=lambda each: each.until):  # perhaps for another message among them
                    self._send([one])
            else:
                for one in batch:
                    one.outcome.set_exception(_failure(error))
        else:
            for one, message_id in zip(batch, ids, strict=True):
                one.outcome.set_result(message_id)

    def _request(self, batch: Sequence[_Publish], now: float) -> Sequence[str]:
        """Publish in time for all of the batch. It must be settled then, or what was given up on arrives later."""
        left = min(one.until for one in batch) - now
        request = _Request(topic=batch[0].topic, messages=[one.message for one in batch])
        # A last try may begin just before the retries' time is up and then take its own: together what is left.
        retry = Retry(predicate=_TRANSIENT, initial=0.1, maximum=2.0, timeout=left / 2, on_error=let_go)
        return retry(self._channel.publish)(request, left / 2)


class _Channel:
    """The connection to Pub/Sub, made when it is first wanted."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._method: Callable[..., Any] | None = None

    def publish(self, request: Any, seconds: float) -> Sequence[str]:
        """The ids of the request's messages. Raises google.api_core's exceptions, and google-auth's."""
        method = self._method or self._connected(seconds)
        metadata = (to_grpc_metadata({"topic": request.topic}),)
        try:
            response = method(request, timeout=seconds, metadata=metadata)
        except grpc.RpcError as error:
            raise exceptions.from_grpc_error(error) from None
        if len(response.message_ids) != len(request.messages):
            raise exceptions.Unknown("Pub/Sub confirmed another number of messages than it was sent")
        return list(response.message_ids)

    def _connected(self, seconds: float) -> Callable[..., Any]:
        try:
            with greenlets.Deadline(seconds), self._lock:
                if self._method is None:
                    greenlets.prepare_grpc()
                    self._method = _channel().unary_unary(
                        "/google.pubsub.v1.Publisher/Publish",
                        request_serializer=_Request.SerializeToString,
                        response_deserializer=_Response.FromString,
                    )
                return self._method
        except greenlets.DeadlinePassed:  # a metadata server that is silent is asked for longer
            raise google.auth.exceptions.DefaultCredentialsError from None


def _by_topic(publishes: Sequence[_Publish]) -> Iterable[Sequence[_Publish]]:
    topics: dict[str, list[_Publish]] = {}
    for publish in publishes:
        topics.setdefault(publish.topic, []).append(publish)
    return topics.values()


def _alike(batch: Sequence[_Publish], now: float) -> tuple[Sequence[_Publish], Sequence[_Publish]]:
    """Those of a batch that share a request, and the rest. Who has the least time left shares with up to twice that.

    A request has the least time that one of its messages has: one that is nearly late would leave none to the others.
    """
    if len(batch) == 1:
        return batch, ()
    least = min(one.until for one in batch) - now
    latest = now + max(2 * least, 0)
    return [one for one in batch if one.until <= latest], [one for one in batch if one.until > latest]


def _in_time(batch: Sequence[_Publish], now: float) -> Sequence[_Publish]:
    """Those that have time left. The publishers of the others hear that theirs is up."""
    for one in batch:
        if one.until <= now:
            one.outcome.set_exception(_failure(exceptions.DeadlineExceeded("its turn came too late")))
    return [one for one in batch if one.until > now]


def _channel() -> Any:
    """A connection to the real service or, as Google's clients do it, to PUBSUB_EMULATOR_HOST.

    Not by way of a client, whose connection asks before and after each request whether it should be logged.
    """
    emulator = os.environ.get("PUBSUB_EMULATOR_HOST")
    if emulator:
        return grpc.insecure_channel(emulator, _OPTIONS)
    credentials, _ = google.auth.default(scopes=PublisherGrpcTransport.AUTH_SCOPES)
    host = f"pubsub.{credentials.universe_domain}:443"
    return PublisherGrpcTransport.create_channel(host, credentials=credentials, options=_OPTIONS)


# What an operator can do about it. Pub/Sub's own text may quote what was published, so it is not passed on.
_HINTS: Mapping[type[Exception] | tuple[type[Exception], ...], str] = {
    exceptions.NotFound: "there is no such topic: see RESPONSE_TOPIC",
    exceptions.PermissionDenied: "the service account may not publish there: it needs roles/pubsub.publisher",
    exceptions.Unauthenticated: "the service has no valid credentials",
    exceptions.InvalidArgument: "Pub/Sub does not take it: has the topic a schema?",
    (exceptions.ServiceUnavailable, exceptions.DeadlineExceeded): "is there a way to Pub/Sub, or to "
    "PUBSUB_EMULATOR_HOST where it is set?",
    FutureTimeoutError: "no request could be begun in time: Pub/Sub is slow or away",
    google.auth.exceptions.DefaultCredentialsError: "no application default credentials could be had",
}


def _failure(error: Exception) -> PublishFailed | PublishRefused:
    """What a publisher is told: the error's kind and a hint, never its text. Each is told by an error of its own."""
    cause = error.cause if isinstance(error, exceptions.RetryError) else error
    hint = next((f": {hint}" for kind, hint in _HINTS.items() if isinstance(cause, kind)), "")
    kind = PublishRefused if isinstance(error, exceptions.InvalidArgument) else PublishFailed
    return kind(type(cause).__name__ + hint)

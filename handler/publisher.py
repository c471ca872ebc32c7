"""The response topic: the only module of the service that talks to Pub/Sub.

google-cloud-pubsub makes the connection; the requests are made here. The library's own batching client starts a thread
for each batch, and hands every message over between three: several times the work of all the rest.
"""

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self

import google.auth
import grpc
from google.api_core import exceptions
from google.api_core.gapic_v1.routing_header import to_grpc_metadata
from google.api_core.retry import AsyncRetry, if_exception_type
from google.pubsub_v1.services.publisher.transports import PublisherGrpcAsyncIOTransport
from google.pubsub_v1.types import PublishRequest, PublishResponse, PubsubMessage

from handler import eventloop, strictjson

MAX_REQUEST_BYTES = 10_000_000  # https://cloud.google.com/pubsub/quotas#resource_limits
MAX_BATCH_MESSAGES = 1_000  # the same page
# Shortly after a request, what comes next waits for this long to share one: a request costs as much as ten messages.
# A message that comes alone is sent at once.
BATCH_SECONDS = 0.002
_RETRY_SECONDS = 0.1  # before the second try; doubled each time

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

    It connects at the first publish, in the process that publishes: gRPC does not survive a fork.
    """

    def __init__(self, topic: str, seconds: float) -> None:
        self._topic = topic
        self._outbox = _Outbox(topic, seconds)

    def fits(self, message: OutgoingMessage) -> bool:
        """Whether a publish request can hold the message."""
        if len(message.data) < MAX_REQUEST_BYTES // 2:  # what else there is has limits of its own
            return True
        size: int = _Request(topic=self._topic, messages=[_raw(message)]).ByteSize()
        return size <= MAX_REQUEST_BYTES

    def publish(self, message: OutgoingMessage) -> str:
        """Publish and return the confirmed message's id.

        Raises PublishFailed or PublishRefused, within the seconds given (twice them, where what it was sent with was
        refused), and ResponseTooLarge where `fits` denies it.
        """
        if not self.fits(message):
            raise ResponseTooLarge
        raw = _raw(message)
        outcome: str | Exception = eventloop.get().wait(partial(self._outbox.put, raw))
        if isinstance(outcome, exceptions.InvalidArgument):
            raise PublishRefused(_cause(outcome))
        if isinstance(outcome, Exception):
            raise PublishFailed(_cause(outcome))
        return outcome


def _raw(message: OutgoingMessage) -> Any:
    return _Message(data=message.data, attributes=message.attributes, ordering_key=message.ordering_key)


@dataclass(frozen=True, slots=True)
class _Publish:
    """A message on its way. `done` takes its id, or the error that keeps it from being published."""

    message: Any
    done: Callable[[str | Exception], None]


class _Outbox:
    """Messages that wait to be sent together. The loop's thread's alone."""

    def __init__(self, topic: str, seconds: float) -> None:
        self._topic = topic
        self._seconds = seconds
        self._metadata = (to_grpc_metadata({"topic": topic}),)
        self._waiting: list[_Publish] = []
        self._sent_at = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._connection: asyncio.Task[_Call] | None = None
        self._call: _Call | None = None

    def put(self, message: Any, done: Callable[[str | Exception], None]) -> None:
        """Send a message, with whatever else is put at this moment."""
        if message.ordering_key:  # in a request of its own: messages of one key have to be sent in order
            self._start(self._send_alone(_Publish(message, done)))
            return
        self._waiting.append(_Publish(message, done))
        if len(self._waiting) == 1:
            pause = self._sent_at + BATCH_SECONDS - time.monotonic()
            eventloop.get().asyncio.call_later(max(0.0, pause), self._flush)

    def _flush(self) -> None:
        self._sent_at = time.monotonic()
        waiting, self._waiting = self._waiting, []
        for batch in batches(waiting, lambda one: one.message.ByteSize()):
            self._start(self._send(batch))

    def _start(self, sending: Any) -> None:
        task = eventloop.get().asyncio.create_task(sending)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self, batch: Sequence[_Publish]) -> None:
        try:
            ids = await self._request([one.message for one in batch])
        except exceptions.InvalidArgument:
            # The whole batch was refused, perhaps for another message in it.
            await asyncio.gather(*(self._send_alone(one) for one in batch))
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must hear of it
            for one in batch:
                one.done(error)
        else:
            for one, message_id in zip(batch, ids, strict=True):
                one.done(message_id)

    async def _send_alone(self, one: _Publish) -> None:
        try:
            (message_id,) = await self._request([one.message])
        except Exception as error:  # noqa: BLE001
            one.done(error)
        else:
            one.done(message_id)

    async def _request(self, messages: Sequence[Any]) -> Sequence[str]:
        """Publish within the seconds given. The outcome must be known then, or a publish given up on arrives later."""
        ends = time.monotonic() + self._seconds
        call = self._call or await self._connected()
        # A last try may begin just before the retries' time is up and then take its own: together what is left.
        half = max(0.001, ends - time.monotonic()) / 2
        once = partial(_once, call, _Request(topic=self._topic, messages=messages), half, self._metadata)
        try:
            return await once()  # without the retry's machinery, which most never need
        except exceptions.GoogleAPICallError as error:
            if not _TRANSIENT(error):
                raise
        await asyncio.sleep(_RETRY_SECONDS)
        left = max(0.001, ends - time.monotonic() - half)
        return await AsyncRetry(predicate=_TRANSIENT, initial=2 * _RETRY_SECONDS, maximum=2.0, timeout=left)(once)()

    async def _connected(self) -> "_Call":
        """The method to publish with. All that come while it is made wait for the same; a failure is not kept."""
        if self._connection is None or (self._connection.done() and self._connection.exception()):
            self._connection = eventloop.get().asyncio.create_task(_connect())
        async with asyncio.timeout(self._seconds / 2):
            self._call = await asyncio.shield(self._connection)
        return self._call


def batches(items: Sequence[Any], size: Callable[[Any], int]) -> Sequence[Sequence[Any]]:
    """Split into runs that each fit in one publish request; `size` tells an item's bytes."""
    runs: list[list[Any]] = []
    left = 0
    for item in items:
        needed = size(item) + 16  # and its frame
        if needed > left or len(runs[-1]) == MAX_BATCH_MESSAGES:
            runs.append([])
            left = MAX_REQUEST_BYTES - 2 * 1024  # and the topic
        runs[-1].append(item)
        left -= needed
    return runs


_Call = Callable[..., Any]  # publishes a request


async def _once(call: _Call, request: Any, seconds: float, metadata: Any) -> Sequence[str]:
    try:
        response = await call(request, timeout=seconds, metadata=metadata)
    except grpc.RpcError as error:
        raise exceptions.from_grpc_error(error) from None
    if len(response.message_ids) != len(request.messages):
        raise exceptions.Unknown("Pub/Sub confirmed another number of messages than it was sent")
    return list(response.message_ids)


async def _connect() -> _Call:
    channel = await _channel()
    return channel.unary_unary(  # type: ignore[no-any-return]
        "/google.pubsub.v1.Publisher/Publish",
        request_serializer=_Request.SerializeToString,
        response_deserializer=_Response.FromString,
    )


async def _channel() -> Any:
    """A connection to the real service or, as Google's clients do it, to PUBSUB_EMULATOR_HOST.

    Not by way of a client, whose connection asks before and after each request whether it should be logged.
    """
    emulator = os.environ.get("PUBSUB_EMULATOR_HOST")
    if emulator:
        return grpc.aio.insecure_channel(emulator, _OPTIONS)
    credentials, host = await asyncio.to_thread(_credentials)
    return PublisherGrpcAsyncIOTransport.create_channel(host, credentials=credentials, options=_OPTIONS)


def _credentials() -> tuple[Any, str]:
    """The credentials, and the host that they are for. Asks files and the metadata server, for both."""
    credentials, _ = google.auth.default(scopes=PublisherGrpcAsyncIOTransport.AUTH_SCOPES)
    return credentials, f"pubsub.{credentials.universe_domain}:443"


def _cause(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__

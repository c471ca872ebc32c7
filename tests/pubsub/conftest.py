"""Fixtures of the local Pub/Sub's tests: two brokers, an endpoint to push to, a loop whose time jumps."""

import asyncio
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
import pytest
from google.api_core.exceptions import NotFound
from google.pubsub_v1 import PublisherClient, SubscriberClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

from handler.local.pubsub import LocalPubSub, Rules
from tests.parts.pubsub import google_emulator

PATIENCE = 40  # seconds that an event may take before a test gives up


@dataclass
class Push:
    """One request that the endpoint got."""

    path: str
    headers: dict[str, str]
    body: bytes
    number: int
    abandoned: threading.Event = field(default_factory=threading.Event)

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.body)

    @property
    def message(self) -> dict[str, Any]:
        return self.json["message"]

    def attribute(self, name: str) -> str | None:
        return self.message.get("attributes", {}).get(name)


class Endpoint:
    """An HTTP server that keeps what it gets and answers what `answer` says: a status, or None to say nothing."""

    def __init__(self) -> None:
        self.pushes: list[Push] = []
        self.answer: Callable[[Push], int | None] = lambda _: 204
        self.changed = threading.Condition()
        self.busy = 0
        self.most_busy = 0
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                endpoint.handle(self)

            def do_GET(self) -> None:
                endpoint.handle(self)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 512

            def handle_error(self, *_: object) -> None:
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/push"

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("content-length", 0)))
        with self.changed:
            headers = {name.lower(): value for name, value in request.headers.items()}
            push = Push(request.path, headers, body, len(self.pushes))
            self.pushes.append(push)
            self.busy += 1
            self.most_busy = max(self.busy, self.most_busy)
            self.changed.notify_all()
        status = self.answer(push)
        with self.changed:
            self.busy -= 1
            self.changed.notify_all()
        if status is None:
            request.close_connection = True
            return
        location = f"Location: {self.url}/elsewhere\r\n" if 300 <= status < 400 else ""
        empty = "" if status < 200 or status == 204 else "Content-Length: 0\r\n"
        request.wfile.write(f"HTTP/1.1 {status} Status\r\n{location}{empty}\r\n".encode())
        request.close_connection = status < 200

    def wait(self, ready: Callable[[], Any], seconds: float = PATIENCE) -> bool:
        """Wait until `ready()`, which is looked at after every change."""
        with self.changed:
            return bool(self.changed.wait_for(ready, seconds))

    def wait_for(self, count: int) -> list[Push]:
        """Wait for so many pushes."""
        assert self.wait(lambda: len(self.pushes) >= count), f"{len(self.pushes)} of {count} pushes came"
        return list(self.pushes)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    made = Endpoint()
    yield made
    made.close()


@dataclass
class Remote:
    """A broker seen from outside: its address and clients of its API."""

    kind: str
    address: str
    shortest_deadline: int
    subscriptions: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._channel = grpc.insecure_channel(self.address, options=[("grpc.max_receive_message_length", -1)])
        self.publisher = PublisherClient(transport=PublisherGrpcTransport(channel=self._channel))
        self.subscriber = SubscriberClient(transport=SubscriberGrpcTransport(channel=self._channel))

    def topic(self) -> str:
        """Make a topic."""
        name = f"projects/p/topics/t-{uuid.uuid4().hex}"
        self.publisher.create_topic(name=name)
        return name

    def subscribe(self, topic: str, **config: Any) -> str:
        """Make a subscription; `push="URL"` is short for a push configuration."""
        name = f"projects/p/subscriptions/s-{uuid.uuid4().hex}"
        if url := config.pop("push", None):
            config.setdefault("push_config", {})["push_endpoint"] = url
        self.subscriber.create_subscription({"name": name, "topic": topic, **config})
        self.subscriptions.append(name)
        return name

    def end_subscriptions(self) -> None:
        """Nothing is delivered any more: an endpoint that is gone would be tried again and again for ever."""
        while self.subscriptions:
            with suppress(NotFound):
                self.subscriber.delete_subscription(subscription=self.subscriptions.pop())

    def publish(self, topic: str, *messages: dict[str, Any]) -> list[str]:
        """Publish messages in one request."""
        return list(self.publisher.publish(topic=topic, messages=messages).message_ids)

    def pull(self, subscription: str, count: int) -> list[Any]:
        """Pull until `count` messages came."""
        found: list[Any] = []
        end = time.monotonic() + PATIENCE
        while len(found) < count and time.monotonic() < end:
            answer = self.subscriber.pull(subscription=subscription, max_messages=count - len(found), timeout=PATIENCE)
            found += answer.received_messages
        assert len(found) == count
        return found

    def close(self) -> None:
        self._channel.close()


@pytest.fixture(scope="session")
def shared() -> list[Remote]:
    """The brokers that tests share, as far as they were started."""
    return []


@pytest.fixture(autouse=True)
def no_subscription_outlives_its_test(shared: list[Remote]) -> Iterator[None]:
    yield
    for remote in shared:
        remote.end_subscriptions()


@pytest.fixture(scope="session")
def google(shared: list[Remote]) -> Iterator[Remote]:
    """Google's emulator. Skipped where it is not installed, except in CI, where it has to be."""
    with google_emulator() as address:
        remote = Remote("google", address, 10)
        shared.append(remote)
        yield remote
        shared.remove(remote)
        remote.close()


@pytest.fixture(scope="session")
def ours(shared: list[Remote]) -> Iterator[Remote]:
    """Our broker. The push backoff, which has tests of its own, is off: these tests nack a lot."""
    with LocalPubSub(rules=Rules(push_backoff=False, shortest_ack_deadline=2, pull_wait=1)) as broker:
        remote = Remote("ours", broker.address, 2)
        remote.local = broker  # type: ignore[attr-defined]
        shared.append(remote)
        yield remote
        shared.remove(remote)
        remote.close()


@pytest.fixture
def connect() -> Iterator[Callable[[str], Remote]]:
    """Connect to a broker of the test's own."""
    made: list[Remote] = []

    def connect(address: str) -> Remote:
        made.append(Remote("ours", address, 10))
        return made[-1]

    yield connect
    for remote in made:
        remote.close()


@pytest.fixture(params=["ours", "google"])
def broker(request: pytest.FixtureRequest) -> Remote:
    """Each of the two brokers."""
    return request.getfixturevalue(request.param)


class JumpingLoop(asyncio.SelectorEventLoop):
    """A loop whose time stands still while there is work, and jumps to the next timer when there is none."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0

    def time(self) -> float:
        return self._now

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:  # type: ignore[attr-defined]
            self._now = max(self._now, self._scheduled[0].when())  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]


@pytest.fixture
def loop() -> Iterator[JumpingLoop]:
    """A loop in which hours pass in milliseconds."""
    made = JumpingLoop()
    yield made
    made.close()

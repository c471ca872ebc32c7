"""The broker as a whole: the gRPC server, a push loop for each push subscription, and a thread to run them in."""

import asyncio
import threading
import time
from dataclasses import dataclass, fields
from typing import Self

import grpc
import grpc.aio

from handler.local.pubsub.api import Api
from handler.local.pubsub.push import Pusher
from handler.local.pubsub.rules import Rules
from handler.local.pubsub.sender import Sender
from handler.local.pubsub.store import Store, Subscription

_OPTIONS = [
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.max_send_message_length", -1),
    ("grpc.so_reuseport", 0),
]
_START_SECONDS, _STOP_SECONDS = 10.0, 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """Counts since the start, over all subscriptions."""

    published: int = 0
    """Messages taken from publishers, and dead letters forwarded."""
    delivered: int = 0
    """Deliveries handed out, by push or pull."""
    redelivered: int = 0
    """Of these, deliveries of a message that had failed before."""
    pushed: int = 0
    """Pushes sent."""
    acked: int = 0
    nacked: int = 0
    expired: int = 0
    """Deliveries whose ack deadline passed."""
    late: int = 0
    """Acks and nacks for a delivery that was over; they changed nothing."""
    dead_lettered: int = 0


class Broker:
    """The broker, for a running event loop. Most use `LocalPubSub`."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0, rules: Rules | None = None) -> None:
        self.rules = rules or Rules()
        self.store = Store(self.rules, time.monotonic)
        self.store.on_subscription = self._follow
        self._host, self._port = host, port
        self._pushers: dict[str, asyncio.Task[None]] = {}

    @property
    def address(self) -> str:
        """host:port, for PUBSUB_EMULATOR_HOST."""
        return f"{self._host}:{self._port}"

    def stats(self) -> Stats:
        """The counts so far."""
        return Stats(**{each.name: self.store.counts[each.name] for each in fields(Stats)})

    async def start(self) -> None:
        """Listen. OSError when the port is taken."""
        self._sender = Sender()
        self._server = grpc.aio.server(options=_OPTIONS)
        self._server.add_generic_rpc_handlers(Api(self.store).handlers())
        try:
            self._port = self._server.add_insecure_port(self.address)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {self.address}: {error}") from None
        await self._server.start()

    async def stop(self) -> None:
        """Cut every call and every push."""
        await self._server.stop(None)
        pushers = list(self._pushers.values())
        for pusher in pushers:
            pusher.cancel()
        await asyncio.gather(*pushers, return_exceptions=True)
        await self._sender.close()

    def _follow(self, subscription: Subscription) -> None:
        """Start or end the push loop of a subscription that was made, changed or deleted."""
        name = subscription.config.name
        wanted = bool(subscription.config.push_config.push_endpoint) and not subscription.deleted
        if wanted and name not in self._pushers:
            pusher = Pusher(subscription, self._sender, self.rules, self.store.counts)
            self._pushers[name] = asyncio.create_task(pusher.run())
        elif not wanted and name in self._pushers:
            self._pushers.pop(name).cancel()


class LocalPubSub:
    """A broker in a thread of its own, for tests and for programs that are not asynchronous.

    with LocalPubSub() as broker:
        os.environ["PUBSUB_EMULATOR_HOST"] = broker.address
    """

    def __init__(self, port: int = 0, host: str = "127.0.0.1", rules: Rules | None = None) -> None:
        self._broker = Broker(host, port, rules)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="local-pubsub", daemon=True)

    @property
    def address(self) -> str:
        """host:port, for PUBSUB_EMULATOR_HOST."""
        return self._broker.address

    def stats(self) -> Stats:
        """The counts so far."""
        return self._broker.stats()

    def start(self) -> Self:
        """Listen. OSError when the port is taken."""
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._broker.start(), self._loop).result(_START_SECONDS)
        return self

    def stop(self) -> None:
        """Cut every call and every push, and forget everything."""
        asyncio.run_coroutine_threadsafe(self._broker.stop(), self._loop).result(_STOP_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_STOP_SECONDS)
        self._loop.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

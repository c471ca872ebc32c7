"""The broker as a whole: gRPC, REST and the tokens' certificates on one port, and a push loop for each subscription."""

import asyncio
import threading
from collections import Counter
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, fields
from typing import Any, Self, cast

import grpc.aio
from aiohttp import web

from handler.local.pubsub.api import rest
from handler.local.pubsub.api.grpc import Api, Calls, handlers
from handler.local.pubsub.api.port import Port
from handler.local.pubsub.core.rules import Rules
from handler.local.pubsub.core.store import Store
from handler.local.pubsub.core.subscription import Subscription
from handler.local.pubsub.faults import Faults
from handler.local.pubsub.push.loop import Pusher
from handler.local.pubsub.push.sender import Sender
from handler.local.pubsub.push.tokens import Tokens

_OPTIONS = {"grpc.max_receive_message_length": 64 << 20, "grpc.max_send_message_length": -1}
_OPTIONS["grpc.http2.max_ping_strikes"] = 0  # clients ping their long streams more often than gRPC's default allows
_CERTS = "/oauth2/v1/certs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """Counts since the start, over all subscriptions.

    `published` includes dead letters. `redelivered` are the deliveries, of all `delivered`, of a message that had
    failed before. `late` are acks and nacks of a delivery that was over; they changed nothing.
    """

    published: int
    delivered: int
    redelivered: int
    pushed: int
    acked: int
    nacked: int
    expired: int
    late: int
    dead_lettered: int


class Broker:
    """The broker, in a running event loop. `LocalPubSub` is for programs that are not asynchronous."""

    def __init__(self, port: int = 0, rules: Rules | None = None, host: str = "127.0.0.1") -> None:
        self.faults = Faults()
        self.push_answers: Counter[int] = Counter()
        """What pushes got, by the HTTP status; 0 where none came."""
        self._rules = rules or Rules()
        self._store = Store(self._rules)
        self._store.follow = self._follow
        self.watch = self._store.watch
        self._host, self._port = host, port
        self._tokens = Tokens()
        self.issuer = self._tokens.issuer
        self._pushers: dict[str, asyncio.Task[None]] = {}

    @property
    def address(self) -> str:
        """host:port, for PUBSUB_EMULATOR_HOST."""
        return f"{self._host}:{self._port}"

    @property
    def certs_url(self) -> str:
        """Where the certificates of the tokens' keys are served."""
        return f"http://{self.address}{_CERTS}"

    def stats(self) -> Stats:
        """Take the counts so far."""
        return Stats(**{each.name: self._store.counts[each.name] for each in fields(Stats)})

    def deliveries(self, subscription: str) -> Mapping[int, int]:
        """Of a subscription's acked messages, how many had been delivered how often. RefusedError if there is none."""
        return dict(self._store.subscription(subscription).deliveries)

    async def open(self) -> None:
        """Listen, and push what is to be pushed. OSError when the port is taken."""
        calls = Api(self._store, self.faults).calls()
        self._web = web.AppRunner(self._application(calls), access_log=None, shutdown_timeout=0.1)
        await self._web.setup()
        self._listener = Port(lambda: cast("web.Server", self._web.server)())
        self._server = grpc.aio.server(options=list(_OPTIONS.items()))
        self._server.add_generic_rpc_handlers(handlers(calls))
        self._server.add_insecure_port(f"unix:{self._listener.grpc_path}")
        await self._server.start()
        await self._listen()
        self._sender = Sender(self._tokens, self.push_answers, self.watch)
        for subscription in self._store.subscriptions.values():
            self._follow(subscription)

    async def _listen(self) -> None:
        try:
            self._port = await self._listener.listen(self._host, self._port)
        except OSError:
            await self._stop()
            raise OSError(f"cannot listen on {self.address}: end what listens there") from None

    async def _stop(self) -> None:
        await self._server.stop(None)
        await self._web.cleanup()
        self._listener.forget()

    async def close(self) -> None:
        """Cut every call and every push."""
        self._listener.close()
        await self._stop()
        pushers = list(self._pushers.values())
        self._pushers.clear()
        for pusher in pushers:
            pusher.cancel()
        await asyncio.gather(*pushers, return_exceptions=True)
        await self._sender.close()

    async def reopen(self) -> None:
        """Restart on the same ports; what was not acked is delivered again."""
        await self.close()
        for subscription in self._store.subscriptions.values():
            subscription.release()
        await self.open()

    def _follow(self, subscription: Subscription) -> None:
        """Start or end the push loop of a subscription that was made, changed or deleted."""
        name = subscription.config.name
        wanted = subscription.config.push_config.push_endpoint and not subscription.deleted
        if wanted and name not in self._pushers:
            pusher = Pusher(subscription, self.faults.pushing(self._sender), self._rules)
            self._pushers[name] = asyncio.create_task(pusher.run())
        elif not wanted and name in self._pushers:
            self._pushers.pop(name).cancel()
            subscription.release()

    def _application(self, calls: Calls) -> web.Application:
        certificates = self._tokens.certificates()

        async def answer(_: web.BaseRequest) -> web.Response:
            return web.json_response(certificates, headers={"Cache-Control": "public, max-age=3600"})

        app = rest.application(calls)
        app.router.add_get(_CERTS, answer)
        return app


class LocalPubSub(Broker):
    """A broker in a thread of its own: `with LocalPubSub() as broker: ...`."""

    def __enter__(self) -> Self:
        """Listen. OSError when the port is taken."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="local-pubsub", daemon=True)
        self._thread.start()
        try:
            self._run(self.open())
        except OSError:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Cut every call and every push, and forget everything."""
        self._run(self.close())
        self._end()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def restart(self) -> None:
        """Cut every connection and start again on the same ports; what was not acked is delivered again."""
        self._run(self.reopen())

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

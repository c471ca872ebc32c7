"""The push loop of one subscription: take, send, settle, as fast as the pace allows."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

from handler.local.pubsub.backlog import Delivery
from handler.local.pubsub.pace import Pace
from handler.local.pubsub.pb import Message
from handler.local.pubsub.rules import Rules
from handler.local.pubsub.store import Subscription

Send = Callable[[Delivery, Message], Awaitable[bool]]
"""Delivers one message to the endpoint of a subscription's configuration and says whether it was acked."""


class Pusher:
    """Pushes one subscription's messages until cancelled."""

    def __init__(self, subscription: Subscription, send: Send, rules: Rules, counts: Counter[str]) -> None:
        self._subscription = subscription
        self._send = send
        self._rules = rules
        self._counts = counts
        self._out: set[asyncio.Task[None]] = set()
        self.pace = Pace(rules)

    async def run(self) -> None:
        """Push for ever. Cancelling it cuts the pushes that are out."""
        try:
            while True:
                self._fill()
                await self._subscription.change(self._until())
        finally:
            for task in self._out:
                task.cancel()

    def _fill(self) -> None:
        while self.pace.allows(len(self._out), self._subscription.clock()):
            # A new holder for each push, so that no ordering key has two messages out.
            taken = self._subscription.take(object(), 1)
            if not taken:
                return
            self.pace.started(self._subscription.clock())
            task = asyncio.create_task(self._push(taken[0]))
            self._out.add(task)
            task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._out.discard(task)
        self._subscription.bell.ring()

    def _until(self) -> float:
        opens, now = self.pace.opens(), self._subscription.clock()
        return opens if opens > now else float("inf")

    async def _push(self, delivery: Delivery) -> None:
        self._counts["pushed"] += 1
        try:
            # The request timeout is the ack deadline: a later answer finds nobody who listens.
            async with asyncio.timeout(self._subscription.backlog.policy.ack_deadline):
                acked = await self._send(delivery, self._subscription.config)
        except TimeoutError:
            acked = False
        self._settle(delivery, acked)

    def _settle(self, delivery: Delivery, acked: bool) -> None:
        if acked:
            self.pace.succeeded()
            self._subscription.ack([delivery.ack_id])
        else:
            self.pace.failed(self._subscription.clock())
            extra = self.pace.backoff if self._rules.combine == "sum" else 0.0
            self._subscription.modify(delivery.ack_id, 0, extra)

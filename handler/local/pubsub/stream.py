"""One streaming pull: flow control over what is out, acks and deadlines from the client."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from handler.local.pubsub import limits
from handler.local.pubsub.backlog import Delivery
from handler.local.pubsub.pb import Message
from handler.local.pubsub.store import PULL_ROOM, Subscription

_BATCH = 1000


class Stream:
    """What one client has out, and what it may still get."""

    def __init__(self, subscription: Subscription, first: Message) -> None:
        if not 10 <= first.stream_ack_deadline_seconds <= 600:
            raise limits.invalid("stream_ack_deadline_seconds is 10 to 600")
        self._subscription = subscription
        self._deadline = first.stream_ack_deadline_seconds
        self._messages = first.max_outstanding_messages if first.max_outstanding_messages > 0 else _BATCH
        self._bytes = first.max_outstanding_bytes if first.max_outstanding_bytes > 0 else float("inf")
        self._out: dict[str, Delivery] = {}
        self._open = True
        self._listen(first)

    async def batches(self, requests: AsyncIterator[Message]) -> AsyncIterator[list[Delivery]]:
        """Deliveries, until the client ends its side or the subscription is deleted."""
        reader = asyncio.create_task(self._read(requests))
        try:
            while self._open and not self._subscription.deleted:
                if taken := self._take():
                    yield taken
                else:
                    await self._subscription.change()
        finally:
            reader.cancel()
            with suppress(asyncio.CancelledError):
                await reader

    async def _read(self, requests: AsyncIterator[Message]) -> None:
        try:
            async for request in requests:
                self._listen(request)
        finally:
            self._open = False
            self._subscription.bell.ring()

    def _listen(self, request: Message) -> None:
        self._deadline = request.stream_ack_deadline_seconds or self._deadline
        if request.ack_ids:
            self._subscription.ack(request.ack_ids)
        for ack_id, seconds in zip(
            request.modify_deadline_ack_ids, request.modify_deadline_seconds, strict=False
        ):
            self._subscription.modify(ack_id, seconds)

    def _take(self) -> list[Delivery]:
        holds = self._subscription.backlog.holds
        self._out = {ack_id: each for ack_id, each in self._out.items() if holds(ack_id)}
        limit = min(_BATCH, self._messages - len(self._out))
        room = min(PULL_ROOM, self._bytes - sum(each.size for each in self._out.values()))
        taken = self._subscription.take(self, limit, room) if limit > 0 and room > 0 else []
        for each in taken:
            self._subscription.backlog.extend(each.ack_id, self._subscription.clock(), self._deadline)
            self._out[each.ack_id] = each
        return taken

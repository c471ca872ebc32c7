"""One streaming pull: flow control over what is out, and the client's acks and leases."""

import asyncio
import math
from collections.abc import AsyncIterator

from handler.local.pubsub.core.limits import require
from handler.local.pubsub.core.pb import Message
from handler.local.pubsub.core.subscription import Subscription

ROOM = 3_500_000  # bytes in one answer: the clients' receive limit, in emulator mode, is gRPC's 4 MB
_BATCH = 1000  # messages


class Stream:
    """What one client has out, and what it may still get."""

    def __init__(self, subscription: Subscription, first: Message) -> None:
        require(10 <= first.stream_ack_deadline_seconds <= 600, "stream_ack_deadline_seconds is 10 to 600")
        self._subscription = subscription
        self._lease: float = first.stream_ack_deadline_seconds
        self._messages = first.max_outstanding_messages if first.max_outstanding_messages > 0 else math.inf
        self._bytes = first.max_outstanding_bytes if first.max_outstanding_bytes > 0 else math.inf
        self._out: dict[str, int] = {}
        self._listen(first)

    async def batches(self, requests: AsyncIterator[Message]) -> AsyncIterator[list[Message]]:
        """Hand out deliveries until the client ends its side or the subscription is deleted."""
        reader = asyncio.create_task(self._read(requests))
        reader.add_done_callback(lambda _: self._subscription.ring())
        try:
            while not reader.done() and not self._subscription.deleted:
                if taken := self._take():
                    yield taken
                else:
                    await self._subscription.change()
        finally:
            reader.cancel()

    async def _read(self, requests: AsyncIterator[Message]) -> None:
        async for request in requests:
            self._listen(request)

    def _listen(self, request: Message) -> None:
        self._lease = request.stream_ack_deadline_seconds or self._lease
        self._subscription.ack(request.ack_ids)
        leases = zip(request.modify_deadline_ack_ids, request.modify_deadline_seconds, strict=False)
        for ack_id, lease in leases:
            self._subscription.extend(ack_id, lease)

    def _take(self) -> list[Message]:
        holds = self._subscription.holds
        self._out = {ack_id: size for ack_id, size in self._out.items() if holds(ack_id)}
        limit = min(_BATCH, self._messages - len(self._out))
        room = min(ROOM, self._bytes - sum(self._out.values()))
        taken = self._subscription.take(self, int(limit), self._lease, room) if room > 0 else []
        self._out |= {each.ack_id: each.message.ByteSize() for each in taken}
        return taken

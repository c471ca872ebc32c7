"""One push over HTTP."""

from typing import Any

import aiohttp
from aiohttp.connector import Connection

from handler.local.pubsub.backlog import Delivery
from handler.local.pubsub.pb import Message
from handler.local.pubsub.wire import render

_ACKS = {102, 200, 201, 202, 204}
_HEADERS = {"User-Agent": "CloudPubSub-Google", "Accept": "application/json"}
_DRAINED = (
    1 << 20
)  # bytes of an answer that are read, and thrown away, so that its connection can be used again


class _Processing(Exception):
    """The endpoint answered 102, which is an ack on its own."""


class _Response(aiohttp.ClientResponse):
    """HTTP clients skip a 102 and wait for a final answer; Pub/Sub takes it."""

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        protocol: Any = connection.protocol
        read = protocol.read

        async def read_first() -> Any:
            message, payload = await read()
            if message.code == 102:
                raise _Processing
            return message, payload

        protocol.read = read_first
        try:
            return await super().start(connection)
        finally:
            protocol.read = read


class Sender:
    """Sends pushes over pooled connections; redirects are not followed."""

    def __init__(self) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            response_class=_Response,
            timeout=aiohttp.ClientTimeout(),
            headers=_HEADERS,
            auto_decompress=False,
        )

    async def close(self) -> None:
        """Cut what is under way."""
        await self._session.close()

    async def __call__(self, delivery: Delivery, subscription: Message) -> bool:
        """Whether the endpoint acked. The caller bounds the time."""
        headers, body = render(delivery.message, delivery.attempt, subscription)
        try:
            return await self._post(subscription.push_config.push_endpoint, headers, body) in _ACKS
        except _Processing:
            return True
        except (
            aiohttp.ClientError,
            OSError,
            ValueError,
        ):  # unreachable, cut off, or a header it cannot carry
            return False

    async def _post(self, url: str, headers: dict[str, str], body: bytes) -> int:
        async with self._session.post(url, headers=headers, data=body, allow_redirects=False) as response:
            await response.content.read(_DRAINED)
            return response.status

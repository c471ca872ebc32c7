"""One push over HTTP: what it looks like, and which answers are acks.

Sources: cloud.google.com/pubsub/docs/push, /pubsub/docs/payload-unwrapping, and for the `ce-` headers
of an Eventarc trigger /eventarc/docs/cloudevents.
"""

import io
import json
from base64 import b64encode
from collections import Counter
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
from aiohttp.connector import Connection

from handler.local.pubsub.core.pb import Message
from handler.local.pubsub.core.watch import PushAnswered, Watch
from handler.local.pubsub.push.tokens import Tokens

_ACKS = {102, 200, 201, 202, 204}
_HEADERS = {"User-Agent": "CloudPubSub-Google", "Accept": "application/json"}
_DRAINED = 1 << 16  # bytes of an answer that are read, and thrown away, so that its connection can be used again
_LARGE = 1 << 20  # bytes from which a body is sent in pieces, so that the loop goes on with other pushes
_EVENT, _EVENT_TOPIC = "__GCP_CloudEventsMode", "CUSTOM_PUBSUB_"


def render(received: Message, subscription: Message) -> tuple[dict[str, str], bytes]:
    """Make the headers and the body of the push of a ReceivedMessage to `subscription` (its configuration)."""
    message, push = received.message, subscription.push_config
    published = message.publish_time.ToJsonString()
    if push.HasField("no_wrapper"):
        fields = {
            "x-goog-pubsub-subscription-name": subscription.name,
            "x-goog-pubsub-message-id": message.message_id,
            "x-goog-pubsub-publish-time": published,
            "x-goog-pubsub-ordering-key": message.ordering_key,
        }
        return _set(fields) | dict(message.attributes) if push.no_wrapper.write_metadata else {}, message.data
    fields = {
        "attributes": dict(message.attributes),
        "data": b64encode(message.data).decode(),
        "messageId": message.message_id,
        "message_id": message.message_id,
        "orderingKey": message.ordering_key,
        "publishTime": published,
        "publish_time": published,
    }
    envelope = {"message": _set(fields), "subscription": subscription.name}
    envelope |= _set({"deliveryAttempt": received.delivery_attempt})
    headers = {"Content-Type": "application/json"} | _event(message, push.push_endpoint)
    return headers, json.dumps(envelope, ensure_ascii=False).encode()


def _set(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value}


def _event(message: Message, endpoint: str) -> dict[str, str]:
    mode = parse_qs(urlsplit(endpoint).query).get(_EVENT, [""])[0]
    if not mode.startswith(_EVENT_TOPIC):
        return {}
    return {
        "ce-id": message.message_id,
        "ce-source": f"//pubsub.googleapis.com/{mode.removeprefix(_EVENT_TOPIC)}",
        "ce-specversion": "1.0",
        "ce-type": "google.cloud.pubsub.topic.v1.messagePublished",
        "ce-time": message.publish_time.ToJsonString(),
    }


class _ProcessingError(Exception):
    """The endpoint answered 102, which is an ack by itself."""


class _Response(aiohttp.ClientResponse):
    """HTTP clients skip a 102 and wait for the final answer; Pub/Sub takes it as the answer."""

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        protocol: Any = connection.protocol
        read = protocol.read

        async def read_first() -> Any:
            head, payload = await read()
            if head.code == 102:
                raise _ProcessingError
            return head, payload

        protocol.read = read_first
        try:
            return await super().start(connection)
        finally:
            protocol.read = read


class Sender:
    """Sends pushes over pooled connections. Redirects are not followed, and what an answer says is not read."""

    def __init__(self, tokens: Tokens, answers: Counter[int], watch: Watch) -> None:
        """`answers` counts what pushes got: by the HTTP status, 0 where there came none."""
        self._tokens = tokens
        self._answers = answers
        self._watch = watch
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            response_class=_Response,
            headers=_HEADERS,
            skip_auto_headers=["Content-Type"],
            auto_decompress=False,
        )

    async def close(self) -> None:
        """Cut what is under way."""
        await self._session.close()

    async def __call__(self, received: Message, subscription: Message) -> bool:
        """Tell whether the endpoint acked within the ack deadline, which is the request's timeout."""
        status, trouble = await self._outcome(received, subscription)
        self._answers[status] += 1
        self._watch.tell(PushAnswered, subscription.name, received.message.message_id, status, trouble)
        return status in _ACKS

    async def _outcome(self, received: Message, subscription: Message) -> tuple[int, str]:
        """The HTTP status; or 0, and why there is none."""
        try:
            return await self._send(received, subscription), ""
        except _ProcessingError:
            return 102, ""
        except aiohttp.ClientConnectorError:
            return 0, "no connection"
        except TimeoutError:
            return 0, "no answer within the ack deadline"
        except (aiohttp.ClientError, OSError, ValueError):  # cut off, an impossible header
            return 0, "the connection broke"

    async def _send(self, received: Message, subscription: Message) -> int:
        push, timeout = subscription.push_config, aiohttp.ClientTimeout(total=subscription.ack_deadline_seconds)
        headers, body = render(received, subscription)
        data = body if len(body) < _LARGE else io.BytesIO(body)
        if push.HasField("oidc_token"):
            account, audience = push.oidc_token.service_account_email, push.oidc_token.audience
            headers["Authorization"] = f"Bearer {self._tokens.token(account, audience or push.push_endpoint)}"
        async with self._session.post(
            push.push_endpoint, headers=headers, data=data, timeout=timeout, allow_redirects=False
        ) as response:
            await response.content.read(_DRAINED)
            return response.status

"""An HTTP push becomes a PubsubMessage: wrapped, unwrapped with metadata, or a binary CloudEvent.

Source: https://cloud.google.com/pubsub/docs/push and https://cloud.google.com/pubsub/docs/payload-unwrapping
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from handler import strictjson

MAX_ORDERING_KEY_BYTES = 1_024  # https://cloud.google.com/pubsub/quotas#resource_limits


class DecodeError(Exception):
    """The body is no push of a message. The message says what is missing, and never quotes the body."""


@dataclass(frozen=True, slots=True)
class PubsubMessage:
    """One message as Pub/Sub delivered it.

    `delivery_attempt` is None where the subscription has no dead-letter policy, `publish_time` where the push did not
    say. `attributes` is empty for an unwrapped push, whose attributes cannot be told from transport headers.
    """

    message_id: str
    data: bytes = field(repr=False)
    attributes: Mapping[str, str] = field(default_factory=dict, repr=False)
    ordering_key: str = ""
    publish_time: datetime | None = None
    subscription: str = ""
    delivery_attempt: int | None = None


class Headers(Protocol):
    """HTTP headers that find a name whatever its case."""

    def get(self, name: str, default: str, /) -> str:
        """The value of one header."""
        ...


def decode(headers: Headers, body: bytes) -> PubsubMessage:
    """Decode one push. Raises DecodeError and nothing else."""
    if headers.get("x-goog-pubsub-message-id", ""):
        return _unwrapped(headers, body)
    return _wrapped(body, default_id=headers.get("ce-id", ""))


def _unwrapped(headers: Headers, body: bytes) -> PubsubMessage:
    def header(name: str) -> str:
        return headers.get(f"x-goog-pubsub-{name}", "")

    return PubsubMessage(
        message_id=_id(header("message-id")),
        data=body,
        ordering_key=_ordering_key(header("ordering-key")),
        publish_time=_time(header("publish-time") or None),
        subscription=header("subscription-name"),
    )


def _wrapped(body: bytes, default_id: str) -> PubsubMessage:
    push = _object("the body", _json(body))
    message = _object("message", push.get("message"))
    return PubsubMessage(
        message_id=_id(message.get("messageId") or message.get("message_id") or default_id),
        data=_data(message.get("data")),
        attributes=_attributes(message.get("attributes")),
        ordering_key=_ordering_key(message.get("orderingKey")),
        publish_time=_time(message.get("publishTime", message.get("publish_time"))),
        subscription=_text("subscription", push.get("subscription"), default=""),
        delivery_attempt=_attempt(push.get("deliveryAttempt")),
    )


def _json(body: bytes) -> Any:
    try:
        return strictjson.loads(body)
    except strictjson.JsonError as error:
        raise DecodeError(f"the body is not JSON: {error}") from None


def _object(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DecodeError(f"{name} is not a JSON object")
    return value


def _text(name: str, value: Any, default: str | None = None) -> str:
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        raise DecodeError(f"{name} is not a string")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise DecodeError(f"{name} is not Unicode text") from None
    return value


def _id(value: Any) -> str:
    if not value:
        raise DecodeError("the message has no id")
    return _text("messageId", value)


def _ordering_key(value: Any) -> str:
    key = _text("message.orderingKey", value, default="")
    if len(key.encode()) > MAX_ORDERING_KEY_BYTES:
        raise DecodeError(f"message.orderingKey is longer than {MAX_ORDERING_KEY_BYTES} bytes")
    return key


def _data(value: Any) -> bytes:
    try:
        return base64.b64decode(_text("message.data", value, default=""), validate=True)
    except (binascii.Error, ValueError):
        raise DecodeError("message.data is not base64") from None


def _attributes(value: Any) -> dict[str, str]:
    attributes = _object("message.attributes", {} if value is None else value)
    return {_text("an attribute's key", key): _text("an attribute's value", one) for key, one in attributes.items()}


def _time(value: Any) -> datetime | None:
    if value is None:
        return None
    try:
        time = datetime.fromisoformat(_text("message.publishTime", value))
    except ValueError:
        raise DecodeError("message.publishTime is not an RFC 3339 time") from None
    if time.tzinfo is None:
        raise DecodeError("message.publishTime has no offset")
    return time


def _attempt(value: Any) -> int | None:
    if value is None:
        return None
    whole = int(value) if isinstance(value, float) and value.is_integer() else value  # 5.0 is 5, as JSON has it
    if not isinstance(whole, int) or isinstance(whole, bool) or whole < 0:
        raise DecodeError("deliveryAttempt is not a whole number")
    return whole or None  # 0 is how protocol buffers write "not set"

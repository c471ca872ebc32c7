"""An HTTP push becomes a PubsubMessage: wrapped, unwrapped with metadata, or a CloudEvent.

Source: https://cloud.google.com/pubsub/docs/push and https://cloud.google.com/pubsub/docs/payload-unwrapping
"""

import base64
import binascii
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from handler.rules import strictjson

MAX_ORDERING_KEY_BYTES = 1_024  # https://cloud.google.com/pubsub/quotas#resource_limits


class DecodeError(Exception):
    """The body is no push of a message. The message says what it is or lacks, and never quotes the body."""


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
    push, event_id = _push(_object("the body", _json(body)))
    message = _object("message", push.get("message"))
    return PubsubMessage(
        message_id=_id(_either(message, "messageId", "message_id") or default_id or event_id),
        data=_data(message.get("data")),
        attributes=_attributes(message.get("attributes")),
        ordering_key=_ordering_key(_either(message, "orderingKey", "ordering_key")),
        publish_time=_time(_either(message, "publishTime", "publish_time")),
        subscription=_text("subscription", push.get("subscription"), default=""),
        delivery_attempt=_attempt(_either(push, "deliveryAttempt", "delivery_attempt")),
    )


def _either(fields: Mapping[str, Any], name: str, other: str) -> Any:
    """A field that is spelled in two ways: JSON's, and that of Protocol Buffers."""
    return fields.get(name) if fields.get(name) is not None else fields.get(other)


def _push(body: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """The push, and the id that a structured CloudEvent around it has. Raises DecodeError for what is another thing."""
    inner = body.get("data")
    if "message" in body:
        return body, ""
    if "specversion" in body and isinstance(inner, dict) and "message" in inner:
        return inner, body.get("id")
    raise DecodeError(f"message is not a JSON object: {_other_shape(body)}")


def _other_shape(body: dict[str, Any]) -> str:
    """What else than a push this is, and what to do about it."""
    if "specversion" in body:
        return "this is a CloudEvent of another kind; let Pub/Sub push, or Eventarc for a topic's messages"
    if "context" in body or "@type" in body or {"data", "attributes", "messageId", "message_id"} & body.keys():
        return (
            "this is a background event (Cloud Functions, first generation) or a message without its envelope; "
            "use a push subscription, or Eventarc"
        )
    if {"body", "metadata", "custom_id"} & body.keys():
        return (
            "this is a request without its push. If the subscription unwraps payloads, switch on its write_metadata; "
            'by hand, post {"message": {"messageId": "...", "data": "<the request in base64>"}}'
        )
    return "there is none in the body. If the subscription unwraps payloads, switch on its write_metadata"


def _json(body: bytes) -> Any:
    try:
        return strictjson.loads(body)
    except strictjson.JsonError as error:
        hint = "if the subscription unwraps payloads, switch on its write_metadata"
        raise DecodeError(f"the body is not JSON: {error}; {hint}") from None


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
    if not isinstance(value, str) and 0 < (_whole(value) or 0) < 1 << 64:
        return str(_whole(value))
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
    """A time as Pub/Sub writes it, or as other emulators do: without an offset, or in seconds and nanoseconds."""
    if value is None:
        return None
    if isinstance(value, dict):
        return _timestamp(value)
    try:
        time = datetime.fromisoformat(_text("message.publishTime", value))
    except ValueError:
        raise DecodeError("message.publishTime is not an RFC 3339 time") from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


_NANOS = range(1_000_000_000)


def _timestamp(value: dict[str, Any]) -> datetime:
    """google.protobuf.Timestamp, whose seconds JSON writes as a string."""
    seconds, nanos = _whole(value.get("seconds")), _whole(value.get("nanos", 0))
    if seconds is not None and nanos is not None and nanos in _NANOS:
        with suppress(ValueError, OverflowError, OSError):
            return datetime.fromtimestamp(seconds, UTC) + timedelta(microseconds=nanos // 1000)
    raise DecodeError("message.publishTime is not an RFC 3339 time")


def _whole(value: Any) -> int | None:
    """A whole number, as JSON has it (5.0 is 5) or in a string; None for anything else."""
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,12}", value, re.ASCII):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _attempt(value: Any) -> int | None:
    if value is None:
        return None
    whole = _whole(value)
    if whole is None or whole < 0:
        raise DecodeError("deliveryAttempt is not a whole number")
    return whole or None  # 0 is how protocol buffers write "not set"

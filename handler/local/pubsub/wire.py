"""What a push looks like on the wire: one message becomes headers and a body. Pure.

Source: cloud.google.com/pubsub/docs/push (wrapped), /pubsub/docs/payload-unwrapping, and for the `ce-` headers
github.com/googleapis/google-cloudevents and Eventarc's `__GCP_CloudEventsMode` query parameter.
"""

import json
from base64 import b64encode
from typing import Any
from urllib.parse import parse_qs, urlsplit

from handler.local.pubsub.pb import Message

Request = tuple[dict[str, str], bytes]
_EVENT_MODE = "__GCP_CloudEventsMode"


def render(message: Message, attempt: int, subscription: Message) -> Request:
    """Headers and body of the push of `message` to `subscription` (its configuration)."""
    push = subscription.push_config
    if push.HasField("no_wrapper"):
        return _metadata(message, subscription) if push.no_wrapper.write_metadata else {}, message.data
    envelope = {"message": _wrap(message), "subscription": subscription.name}
    if subscription.HasField("dead_letter_policy"):
        envelope["deliveryAttempt"] = attempt
    headers = {"Content-Type": "application/json"}
    if _EVENT_MODE in parse_qs(urlsplit(push.push_endpoint).query):
        headers |= _event(message, subscription)
    return headers, json.dumps(envelope, ensure_ascii=False).encode()


def _wrap(message: Message) -> dict[str, Any]:
    time = message.publish_time.ToJsonString()
    fields = {
        "attributes": dict(message.attributes),
        "data": b64encode(message.data).decode(),
        "messageId": message.message_id,
        "message_id": message.message_id,
        "orderingKey": message.ordering_key,
        "publishTime": time,
        "publish_time": time,
    }
    return {name: value for name, value in fields.items() if value}


def _metadata(message: Message, subscription: Message) -> dict[str, str]:
    headers = {
        "x-goog-pubsub-subscription-name": subscription.name,
        "x-goog-pubsub-message-id": message.message_id,
        "x-goog-pubsub-publish-time": message.publish_time.ToJsonString(),
    }
    if message.ordering_key:
        headers["x-goog-pubsub-ordering-key"] = message.ordering_key
    return headers | dict(message.attributes)


def _event(message: Message, subscription: Message) -> dict[str, str]:
    return {
        "ce-id": message.message_id,
        "ce-source": f"//pubsub.googleapis.com/{subscription.topic}",
        "ce-specversion": "1.0",
        "ce-type": "google.cloud.pubsub.topic.v1.messagePublished",
        "ce-time": message.publish_time.ToJsonString(),
    }

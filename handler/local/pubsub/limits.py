"""What the service refuses, with its status codes. Sizes in bytes.

Sources: cloud.google.com/pubsub/quotas (resource limits), /pubsub/docs/pubsub-basics#resource_names, and the comments of
google/pubsub/v1/pubsub.proto.
"""

import re

import grpc

from handler.local.pubsub.pb import Message
from handler.local.pubsub.rules import Rules

REQUEST_BYTES = 10_000_000
_MESSAGES, _ATTRIBUTES, _KEY_BYTES, _VALUE_BYTES, _ORDERING_KEY_BYTES = 1000, 100, 256, 1024, 1024
_NAME = re.compile(r"projects/[^/\s]+/(topics|subscriptions)/(?!goog)[A-Za-z][A-Za-z0-9\-_.~+%]{2,254}")
_LEFT_OUT = {
    "Topic": ("kms_key_name", "schema_settings", "ingestion_data_source_settings", "message_transforms"),
    "Subscription": (
        "bigquery_config",
        "bigtable_config",
        "cloud_storage_config",
        "message_transforms",
        "enable_exactly_once_delivery",
    ),
}


class Refusal(Exception):
    """A call is answered with `status` and `message`."""

    def __init__(self, status: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


def invalid(message: str) -> Refusal:
    """INVALID_ARGUMENT."""
    return Refusal(grpc.StatusCode.INVALID_ARGUMENT, message)


def left_out(what: str) -> Refusal:
    """UNIMPLEMENTED, for what the local Pub/Sub leaves out on purpose."""
    text = f"{what} is left out of the local Pub/Sub: it keeps topics, subscriptions and messages in memory, no more."
    return Refusal(grpc.StatusCode.UNIMPLEMENTED, text)


def check_name(name: str, kind: str) -> None:
    """`kind` is topics or subscriptions."""
    match = _NAME.fullmatch(name)
    if not match or match[1] != kind:
        raise invalid(
            f"{name!r} is not a name of the form projects/P/{kind}/ID, where ID has 3 to 255 characters of"
            " letters, digits and -_.~+%, starts with a letter and not with goog"
        )


def check_known(config: Message) -> None:
    """No feature is asked for that is left out: better refused than silently missing."""
    name = config.DESCRIPTOR.name
    fields = config.DESCRIPTOR.fields_by_name
    for option in filter(fields.__contains__, _LEFT_OUT[name]):
        if option in {field.name for field, _ in config.ListFields()}:
            raise left_out(f"{name}.{option}")


def check_publish(request: Message) -> None:
    """The whole request, then each message."""
    if request.ByteSize() > REQUEST_BYTES:
        raise invalid(f"the request has {request.ByteSize()} bytes, more than {REQUEST_BYTES}")
    if not 0 < len(request.messages) <= _MESSAGES:
        raise invalid(f"a publish carries 1 to {_MESSAGES} messages, this one {len(request.messages)}")
    for message in request.messages:
        _check_message(message)


def _check_message(message: Message) -> None:
    if not message.data and not message.attributes:
        raise invalid("a message needs data or at least one attribute")
    if len(message.attributes) > _ATTRIBUTES:
        raise invalid(f"a message has at most {_ATTRIBUTES} attributes, this one {len(message.attributes)}")
    if len(message.ordering_key.encode()) > _ORDERING_KEY_BYTES:
        raise invalid(f"an ordering key has at most {_ORDERING_KEY_BYTES} bytes")
    for key, value in message.attributes.items():
        _check_attribute(key, value)


def _check_attribute(key: str, value: str) -> None:
    if not 0 < len(key.encode()) <= _KEY_BYTES:
        raise invalid(f"an attribute's key has 1 to {_KEY_BYTES} bytes")
    if len(value.encode()) > _VALUE_BYTES:
        raise invalid(f"an attribute's value has at most {_VALUE_BYTES} bytes: {key!r}")
    if key.startswith("goog") and not key.startswith("googclient_"):
        raise invalid(f"attribute keys that start with goog are reserved: {key!r}")


def check_subscription(config: Message, rules: Rules) -> None:
    """The numbers of a subscription, after defaults were filled in."""
    if not rules.shortest_ack_deadline <= config.ack_deadline_seconds <= 600:
        raise invalid(f"ack_deadline_seconds is {rules.shortest_ack_deadline} to 600, or 0 for 10")
    if config.HasField("dead_letter_policy"):
        if not 5 <= config.dead_letter_policy.max_delivery_attempts <= 100:
            raise invalid("max_delivery_attempts is 5 to 100, or 0 for 5")
        check_name(config.dead_letter_policy.dead_letter_topic, "topics")
    if config.HasField("retry_policy"):
        _check_retry(config.retry_policy)
    endpoint = config.push_config.push_endpoint
    if endpoint and not endpoint.startswith(("http://", "https://")):
        raise invalid(f"push_endpoint is an http:// or https:// URL, not {endpoint!r}")


def _check_retry(policy: Message) -> None:
    low, high = policy.minimum_backoff.seconds, policy.maximum_backoff.seconds
    if not 0 <= low <= high <= 600:
        raise invalid("retry_policy needs 0 <= minimum_backoff <= maximum_backoff <= 600 seconds")

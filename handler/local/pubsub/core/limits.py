"""What the service refuses, and with which status. Sizes in bytes.

Sources: cloud.google.com/pubsub/quotas, /pubsub/docs/pubsub-basics, google/pubsub/v1/pubsub.proto.
"""

import re

from grpc import StatusCode

from handler.local.pubsub.core.pb import Message
from handler.local.pubsub.core.rules import Rules

_REQUEST, _MESSAGES, _ATTRIBUTES, _KEY, _VALUE, _ORDERING_KEY = 10_000_000, 1000, 100, 256, 1024, 1024
_ACK_REQUEST = 524_288
_ACK_ID = 200  # about what the service's own ack ids have; those made here are shorter
_DAY = 86_400  # seconds
_SHORTEST_RETENTION, _LONGEST_RETENTION, _SHORTEST_EXPIRATION = 600, 31 * _DAY, _DAY
_NAME = re.compile(r"projects/[^/\s]+/(topics|subscriptions)/(?!goog)[A-Za-z][A-Za-z0-9\-_.~+%]{2,254}")
_LEFT_OUT = {
    "kms_key_name", "schema_settings", "ingestion_data_source_settings", "message_transforms", "bigquery_config",
    "bigtable_config", "cloud_storage_config", "enable_exactly_once_delivery",
}  # fmt: skip


class RefusedError(Exception):
    """A call that is answered with `status` and a message."""

    def __init__(self, status: StatusCode, message: str) -> None:
        super().__init__(message)
        self.status = status


def require(ok: object, message: str, status: StatusCode = StatusCode.INVALID_ARGUMENT) -> None:
    """Refuse unless `ok`."""
    if not ok:
        raise RefusedError(status, message)


def refuse_left_out(what: str) -> None:
    """Refuse what is left out on purpose."""
    why = "is left out of the local Pub/Sub, which keeps topics, subscriptions and messages in memory and no more"
    require(False, f"{what} {why}.", StatusCode.UNIMPLEMENTED)


def check_name(name: str, kind: str) -> None:
    """Check that it is a full name of a `kind` (topics or subscriptions)."""
    form = "3 to 255 letters, digits and -_.~+%, the first a letter, not starting with goog"
    match = _NAME.fullmatch(name)
    require(match and match[1] == kind, f"{name!r} is not projects/PROJECT/{kind}/ID, ID being {form}")


def check_config(config: Message, kind: str) -> None:
    """Check the name, one of `kind` (topics or subscriptions), and that nothing is asked that is left out."""
    check_name(config.name, kind)
    for option, _ in config.ListFields():
        if option.name in _LEFT_OUT:
            refuse_left_out(f"{config.DESCRIPTOR.name}.{option.name}")


def check_subscription(config: Message, rules: Rules) -> None:
    """Check the numbers of a subscription whose defaults are filled in."""
    least, deadline = rules.shortest_ack_deadline, config.ack_deadline_seconds
    require(least <= deadline <= 600, f"ack_deadline_seconds is {least} to 600, or 0 for 10, not {deadline}")
    attempts = config.dead_letter_policy.max_delivery_attempts
    allowed = not config.HasField("dead_letter_policy") or 5 <= attempts <= 100
    require(allowed, f"max_delivery_attempts is 5 to 100, or 0 for 5, not {attempts}")
    low, high = config.retry_policy.minimum_backoff.seconds, config.retry_policy.maximum_backoff.seconds
    require(0 <= low <= high <= 600, "a retry policy has 0 <= minimum_backoff <= maximum_backoff <= 600 s")
    url = config.push_config.push_endpoint
    require(not url or re.match(r"https?://[^/]", url), f"push_endpoint is an http or https URL, not {url!r}")
    _check_keeping(config)


def _check_keeping(config: Message) -> None:
    """Check how long messages and the subscription are kept. An expiration policy without a ttl means for ever."""
    kept = config.message_retention_duration.ToNanoseconds() / 1e9
    allowed = _SHORTEST_RETENTION <= kept <= _LONGEST_RETENTION
    require(allowed, f"message_retention_duration is 10 minutes to 31 days, or left out for 7 days, not {kept:.10g} s")
    policy = config.expiration_policy
    allowed = not policy.HasField("ttl") or policy.ttl.ToNanoseconds() >= _SHORTEST_EXPIRATION * 1e9
    require(allowed, f"expiration_policy.ttl is at least a day, not {policy.ttl.ToNanoseconds() / 1e9:.10g} s")


def check_publish(request: Message) -> None:
    """Check the size of a publish and each of its messages."""
    size, count = request.ByteSize(), len(request.messages)
    require(size <= _REQUEST, f"the request has {size} bytes, more than {_REQUEST}")
    require(0 < count <= _MESSAGES, f"a publish carries 1 to {_MESSAGES} messages, not {count}")
    for message in request.messages:
        require(message.data or message.attributes, "a message needs data or an attribute")
        require(len(message.attributes) <= _ATTRIBUTES, f"a message has at most {_ATTRIBUTES} attributes")
        require(_size(message.ordering_key) <= _ORDERING_KEY, f"an ordering key has at most {_ORDERING_KEY} bytes")
        for key, value in message.attributes.items():
            _check_attribute(key, value)


def check_ack_ids(request: Message) -> None:
    """Check an acknowledge or a modifyAckDeadline: that it has ids, and its size were they as long as the service's."""
    require(request.ack_ids, "You have not specified an ack ID in the request.")
    size = request.ByteSize() + sum(max(0, _ACK_ID - len(ack_id)) for ack_id in request.ack_ids)
    counted = f"{size} bytes, an ack id counted as {_ACK_ID} at least"
    require(size <= _ACK_REQUEST, f"Request payload size exceeds the limit: {_ACK_REQUEST} bytes. It has {counted}")


def _check_attribute(key: str, value: str) -> None:
    require(0 < _size(key) <= _KEY, f"an attribute's key has 1 to {_KEY} bytes")
    require(_size(value) <= _VALUE, f"an attribute's value has at most {_VALUE} bytes: {key!r}")
    # The client libraries' own attributes, such as googclient_traceparent, do pass.
    reserved = key.startswith("goog") and not key.startswith("googclient_")
    require(not reserved, f"attribute keys that start with goog are reserved: {key!r}")


def _size(text: str) -> int:
    return len(text.encode())

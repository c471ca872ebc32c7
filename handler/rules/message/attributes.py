"""The attributes of a response, within Pub/Sub's limits. Pure."""

from collections.abc import Collection, Mapping

from handler.rules.message.usage import NO_USAGE, Usage

# Pub/Sub's limits on a message's attributes: https://cloud.google.com/pubsub/quotas#resource_limits
MAX_ATTRIBUTES = 100
MAX_KEY_BYTES = 256
MAX_VALUE_BYTES = 1_024
OWN_ATTRIBUTES = ("request_message_id", "status_code", "model", "prompt_tokens", "completion_tokens", "content_ref")
_RESERVED_PREFIXES = ("goog", "CloudPubSub")


def response_attributes(
    requested: Mapping[str, str],
    *,
    message_id: str,
    status_code: int,
    model: str | None = None,
    usage: Usage = NO_USAGE,
    is_reference: bool = False,
) -> dict[str, str]:
    """The response message's attributes: ours, then the request's own as far as Pub/Sub's limits allow.

    Those of the request's own that are named like ours are kept with `request_` before their name.
    """
    tokens = ("" if count is None else str(count) for count in (usage.prompt_tokens, usage.completion_tokens))
    values = (message_id, str(status_code), model, *tokens, "true" if is_reference else None)
    own = zip(OWN_ATTRIBUTES, values, strict=True)
    attributes = {key: _fitting(value) for key, value in own if value}
    echoed = {_free_name(key, requested): value for key, value in requested.items() if _may_be_echoed(key, value)}
    for key, value in echoed.items():
        if len(attributes) < MAX_ATTRIBUTES:
            attributes[key] = value
    return attributes


def _free_name(key: str, taken: Collection[str]) -> str:
    name = key
    while name in OWN_ATTRIBUTES or (name != key and name in taken):
        name = f"request_{name}"
    return name


def _may_be_echoed(key: str, value: str) -> bool:
    fits = 0 < len(key.encode()) <= MAX_KEY_BYTES and len(value.encode()) <= MAX_VALUE_BYTES
    return fits and not key.startswith(_RESERVED_PREFIXES)


def _fitting(value: str) -> str:
    return value.encode(errors="replace")[:MAX_VALUE_BYTES].decode(errors="ignore")

"""The protobuf messages of google.pubsub.v1, raw: a fraction of the cost of the proto-plus wrappers."""

from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask
from google.pubsub_v1 import types

__all__ = ["FieldMask", "Message", "request"]

Message = Any  # protobuf classes are made at run time, so there is no type to name

_REQUESTS = {"CreateTopic": "Topic", "CreateSubscription": "Subscription"}


def raw(name: str) -> Message:
    """The raw class of one message type, such as `PullResponse`."""
    return getattr(types, name).pb()


def request(rpc: str) -> Message:
    """The raw class that an RPC takes, by the naming rule of the API."""
    return raw(_REQUESTS.get(rpc, f"{rpc}Request"))


PubsubMessage = raw("PubsubMessage")
Subscription = raw("Subscription")
PublishResponse = raw("PublishResponse")
PullResponse = raw("PullResponse")
ReceivedMessage = raw("ReceivedMessage")
StreamingPullResponse = raw("StreamingPullResponse")
ListTopicsResponse = raw("ListTopicsResponse")
ListTopicSubscriptionsResponse = raw("ListTopicSubscriptionsResponse")
ListSubscriptionsResponse = raw("ListSubscriptionsResponse")

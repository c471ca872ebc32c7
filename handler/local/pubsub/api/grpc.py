"""The API: google.pubsub.v1's Publisher and Subscriber over raw protobuf classes, and its gRPC handlers.

Besides them, as far as it only reads, what user interfaces ask when they start: snapshots, schemas, permissions.
"""

import inspect
import re
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import grpc
from google.iam.v1 import iam_policy_pb2, policy_pb2

from handler.local.pubsub.api.stream import ROOM, Stream
from handler.local.pubsub.core import limits, pb
from handler.local.pubsub.core.limits import RefusedError, require
from handler.local.pubsub.core.pb import Message
from handler.local.pubsub.core.store import Store
from handler.local.pubsub.core.subscription import Subscription
from handler.local.pubsub.faults import Faults

_REQUESTS = {"CreateTopic": "Topic", "CreateSubscription": "Subscription"}  # others: the name and "Request"

Calls = Mapping[str, Mapping[str, tuple[type[Message], Callable[[Any], Any]]]]
"""By the name of a service and of a call: the class of its request, and what it does."""


class Api:
    """What each call does. A RefusedError becomes its status."""

    def __init__(self, store: Store, faults: Faults) -> None:
        self._store = store
        self._faults = faults

    def calls(self) -> Calls:
        """Every call, for gRPC and for REST."""
        services = {
            "google.pubsub.v1.Publisher": self._publisher(),
            "google.pubsub.v1.Subscriber": self._subscriber(),
            "google.pubsub.v1.SchemaService": {
                "ListSchemas": lambda call: _page(call, pb.ListSchemasResponse, schemas=[])
            },
        }
        calls = {name: {rpc: (_request(rpc), call) for rpc, call in known.items()} for name, known in services.items()}
        return {**calls, "google.iam.v1.IAMPolicy": self._permissions()}

    def _publisher(self) -> dict[str, Callable[[Any], Any]]:
        store = self._store
        return {
            "CreateTopic": store.create_topic,
            "GetTopic": lambda call: store.topic(call.topic),
            "DeleteTopic": lambda call: store.delete_topic(call.topic),
            "ListTopics": lambda call: _page(call, pb.ListTopicsResponse, topics=store.list_topics(call.project)),
            "ListTopicSubscriptions": lambda call: _page(
                call, pb.ListTopicSubscriptionsResponse, subscriptions=store.list_names(call.topic)
            ),
            "ListTopicSnapshots": lambda call: _page(call, pb.ListTopicSnapshotsResponse, snapshots=[]),
            "Publish": self._publish,
        }

    def _subscriber(self) -> dict[str, Callable[[Any], Any]]:
        store = self._store
        return {
            "CreateSubscription": store.create_subscription,
            "GetSubscription": lambda call: store.subscription(call.subscription).config,
            "UpdateSubscription": lambda call: store.update_subscription(call.subscription, call.update_mask),
            "DeleteSubscription": lambda call: store.delete_subscription(call.subscription),
            "ListSubscriptions": lambda call: _page(
                call, pb.ListSubscriptionsResponse, subscriptions=store.list_subscriptions(call.project)
            ),
            "ListSnapshots": lambda call: _page(call, pb.ListSnapshotsResponse, snapshots=[]),
            "ModifyPushConfig": lambda call: store.modify_push(call.subscription, call.push_config),
            "Pull": self._pull,
            "Acknowledge": self._acknowledge,
            "ModifyAckDeadline": self._modify_ack_deadline,
            "StreamingPull": self._streaming_pull,
        }

    def _permissions(self) -> dict[str, tuple[type[Message], Callable[[Any], Any]]]:
        """Nobody is authenticated, so everybody may do everything."""
        return {
            "GetIamPolicy": (iam_policy_pb2.GetIamPolicyRequest, lambda _: policy_pb2.Policy(version=1)),
            "TestIamPermissions": (
                iam_policy_pb2.TestIamPermissionsRequest,
                lambda call: iam_policy_pb2.TestIamPermissionsResponse(permissions=call.permissions),
            ),
        }

    async def _publish(self, call: Message) -> Message:
        limits.check_publish(call)
        async with self._faults.publishing(call.topic):
            return pb.PublishResponse(message_ids=self._store.publish(call.topic, call.messages))

    async def _pull(self, call: Message) -> Message:
        subscription = self._pulled(call.subscription)
        require(call.max_messages > 0, "max_messages is at least 1")
        until = subscription.clock() + (0 if call.return_immediately else self._store.rules.pull_wait)
        lease = subscription.config.ack_deadline_seconds
        # A new holder for each pull, so that no ordering key has two batches out.
        while not (taken := subscription.take(object(), call.max_messages, lease, ROOM)):
            if subscription.clock() >= until:
                break
            await subscription.change(until)
        return pb.PullResponse(received_messages=taken)

    def _acknowledge(self, call: Message) -> None:
        limits.check_ack_ids(call)
        self._store.subscription(call.subscription).ack(call.ack_ids)

    def _modify_ack_deadline(self, call: Message) -> None:
        limits.check_ack_ids(call)
        subscription = self._store.subscription(call.subscription)
        require(0 <= call.ack_deadline_seconds <= 600, "ack_deadline_seconds is 0 to 600")
        for ack_id in call.ack_ids:
            subscription.extend(ack_id, call.ack_deadline_seconds)

    async def _streaming_pull(self, calls: AsyncIterator[Message]) -> AsyncIterator[Message]:
        first = await anext(calls)
        subscription = self._pulled(first.subscription)
        properties = {"message_ordering_enabled": subscription.config.enable_message_ordering}
        async for taken in Stream(subscription, first).batches(calls):
            yield pb.StreamingPullResponse(received_messages=taken, subscription_properties=properties)
        self._store.subscription(first.subscription)  # NOT_FOUND when it was deleted

    def _pulled(self, name: str) -> Subscription:
        subscription = self._store.subscription(name)
        pushed = subscription.config.push_config.push_endpoint
        require(not pushed, f"{name!r} is a push subscription", grpc.StatusCode.FAILED_PRECONDITION)
        return subscription


class _LeftOut(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types
    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        rpc = handler_call_details.method.rpartition("/")[2]
        return grpc.unary_unary_rpc_method_handler(_unary(lambda _: limits.refuse_left_out(rpc)))


def handlers(calls: Calls) -> tuple[grpc.GenericRpcHandler, ...]:
    """Make what a gRPC server needs; the last handler refuses what is left out."""
    return *(_service(name, known) for name, known in calls.items()), _LeftOut()


def _request(rpc: str) -> type[Message]:
    request: type[Message] = getattr(pb, _REQUESTS.get(rpc, f"{rpc}Request"))
    return request


def _service(name: str, calls: Mapping[str, tuple[type[Message], Callable[[Any], Any]]]) -> grpc.GenericRpcHandler:
    made = {}
    for rpc, (request, call) in calls.items():
        if inspect.isasyncgenfunction(call):
            made[rpc] = grpc.stream_stream_rpc_method_handler(_stream(call), request.FromString, _dump)
        else:
            made[rpc] = grpc.unary_unary_rpc_method_handler(_unary(call), request.FromString, _dump)
    return grpc.method_handlers_generic_handler(name, made)


def _unary(call: Callable[[Any], Any]) -> Callable[..., Any]:
    async def answer(request: Message, context: Any) -> Message:
        try:
            result = call(request)
            return await result if inspect.isawaitable(result) else result
        except RefusedError as refused:
            await context.abort(refused.status, str(refused))

    return answer


def _stream(call: Callable[[Any], AsyncIterator[Message]]) -> Callable[..., Any]:
    async def answer(requests: AsyncIterator[Message], context: Any) -> AsyncIterator[Message]:
        try:
            async for each in call(requests):
                yield each
        except RefusedError as refused:
            await context.abort(refused.status, str(refused))

    return answer


def _dump(message: Message | None) -> bytes:
    return b"" if message is None else message.SerializeToString()


def _page(call: Message, answer: Message, **field: list[Any]) -> Message:
    project = getattr(call, "project", getattr(call, "parent", "projects/-"))
    require(re.fullmatch(r"projects/[^/\s]+", project), f"{project!r} is not projects/PROJECT")
    require(call.page_token.isdecimal() or not call.page_token, "page_token is none of this list's")
    require(call.page_size >= 0, "page_size is at least 0")
    start, end = int(call.page_token or 0), None
    for name, things in field.items():
        end = start + (call.page_size or len(things))
        field[name] = things[start:end]
        end = end if end < len(things) else None
    return answer(**field, next_page_token="" if end is None else str(end))

"""The gRPC API: google.pubsub.v1's Publisher and Subscriber, as generic handlers over the raw protobuf classes."""

import inspect
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import grpc

from handler.local.pubsub import limits, pb
from handler.local.pubsub.backlog import Delivery
from handler.local.pubsub.limits import Refusal
from handler.local.pubsub.pb import Message
from handler.local.pubsub.store import Store, Subscription
from handler.local.pubsub.stream import Stream

_PACKAGE = "google.pubsub.v1"


class Api:
    """What each RPC does. A `Refusal` becomes the call's status."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def handlers(self) -> tuple[grpc.GenericRpcHandler, ...]:
        """For `server.add_generic_rpc_handlers`; the last one answers whatever is left out."""
        return (
            _service("Publisher", self._publisher()),
            _service("Subscriber", self._subscriber(), StreamingPull=self.streaming_pull),
            _LeftOut(),
        )

    def _publisher(self) -> dict[str, Callable[[Message], Any]]:
        store = self._store
        return {
            "CreateTopic": store.create_topic,
            "GetTopic": lambda request: store.topic(request.topic),
            "DeleteTopic": lambda request: store.delete_topic(request.topic),
            "ListTopics": self.list_topics,
            "ListTopicSubscriptions": self.list_topic_subscriptions,
            "Publish": self.publish,
        }

    def _subscriber(self) -> dict[str, Callable[[Message], Any]]:
        store = self._store
        return {
            "CreateSubscription": store.create_subscription,
            "GetSubscription": lambda request: store.subscription(request.subscription).config,
            "UpdateSubscription": lambda request: store.update_subscription(
                request.subscription, request.update_mask
            ),
            "DeleteSubscription": lambda request: store.delete_subscription(request.subscription),
            "ListSubscriptions": self.list_subscriptions,
            "ModifyPushConfig": self.modify_push_config,
            "Pull": self.pull,
            "Acknowledge": self.acknowledge,
            "ModifyAckDeadline": self.modify_ack_deadline,
        }

    def publish(self, request: Message) -> Message:
        """Publish."""
        limits.check_publish(request)
        return pb.PublishResponse(message_ids=self._store.publish(request.topic, request.messages))

    def list_topics(self, request: Message) -> Message:
        """The topics of a project, a page at a time."""
        topics = [each for each in self._store.topics.values() if _within(each.name, request.project)]
        page, token = _page(topics, request)
        return pb.ListTopicsResponse(topics=page, next_page_token=token)

    def list_topic_subscriptions(self, request: Message) -> Message:
        """The names of a topic's subscriptions, a page at a time."""
        self._store.topic(request.topic)
        page, token = _page([each.config.name for each in self._store.of_topic(request.topic)], request)
        return pb.ListTopicSubscriptionsResponse(subscriptions=page, next_page_token=token)

    def list_subscriptions(self, request: Message) -> Message:
        """The subscriptions of a project, a page at a time."""
        configs = [each.config for each in self._store.subscriptions.values()]
        page, token = _page([each for each in configs if _within(each.name, request.project)], request)
        return pb.ListSubscriptionsResponse(subscriptions=page, next_page_token=token)

    def modify_push_config(self, request: Message) -> None:
        """Another endpoint; an empty one makes it a pull subscription."""
        config = pb.Subscription(name=request.subscription, push_config=request.push_config)
        self._store.update_subscription(config, pb.FieldMask(paths=["push_config"]))

    async def pull(self, request: Message) -> Message:
        """What is there, or what comes first within a bounded time."""
        subscription = self._pulled(request.subscription)
        if request.max_messages < 1:
            raise limits.invalid("max_messages is at least 1")
        holder, until = object(), subscription.clock() + self._store.rules.pull_wait
        while not (taken := subscription.take(holder, request.max_messages)):
            if request.return_immediately or subscription.clock() >= until:
                break
            await subscription.change(until)
        return pb.PullResponse(received_messages=_received(subscription, taken))

    def acknowledge(self, request: Message) -> None:
        """Ids that are no longer out are ignored, as the service does without exactly-once delivery."""
        self._store.subscription(request.subscription).ack(request.ack_ids)

    def modify_ack_deadline(self, request: Message) -> None:
        """0 is a nack."""
        subscription = self._store.subscription(request.subscription)
        if not 0 <= request.ack_deadline_seconds <= 600:
            raise limits.invalid("ack_deadline_seconds is 0 to 600")
        for ack_id in request.ack_ids:
            subscription.modify(ack_id, request.ack_deadline_seconds)

    async def streaming_pull(self, requests: AsyncIterator[Message], context: Any) -> AsyncIterator[Message]:
        """Messages as they come, within the client's flow control, until the client hangs up."""
        try:
            first = await anext(requests)
            subscription = self._pulled(first.subscription)
            stream = Stream(subscription, first)
            async for taken in stream.batches(requests):
                yield pb.StreamingPullResponse(
                    received_messages=_received(subscription, taken),
                    subscription_properties={"message_ordering_enabled": subscription.backlog.policy.ordered},
                )
            self._store.subscription(first.subscription)
        except Refusal as refusal:
            await context.abort(refusal.status, refusal.message)

    def _pulled(self, name: str) -> Subscription:
        subscription = self._store.subscription(name)
        if subscription.config.push_config.push_endpoint:
            raise Refusal(grpc.StatusCode.FAILED_PRECONDITION, f"{name!r} is a push subscription")
        return subscription


class _LeftOut(grpc.GenericRpcHandler):
    """Answers UNIMPLEMENTED with a sentence, to whatever no other handler takes."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        rpc = handler_call_details.method.rpartition("/")[2]

        def refuse(_: bytes) -> None:
            raise limits.left_out(rpc)

        return _unary(refuse, None)


def _service(
    name: str, calls: dict[str, Callable[[Message], Any]], **streams: Callable[..., Any]
) -> grpc.GenericRpcHandler:
    handlers = {rpc: _unary(call, pb.request(rpc).FromString) for rpc, call in calls.items()}
    for rpc, call in streams.items():
        handlers[rpc] = grpc.stream_stream_rpc_method_handler(call, pb.request(rpc).FromString, _dump)
    return grpc.method_handlers_generic_handler(f"{_PACKAGE}.{name}", handlers)


def _unary(call: Callable[[Any], Any], load: Callable[[bytes], Message] | None) -> grpc.RpcMethodHandler:
    async def answer(request: Message, context: Any) -> Message:
        try:
            result = call(request)
            return await result if inspect.isawaitable(result) else result
        except Refusal as refusal:
            await context.abort(refusal.status, refusal.message)

    return grpc.unary_unary_rpc_method_handler(answer, load, _dump)


def _dump(message: Message | None) -> bytes:
    return b"" if message is None else message.SerializeToString()


def _received(subscription: Subscription, taken: Iterable[Delivery]) -> list[Message]:
    # Only a dead-letter policy makes the service count deliveries.
    counted = subscription.backlog.policy.max_attempts > 0
    return [
        pb.ReceivedMessage(
            ack_id=each.ack_id, message=each.message, delivery_attempt=each.attempt if counted else 0
        )
        for each in taken
    ]


def _within(name: str, project: str) -> bool:
    return name.startswith(f"{project}/")


def _page(items: list[Any], request: Message) -> tuple[list[Any], str]:
    start = int(request.page_token or 0)
    end = start + (request.page_size or len(items))
    return items[start:end], str(end) if end < len(items) else ""

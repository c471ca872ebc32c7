"""Stands in for the relay and the model: answers every request of a subscription, and writes down each call.

A request whose prompt is a JSON object is told by it what to do: {"status": 400}, {"twice": true}, {"lose": 1} (the
first time), {"size": BYTES}, {"body": JSON}.
"""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
from google.cloud import pubsub_v1
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport
from google.pubsub_v1.types import AcknowledgeRequest, PublishRequest, PubsubMessage, PullRequest

Pull, Ack, Publish, Message = PullRequest.pb(), AcknowledgeRequest.pb(), PublishRequest.pb(), PubsubMessage.pb()


def wish(body):
    """What the prompt asks for."""
    try:
        found = json.loads(body.get("prompt", ""))
    except (ValueError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def answers(message, seen):
    """The response messages to one request."""
    request = json.loads(message.data)
    own = {"request_message_id": message.message_id, "status_code": "403", "model": "m"}
    if "relay_control" in message.attributes:
        error = {"message": "This service takes no control messages.", "code": "control_disabled"}
        data = {"status_code": 403, "metadata": request.get("metadata", {}), "body": {"error": error}}
        return [Message(data=json.dumps(data).encode(), attributes={**message.attributes, **own})]
    wished = wish(request["body"])
    custom_id = request["metadata"].get("custom_id")
    if seen.setdefault(custom_id, 0) < wished.get("lose", 0):
        seen[custom_id] += 1
        return []
    status = wished.get("status", 200)
    body = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": request["body"].get("model", "m")}
    text = "x" * wished.get("size", 5)
    body["choices"] = [{"index": 0, "text": text, "finish_reason": "stop", "logprobs": None}]
    if request.get("path") == "/v1/chat/completions":
        body["object"] = "chat.completion"
        message_back = {"role": "assistant", "content": text}
        body["choices"] = [{"index": 0, "message": message_back, "finish_reason": "stop", "logprobs": None}]
    body["usage"] = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
    body = wished.get("body", body)
    if status != 200:
        body = {"error": {"message": "as asked", "type": "server_error", "param": None, "code": wished.get("code")}}
    data = b'{"status_code":%d,"metadata":%b,"body":%b}' % (
        status,
        json.dumps(request["metadata"], ensure_ascii=False, separators=(",", ":")).encode(),
        json.dumps(body).encode(),
    )
    own["status_code"] = str(status)
    own |= {"content_ref": "true"} if "content_ref" in body and "pretends" not in wished else {}
    return [Message(data=data, attributes={**message.attributes, **own})] * (2 if wished.get("twice") else 1)


class Answerer:
    """Pulls, answers and acks in a thread, while its block runs; what it has pulled by the end is answered."""

    def __init__(self, address, subscription, topic, calls, seconds):
        channel = grpc.insecure_channel(
            address, [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        )
        self.channel = channel
        self.publisher = pubsub_v1.PublisherClient(transport=PublisherGrpcTransport(channel=channel)).transport
        self.subscriber = pubsub_v1.SubscriberClient(transport=SubscriberGrpcTransport(channel=channel)).transport
        self.subscription, self.topic, self.calls, self.seconds = subscription, topic, calls, seconds
        self.seen, self.ended = {}, threading.Event()
        self.thread = ThreadPoolExecutor(1)

    def __enter__(self):
        self.work = self.thread.submit(self.run)
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.shutdown()
        self.channel.close()
        self.work.result()

    def run(self):
        """Answer until ended."""
        pause = 0.0
        with self.calls.open("a") as log:
            while not self.ended.wait(pause):
                request = Pull(subscription=self.subscription, max_messages=500, return_immediately=True)
                received = self.subscriber.pull(request, timeout=30).received_messages
                if received:
                    self.answer(received, log)
                pause = 0.0 if received else min(pause + 0.02, 0.2)

    def answer(self, received, log):
        """Note each call, publish the answers, ack."""
        time.sleep(self.seconds)
        made = []
        for each in received:
            document = json.loads(each.message.data)
            attributes = dict(each.message.attributes)
            if "relay_control" not in attributes:
                call = [document["metadata"].get("custom_id"), each.message.message_id, attributes, document]
                log.write(json.dumps(call) + "\n")
            made += answers(each.message, self.seen)
        log.flush()
        for start in range(0, len(made), 100):
            self.publisher.publish(Publish(topic=self.topic, messages=made[start : start + 100]), timeout=30)
        ack_ids = [each.ack_id for each in received]
        self.subscriber.acknowledge(Ack(subscription=self.subscription, ack_ids=ack_ids), timeout=30)

"""Stands in for the relay and the model: answers every request of a subscription, and writes down each call.

    python answerer.py SUBSCRIPTION RESPONSE_TOPIC CALLS_FILE [SECONDS_PER_BATCH]

A request whose prompt is a JSON object is told by it what to do: {"status": 400}, {"twice": true}, {"lose": 1} (the
first time), {"size": BYTES}.
"""

import json
import os
import sys
import time
from pathlib import Path

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
    wished = wish(request["body"])
    custom_id = request["metadata"].get("custom_id")
    if seen.setdefault(custom_id, 0) < wished.get("lose", 0):
        seen[custom_id] += 1
        return []
    status = wished.get("status", 200)
    body = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": request["body"].get("model", "m")}
    body["choices"] = [{"index": 0, "text": "x" * wished.get("size", 5), "finish_reason": "stop", "logprobs": None}]
    body["usage"] = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
    if status != 200:
        body = {"error": {"message": "as asked", "type": "server_error", "param": None, "code": wished.get("code")}}
    data = b'{"status_code":%d,"metadata":%b,"body":%b}' % (
        status,
        json.dumps(request["metadata"], ensure_ascii=False, separators=(",", ":")).encode(),
        json.dumps(body).encode(),
    )
    own = {"request_message_id": message.message_id, "status_code": str(status), "model": "m"}
    return [Message(data=data, attributes={**message.attributes, **own})] * (2 if wished.get("twice") else 1)


def main(subscription, topic, calls, seconds="0"):
    channel = grpc.insecure_channel(
        os.environ["PUBSUB_EMULATOR_HOST"],
        [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)],
    )
    publisher = pubsub_v1.PublisherClient(transport=PublisherGrpcTransport(channel=channel)).transport
    subscriber = pubsub_v1.SubscriberClient(transport=SubscriberGrpcTransport(channel=channel)).transport
    seen = {}
    with Path(calls).open("a") as log:
        print("ready", flush=True)
        while True:
            try:
                pulled = subscriber.pull(Pull(subscription=subscription, max_messages=500), timeout=20)
            except grpc.RpcError:
                continue
            received = pulled.received_messages
            if not received:
                continue
            time.sleep(float(seconds))
            made = []
            for each in received:
                document = json.loads(each.message.data)
                log.write(
                    json.dumps([document["metadata"].get("custom_id"), dict(each.message.attributes), document]) + "\n"
                )
                made += answers(each.message, seen)
            log.flush()
            for start in range(0, len(made), 100):
                publisher.publish(Publish(topic=topic, messages=made[start : start + 100]), timeout=20)
            subscriber.acknowledge(
                Ack(subscription=subscription, ack_ids=[each.ack_id for each in received]), timeout=20
            )


if __name__ == "__main__":
    main(*sys.argv[1:])

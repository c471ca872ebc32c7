"""The worker that pulls, to compare with: Google's client keeps as many messages as the model has slots."""

import json
import os
from concurrent.futures import ThreadPoolExecutor

import requests
from google.cloud import pubsub_v1
from google.cloud.pubsub_v1.subscriber.message import Message
from google.cloud.pubsub_v1.subscriber.scheduler import ThreadScheduler

_SLOTS = int(os.environ["MODEL_SLOTS"])
_session = requests.Session()
_session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=_SLOTS))
_publisher = pubsub_v1.PublisherClient()


def answer(message: Message) -> None:
    """Answer one message. What raises is logged by the client, and delivered again."""
    asked = json.loads(message.data)
    answer = _session.post(os.environ["MODEL_URL"] + asked["path"], json=asked["body"])
    response = {"status_code": answer.status_code, "metadata": asked["metadata"], "body": answer.json()}
    attributes = {"request_message_id": message.message_id, "status_code": str(answer.status_code)}
    _publisher.publish(os.environ["RESPONSE_TOPIC"], json.dumps(response).encode(), **attributes).result()
    message.ack()


def main() -> None:
    """Pull until killed."""
    subscriber = pubsub_v1.SubscriberClient()
    subscriber.subscribe(
        os.environ["SUBSCRIPTION"],
        answer,
        flow_control=pubsub_v1.types.FlowControl(max_messages=_SLOTS),
        scheduler=ThreadScheduler(ThreadPoolExecutor(_SLOTS)),
    ).result()


if __name__ == "__main__":
    main()

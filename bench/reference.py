"""The handler that anyone would write first, to compare with: no care for anything that can go wrong."""

import base64
import functools
import json
import os

import flask
import requests
from google.cloud import pubsub_v1

session = requests.Session()


@functools.cache
def publisher() -> pubsub_v1.PublisherClient:
    """The client, made in the process that uses it: gRPC does not survive a fork."""
    return pubsub_v1.PublisherClient()


def handle(request: flask.Request) -> tuple[str, int]:
    """Answer one push."""
    message = request.get_json()["message"]
    asked = json.loads(base64.b64decode(message["data"]))
    answer = session.post(os.environ["MODEL_URL"] + asked["path"], json=asked["body"])
    response = {"status_code": answer.status_code, "metadata": asked["metadata"], "body": answer.json()}
    attributes = {**message["attributes"], "request_message_id": message["messageId"]}
    attributes["status_code"] = str(answer.status_code)
    publisher().publish(os.environ["RESPONSE_TOPIC"], json.dumps(response).encode(), **attributes).result()
    return "", 204

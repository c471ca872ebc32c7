"""Two Pub/Subs, the project's own and Google's emulator, and a requester's view of topics in them."""

import itertools
import json
import os
import queue
import re
import shutil
import subprocess
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from google.api_core.exceptions import NotFound
from google.cloud import pubsub_v1

from tests.parts.processes import BIN, free_port, listening, missing, process, reap, spawn, until

CERTS_URLS = {}  # where the keys of each of the project's own are, by its address


@contextmanager
def local_pubsub(*options, spawn=spawn):
    """The project's own, started by `spawn`."""
    command = [BIN / "inference-relay", "local", "pubsub", "--port", "0", *options]
    reading, writing = os.pipe()
    with os.fdopen(reading) as output, ending(command, spawn, writing):
        said = output.readline()
        address = _told("PUBSUB_EMULATOR_HOST", said)
        CERTS_URLS[address] = _told("PUSH_CERTS_URL", said)
        yield address


def _told(variable, said):
    return re.search(rf"{variable}=(\S+)", said).group(1)


@contextmanager
def ending(command, spawn, output):
    """A child process that prints into a pipe, ended with SIGTERM."""
    with os.fdopen(output, "w") as stdout:
        child = spawn(command, stdout=stdout)
    try:
        yield
    finally:
        child.terminate()
        reap(child)


@contextmanager
def google_emulator():
    """Google's own, where Java and the Google Cloud SDK are; in CI they have to be."""
    jar = emulator_jar()
    if jar is None:
        missing("needs Java and Google's Pub/Sub emulator (gcloud components install pubsub-emulator)")
    port = free_port()
    command = ["java", "-XX:TieredStopAtLevel=1", "-jar", jar, "--host=127.0.0.1", f"--port={port}"]
    with process(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
        until(lambda: listening(port), 60)
        yield f"127.0.0.1:{port}"


def emulator_jar():
    """Where the emulator is, if it is."""
    if not (shutil.which("gcloud") and shutil.which("java")):
        return None
    jars = "platform/pubsub-emulator/lib/cloud-pubsub-emulator*.jar"
    beside = Path(shutil.which("gcloud")).resolve().parents[1]  # where it mostly is; to ask gcloud takes a second
    if jar := next(beside.glob(jars), None):
        return jar
    sdk = subprocess.run(
        ["gcloud", "info", "--format=value(installation.sdk_root)"], capture_output=True, text=True, check=True
    )
    return next(Path(sdk.stdout.strip()).glob(jars), None)


def end(stream, subscriber, publisher):
    """End a streaming pull and the clients, with all their threads."""
    stream.cancel()
    stream.result()
    subscriber.close()
    publisher.stop()
    publisher.transport.close()


BROKERS = {"local": local_pubsub, "google": google_emulator}


class Topics:
    """The topics and subscriptions around a service, in a project of their own, and a requester's view of them."""

    _projects = itertools.count()

    def __init__(self, address):
        self.address = address
        self.project = f"e2e-{next(self._projects)}"
        self._received = queue.SimpleQueue()
        self._since = datetime.min.replace(tzinfo=UTC)

    def topic(self, name):
        """The full name of a topic."""
        return f"projects/{self.project}/topics/{name}"

    def subscription(self, name):
        """The full name of a subscription."""
        return f"projects/{self.project}/subscriptions/{name}"

    def __enter__(self):
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("PUBSUB_EMULATOR_HOST", self.address)
            self.publisher, self.subscriber = pubsub_v1.PublisherClient(), pubsub_v1.SubscriberClient()
        for name in ("requests", "responses", "dead"):
            self.publisher.create_topic(name=self.topic(name))
        for name in ("responses", "dead"):
            self.subscriber.create_subscription(name=self.subscription(name), topic=self.topic(name))
        self._stream = self.subscriber.subscribe(self.subscription("responses"), callback=self._receive)
        return self

    def __exit__(self, *_):
        end(self._stream, self.subscriber, self.publisher)

    def _receive(self, message):
        message.ack()
        if message.publish_time < self._since:
            return
        self._received.put((json.loads(message.data), dict(message.attributes), message.ordering_key))

    def push_to(self, url, attempts=100, **push_config):
        """Have the requests pushed to a service; retried soon, so that tests need not wait."""
        self.subscriber.create_subscription(
            request={
                "name": self.subscription("push"),
                "topic": self.topic("requests"),
                "ack_deadline_seconds": 60,
                "push_config": {"push_endpoint": url, **push_config},
                "retry_policy": {"minimum_backoff": {"nanos": 100_000_000}, "maximum_backoff": {"seconds": 1}},
                "dead_letter_policy": {"dead_letter_topic": self.topic("dead"), "max_delivery_attempts": attempts},
            }
        )

    def publish(self, request, **attributes):
        """Publish one request, as JSON unless it is bytes; returns its message id."""
        data = request if isinstance(request, bytes) else json.dumps(request).encode()
        return self.publisher.publish(self.topic("requests"), data, **attributes).result(20)

    def response(self, seconds=30):
        """The next response: its content, attributes and ordering key."""
        return self._received.get(timeout=seconds)

    def pull(self, name):
        """What is in a subscription now, if there is anything."""
        pulled = self.subscriber.pull(subscription=self.subscription(name), max_messages=10, timeout=30)
        return [received.message for received in pulled.received_messages]

    def no_response(self):
        """Whether none has come so far. Publish something else and wait for its response first."""
        return self._received.empty()

    def forget(self):
        """Have nothing pushed any more, and no response that was published so far: another test goes on from here."""
        self._since = datetime.now(UTC)
        with suppress(NotFound):
            self.subscriber.delete_subscription(subscription=self.subscription("push"))
        while not self._received.empty():
            self._received.get()

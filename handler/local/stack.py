"""Everything that answers requests, on one machine: Pub/Sub, a model, the service, and the topics between them."""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import IO

from google.cloud import pubsub_v1

from handler.config.settings import Settings, SettingsError
from handler.local.model import LocalModel
from handler.local.proxy import FaultProxy
from handler.local.pubsub import LocalPubSub
from handler.local.service import Service, ServiceFailed

PROJECT = "local"
REQUESTS = f"projects/{PROJECT}/topics/requests"
RESPONSES = f"projects/{PROJECT}/topics/responses"
DEAD_LETTERS = f"projects/{PROJECT}/topics/dead-letters"
ANSWERS = f"projects/{PROJECT}/subscriptions/answers"
DEAD_LETTER_SUBSCRIPTION = f"projects/{PROJECT}/subscriptions/dead-letters"
PUSH_SUBSCRIPTION = f"projects/{PROJECT}/subscriptions/relay"


@dataclass(frozen=True, slots=True)
class Stack:
    """What runs, and where."""

    broker: LocalPubSub
    model_url: str
    service_url: str


@contextmanager
def running(
    *,
    pubsub_port: int = 0,
    service_port: int = 0,
    log: IO[str] | None = None,
    starting: Callable[[str], None] = lambda _: None,
) -> Iterator[Stack]:
    """Start everything; stop it on the way out. Port 0 picks a free one; MODEL_URL replaces the small model.

    Raises ModelMissing, ServiceFailed, or OSError for a port that is taken; `starting` hears what starts next.
    """
    own_model = _own_model_url()
    with ExitStack() as parts:
        starting("Pub/Sub")
        broker = parts.enter_context(LocalPubSub(port=pubsub_port))
        os.environ["PUBSUB_EMULATOR_HOST"] = broker.address
        starting("the model")
        model_url = own_model or parts.enter_context(LocalModel()).url
        proxy = parts.enter_context(FaultProxy(model_url))
        _create_topics()
        starting("the service")
        environment = {"MODEL_URL": proxy.url, "RESPONSE_TOPIC": RESPONSES, "PUSH_AUTH": "none"}
        service = parts.enter_context(Service(environment, service_port or _free_port(), log))
        _push_to(service.url)
        yield Stack(broker, model_url, service.url)


def _own_model_url() -> str:
    """The MODEL_URL of the environment, refused at once where the service would refuse it."""
    url = os.environ.get("MODEL_URL", "").strip()
    try:
        if url:
            Settings.from_environment({"MODEL_URL": url, "RESPONSE_TOPIC": RESPONSES, "PUSH_AUTH": "platform"})
    except SettingsError as error:
        raise ServiceFailed("\n".join(error.problems)) from None
    return url


def _create_topics() -> None:
    with pubsub_v1.PublisherClient() as publisher, pubsub_v1.SubscriberClient() as subscriber:
        for topic in (REQUESTS, RESPONSES, DEAD_LETTERS):
            publisher.create_topic(name=topic)
        for subscription, topic in ((ANSWERS, RESPONSES), (DEAD_LETTER_SUBSCRIPTION, DEAD_LETTERS)):
            subscriber.create_subscription(name=subscription, topic=topic)


def _push_to(url: str) -> None:
    with pubsub_v1.SubscriberClient() as subscriber:
        subscriber.create_subscription(
            request={
                "name": PUSH_SUBSCRIPTION,
                "topic": REQUESTS,
                "ack_deadline_seconds": 600,
                "push_config": {"push_endpoint": f"{url}/"},
                # Short, because somebody is watching; in production the shortest wait is 10 s.
                "retry_policy": {"minimum_backoff": {"seconds": 1}, "maximum_backoff": {"seconds": 10}},
                "dead_letter_policy": {"dead_letter_topic": DEAD_LETTERS, "max_delivery_attempts": 100},
            }
        )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

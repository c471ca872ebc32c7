"""Everything that answers requests, on one machine: Pub/Sub, a model, the service, and the topics between them."""

import os
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import IO

from google.cloud import pubsub_v1

from handler.config.settings import Settings, SettingsError
from handler.local.model import MODEL_NAME, MODEL_SLOTS, LocalModel, first_model
from handler.local.page.board import Names
from handler.local.page.page import Page
from handler.local.proxy import FaultProxy
from handler.local.pubsub import LocalPubSub, Rules
from handler.local.service import Service, ServiceFailed

PROJECT = "local"
REQUESTS = f"projects/{PROJECT}/topics/requests"
RESPONSES = f"projects/{PROJECT}/topics/responses"
DEAD_LETTERS = f"projects/{PROJECT}/topics/dead-letters"
ANSWERS = f"projects/{PROJECT}/subscriptions/answers"
DEAD_LETTER_SUBSCRIPTION = f"projects/{PROJECT}/subscriptions/dead-letters"
PUSH_SUBSCRIPTION = f"projects/{PROJECT}/subscriptions/relay"


# Short, because somebody is watching; in production it is up to a minute from one push to the next.
_RULES = Rules(push_backoff_range=(0.1, 1.0))


@dataclass(frozen=True, slots=True)
class Stack:
    """What runs, and where."""

    broker: LocalPubSub
    model_url: str
    service_url: str
    page_url: str
    """"" where there is none."""
    model_name: str
    """"" where the model service does not say, or there is no page to show it."""


@contextmanager
def running(
    *,
    pubsub_port: int = 0,
    service_port: int = 0,
    page_ports: Sequence[int] = (),
    log: IO[str] | None = None,
    starting: Callable[[str], None] = lambda _: None,
) -> Iterator[Stack]:
    """Start everything, stop it on the way out. Port 0 picks a free one; the page takes the first that is free, if any.

    Raises ModelMissing, ServiceFailed, or OSError for a port that is taken; `starting` hears what starts next.
    """
    own_model = os.environ.get("MODEL_URL", "").strip()
    settings = _settings(own_model)
    trust = _trust(settings)
    with ExitStack() as parts:
        starting("Pub/Sub")
        broker = parts.enter_context(_broker(pubsub_port))
        starting("the model")
        model_url = own_model or parts.enter_context(LocalModel()).url
        page = parts.enter_context(_page(settings, own_model, trust)) if page_ports else None
        proxy = parts.enter_context(FaultProxy(model_url, page.hear if page else lambda _: None, trust))
        starting("the service")
        environment = {**_environment(proxy.url, own_model), **_behind_the_proxy(settings)}
        service = parts.enter_context(_service(environment, service_port, log, page))
        _push_to(service.url)
        page_url = _shown(page, page_ports, broker, proxy, service)
        yield Stack(broker, model_url, service.url, page_url, page.model_name if page else "")


def _service(environment: Mapping[str, str], port: int, log: IO[str] | None, page: Page | None) -> Service:
    return Service(environment, port or _free_port(), log, page.hear_line if page else None)


@contextmanager
def _broker(port: int) -> Iterator[LocalPubSub]:
    """Pub/Sub with the topics, where this process and its children find it."""
    with LocalPubSub(port=port, rules=_RULES) as broker:
        os.environ["PUBSUB_EMULATOR_HOST"] = broker.address
        _create_topics()
        yield broker


def _environment(model_url: str, own_model: str) -> dict[str, str]:
    """What the service is told. The small model's slots are known; those of one's own are for MODEL_SLOTS to say."""
    slots = {} if own_model or {"MODEL_SLOTS", "CONCURRENCY"} & os.environ.keys() else {"MODEL_SLOTS": str(MODEL_SLOTS)}
    return {"MODEL_URL": model_url, "RESPONSE_TOPIC": RESPONSES, "PUSH_AUTH": "none", **slots}


def _behind_the_proxy(settings: Settings) -> dict[str, str]:
    """What the service cannot tell by the proxy's URL: whom tokens for the model are for. TLS is the proxy's work."""
    return {"MODEL_AUDIENCE": settings.routing.routes[0].audience, "MODEL_CA_FILE": ""}


def _settings(own_model: str) -> Settings:
    """The service's settings; what it would refuse is refused at once."""
    environment = _environment(own_model or "http://127.0.0.1", own_model)
    try:
        # Without a token pushes are only taken from an emulator, which is not there yet.
        return Settings.from_environment({**os.environ, **environment, "PUSH_AUTH": "platform"})
    except SettingsError as error:
        raise ServiceFailed("\n".join(error.problems)) from None


def _trust(settings: Settings) -> ssl.SSLContext | None:
    """Whose certificates an https model may have: those that MODEL_CA_FILE holds, or None for the public ones."""
    if settings.model_ca_file is None:
        return None
    try:
        return ssl.create_default_context(cafile=settings.model_ca_file)
    except OSError as error:
        raise ServiceFailed(f"MODEL_CA_FILE {settings.model_ca_file}: {error}") from None


def _page(settings: Settings, own_model: str, trust: ssl.SSLContext | None) -> Page:
    names = Names(REQUESTS, RESPONSES, PUSH_SUBSCRIPTION)
    model_name = first_model(own_model, trust) if own_model else MODEL_NAME
    return Page(names, None if settings.adapts else settings.slots, model_name)


def _shown(page: Page | None, ports: Sequence[int], broker: LocalPubSub, proxy: FaultProxy, service: Service) -> str:
    """Serve the page, which sees everything from here on; its URL."""
    if page is None:
        return ""
    broker.watch.add(page.hear)
    return page.serve(ports, proxy, service)


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
                "retry_policy": {"minimum_backoff": {"seconds": 2}, "maximum_backoff": {"seconds": 10}},
                "dead_letter_policy": {"dead_letter_topic": DEAD_LETTERS, "max_delivery_attempts": 100},
            }
        )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

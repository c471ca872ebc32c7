"""The parts of black-box tests: Pub/Subs, a ledger, a model, and services, which tests share where they can.

Nothing here, nor in the tests, imports from the program.
"""

import functools
import subprocess
from contextlib import ExitStack
from typing import NamedTuple

import pytest

from tests.parts import redisserver
from tests.parts.model import Model, serving
from tests.parts.processes import BIN, reap
from tests.parts.pubsub import BROKERS, CERTS_URLS, Topics, local_pubsub
from tests.parts.service import Service, start


@pytest.fixture(scope="session")
def brokers(forks):
    """Each Pub/Sub, started when it is first wanted and kept for the other tests: topics are in separate projects."""
    made = {**BROKERS, "local": functools.partial(local_pubsub, spawn=forks.spawn)}
    with ExitStack() as started:
        yield functools.cache(lambda name: started.enter_context(made[name]()))


@pytest.fixture
def certs_url(brokers):
    """Where the keys of the project's own Pub/Sub are."""
    return CERTS_URLS[brokers("local")]


@pytest.fixture(params=BROKERS)
def topics(request, brokers, monkeypatch):
    """Topics in each Pub/Sub in turn."""
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", brokers(request.param))
    with Topics(brokers(request.param)) as made:
        yield made


@pytest.fixture
def local_topics(brokers, monkeypatch):
    """Topics in the project's own Pub/Sub."""
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", brokers("local"))
    with Topics(brokers("local")) as made:
        yield made


@pytest.fixture
def ledger(tmp_path):
    """The URL of a Redis of its own."""
    redisserver.needed()
    with redisserver.Server(tmp_path) as server:
        yield server.url


@pytest.fixture
def model():
    """A model that does as it is told."""
    with serving(Model()) as server:
        yield server


@pytest.fixture
def relay(forks):
    """Runs a command to its end, forked: its exit code and what it printed."""

    def run(*arguments, **environment):
        both = {"stderr": subprocess.STDOUT, "measured": True}
        done = forks.run([BIN / "inference-relay", *arguments], {"COLUMNS": "200", **environment}, **both)
        return done.returncode, done.stdout

    return run


# --- the service

PLANTED = {"MODEL_API_KEY": "PLANTED-key"}  # which must never be printed


@pytest.fixture(scope="session")
def ended(forks):
    """Services that were told to end, and may take their time: gunicorn lets kept-alive connections linger for 2 s."""
    children = []
    yield children
    for child in children:
        reap(child)


@pytest.fixture
def serve(tmp_path, ended, request, forks):
    """Starts services of a test's own, whose responses go to the test's topics; they end with the test."""
    started = []

    def serve_one(server, **settings):
        topics = request.getfixturevalue("topics" if "topics" in request.fixturenames else "local_topics")
        settings = {"RESPONSE_TOPIC": topics.topic("responses"), **PLANTED, **settings}
        started.append(start(server, tmp_path, **{"spawn": forks.spawn, **settings}))
        return started[-1]

    yield serve_one
    for service in started:
        service.process.terminate()
    for service in started:
        # Whatever the suite does, nothing secret is printed.
        assert "PLANTED" not in service.output()
    ended += [service.process for service in started]


class World(NamedTuple):
    """A running service, the topics around it, and its model."""

    service: Service
    topics: Topics
    model: Model


@pytest.fixture(scope="session")
def kept(brokers, tmp_path_factory, ended, forks):
    """Services for tests, with topics and a model of their own: each started when its settings are first wanted."""
    with ExitStack() as stack:

        @functools.cache
        def one(broker, server, **settings):
            topics = stack.enter_context(Topics(brokers(broker)))
            model = stack.enter_context(serving(Model()))
            around = {"PUBSUB_EMULATOR_HOST": topics.address, "RESPONSE_TOPIC": topics.topic("responses")}
            around |= {"MODEL_URL": model.url, **PLANTED}
            service = start(server, tmp_path_factory.mktemp("kept"), spawn=forks.spawn, **around, **settings)
            ended.append(service.process)
            stack.callback(service.process.terminate)
            return World(service, topics, model)

        yield one


def borrowed(kept, broker):
    """Gives a test kept services, of which it sees only what it does itself."""
    worlds = []

    def one(server, **settings):
        worlds.append(kept(broker, server, **settings))
        for part in worlds[-1]:
            part.forget()
        return worlds[-1]

    yield one
    for world in worlds:
        assert world.service.process.poll() is None
        assert "PLANTED" not in world.service.output()


@pytest.fixture(params=BROKERS)
def world(request, kept):
    """A service that other tests use, too, by its server and settings; with each Pub/Sub in turn."""
    yield from borrowed(kept, request.param)


@pytest.fixture
def local_world(kept):
    """The same with the project's own Pub/Sub."""
    yield from borrowed(kept, "local")

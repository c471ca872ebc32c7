"""What the tests of the requester's side share: both Pub/Subs, a stand-in for the relay, and the command itself."""

import collections
import itertools
import json
import os
import select
import signal
import socket
import sqlite3
import subprocess
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from google.cloud import pubsub_v1

from tests.batch.answerer import Answerer
from tests.e2e.conftest import brokers, ledger, model
from tests.parts.processes import BIN, inherited, listening, until
from tests.parts.pubsub import BROKERS, local_pubsub
from tests.parts.service import SERVERS

__all__ = ["brokers", "ledger", "model"]

RELAY = BIN / "inference-relay"
_projects = itertools.count(1)


class Place:
    """A project of its own in a broker: the two topics, the relay's subscription, and what was asked of the model."""

    def __init__(self, address, folder, forks):
        self.address, self.folder, self.forks = address, folder, forks
        self.project = f"batch-{next(_projects)}"
        self.calls_file = folder / "calls.jsonl"
        self.calls_file.touch()

    def name(self, kind, name):
        """A full name."""
        return f"projects/{self.project}/{kind}/{name}"

    def __enter__(self):
        self.publisher, self.subscriber = pubsub_v1.PublisherClient(), pubsub_v1.SubscriberClient()
        for topic in ("requests", "responses"):
            self.publisher.create_topic(name=self.name("topics", topic))
        self.subscribe("relay", "requests", ack_deadline_seconds=60)
        return self

    def __exit__(self, *_):
        self.subscriber.close()
        self.publisher.stop()
        self.publisher.transport.close()

    def subscribe(self, name, topic, **config):
        """Make a subscription."""
        self.subscriber.create_subscription(
            request={"name": self.name("subscriptions", name), "topic": self.name("topics", topic), **config}
        )
        return self.name("subscriptions", name)

    def subscriptions(self):
        """The short names of those there are."""
        found = self.subscriber.list_subscriptions(project=f"projects/{self.project}")
        return {each.name.rsplit("/", 1)[1] for each in found}

    def publish(self, topic, data, **attributes):
        """Publish a message."""
        return self.publisher.publish(self.name("topics", topic), data, **attributes).result(20)

    @contextmanager
    def relay(self, seconds=0.0):
        """The stand-in for relay and model, working."""
        names = self.name("subscriptions", "relay"), self.name("topics", "responses")
        with Answerer(self.address, *names, self.calls_file, seconds):
            yield

    def calls(self):
        """What the model was asked: custom id, message id, attributes and request."""
        return [json.loads(line) for line in self.calls_file.read_text().rpartition("\n")[0].splitlines()]

    def asked(self):
        """How often the model was asked for each custom id."""
        return collections.Counter(custom_id for custom_id, *_ in self.calls())

    def environment(self, address=None):
        """For the command."""
        return {
            "PUBSUB_EMULATOR_HOST": address or self.address,
            "GOOGLE_CLOUD_PROJECT": self.project,
            "COLUMNS": "200",
        }

    def run(self, *arguments, stdin=None, address=None):
        """Run a command to its end."""
        environment = self.environment(address)
        return self.forks.run([RELAY, *arguments], environment, cwd=self.folder, measured=True, stdin=stdin)

    def start(self, *arguments, stdin=None, **options):
        """The same, started as a person does: not forked, and not measured; `options` are those of subprocess.run."""
        return subprocess.run(
            [RELAY, *map(str, arguments)],
            env={**inherited(), **self.environment()},
            cwd=self.folder,
            capture_output=True,
            text=not isinstance(stdin, bytes),
            input=stdin,
            timeout=110,
            check=False,
            **options,
        )

    @contextmanager
    def running(self, *arguments, address=None, measured=False, spawn=None):
        """A command while it runs, started by `spawn`; killed with SIGKILL when left, if it still runs."""
        with (self.folder / "command.log").open("a") as said:
            child = (spawn or self.forks.spawn)(
                [RELAY, *arguments],
                self.environment(address),
                cwd=self.folder,
                measured=measured,
                stdout=said,
                stderr=said,
            )
        try:
            yield child
        finally:
            child.kill()
            child.wait()


@pytest.fixture(params=BROKERS)
def place(request, brokers, monkeypatch, tmp_path, forks):
    """A project in each Pub/Sub in turn."""
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", brokers(request.param))
    with Place(brokers(request.param), tmp_path, forks) as made:
        yield made


@pytest.fixture
def local_place(brokers, monkeypatch, tmp_path, forks):
    """A project in the project's own Pub/Sub."""
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", brokers("local"))
    with Place(brokers("local"), tmp_path, forks) as made:
        yield made


# --- the real service


@contextmanager
def service(place, model, port, **settings):
    """An instance of the service, killed with SIGKILL when left."""
    environment = {
        "MODEL_URL": model.url,
        "RESPONSE_TOPIC": place.name("topics", "responses"),
        "PUBSUB_EMULATOR_HOST": place.address,
        "PUSH_AUTH": "none",
        "PORT": str(port),
        **settings,
    }
    log = (place.folder / "service.log").open("a")
    files = {"stdout": log, "stderr": subprocess.STDOUT}
    child = place.forks.spawn(SERVERS["gunicorn"], environment, start_new_session=True, **files)
    try:
        until(lambda: listening(port), 60)
        yield child
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        log.close()


@pytest.fixture
def steady_place(monkeypatch, tmp_path, forks):
    """A Pub/Sub that does not slow a subscription down after failed pushes: the kills here are close together."""
    with local_pubsub("--no-push-backoff", spawn=forks.spawn) as address:
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", address)
        with Place(address, tmp_path, forks) as made:
            yield made


# --- files


def openai_line(custom_id, prompt="Say hello.", **changes):
    """A request in OpenAI's form."""
    body = {"model": "m", "prompt": prompt, "max_tokens": 16}
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/completions", "body": body} | changes


def write_lines(path, lines):
    """Write JSON documents, or text as it is, a line each."""
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def read_lines(path):
    """The JSON documents of a file; none where there is no file."""
    return [json.loads(line) for line in Path(path).read_text().splitlines()] if Path(path).exists() else []


def states(journal):
    """How many lines stand where, by a look at the journal from outside."""
    names = ("pending", "sending", "sent", "succeeded", "failed")
    with suppress(sqlite3.Error):
        database = sqlite3.connect(f"file:{journal}?mode=ro", uri=True, timeout=5)
        try:
            found = dict(database.execute("SELECT state, count(*) FROM lines GROUP BY state"))
        finally:
            database.close()
        return collections.Counter({name: found.get(number, 0) for number, name in enumerate(names)})
    return collections.Counter()


@pytest.fixture
def files(local_place):
    """Names of a batch's files, and the relay at work."""

    class Files:
        requests = local_place.folder / "requests.jsonl"
        answers = local_place.folder / "answers.jsonl"
        errors = local_place.folder / "answers.errors.jsonl"
        journal = local_place.folder / "answers.jsonl.journal"
        command = ("batch", "run", requests, "-o", answers)

    with local_place.relay():
        yield Files


# --- trouble


class Tunnel:
    """A way to a broker that can be `mute`: what is sent arrives, and nothing comes back."""

    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.mute = threading.Event()
        self._ended = threading.Event()

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._listener.close()

    def _accept(self):
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                broker = socket.create_connection(self._target)
                threading.Thread(target=self._pass, args=(client, broker), daemon=True).start()

    def _pass(self, client, broker):
        with client, broker, suppress(OSError):
            while not self._ended.is_set():
                readable = [client] if self.mute.is_set() else [client, broker]
                for one in select.select(readable, [], [], 0.05)[0]:
                    part = one.recv(1 << 16)
                    if not part:
                        return
                    (broker if one is client else client).sendall(part)

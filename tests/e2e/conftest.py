"""Real parts for black-box tests: two Pub/Subs, two ways to run the service, and a model that does as it is told.

Nothing here, nor in the tests, imports from the program.
"""

import base64
import functools
import itertools
import json
import os
import queue
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from google.cloud import pubsub_v1
from redis import Redis
from redis.exceptions import RedisError

from tests.faults import redisserver

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent

SERVERS = {
    "gunicorn": [BIN / "gunicorn", "-c", "gunicorn.conf.py", 'functions_framework:create_app("handle","main.py")'],
    "functions-framework": [BIN / "functions-framework", "--target=handle", "--source=main.py"],
}


def free_port():
    """A port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(condition, seconds=20):
    """Wait until `condition()` holds; a test that waits in vain fails."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def listening(port):
    """Whether somebody accepts connections on this port."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@contextmanager
def interruptible():
    """Children that are started here can be interrupted, though this process may ignore it (nohup, some CI)."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def spawn(command, environment=None, *, cwd=ROOT, measured=False, **options):
    """A child process. Its coverage costs as much again as what it does: it is for what no other test runs."""
    command = [str(part) for part in command]
    own = {name: value for name, value in os.environ.items() if measured or not name.startswith("COV")}
    with interruptible():
        return subprocess.Popen(command, cwd=cwd, env={**own, **(environment or {})}, text=True, **options)


def reap(child):
    """Wait for a child that was told to end; one that does not is a failure."""
    try:
        child.wait(30)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
        raise


@contextmanager
def process(command, environment=None, **options):
    """A child process, ended with SIGTERM."""
    with spawn(command, environment, **options) as child:
        try:
            yield child
        finally:
            child.terminate()
            reap(child)


# --- Pub/Sub


@contextmanager
def local_pubsub():
    """The project's own."""
    port = free_port()
    with process([BIN / "inference-relay", "local", "pubsub", "--port", port], stdout=subprocess.PIPE) as child:
        os.environ["LOCAL_CERTS_URL"] = re.search(r"PUSH_CERTS_URL=(\S+)", child.stdout.readline()).group(1)
        yield f"127.0.0.1:{port}"


@contextmanager
def google_emulator():
    """Google's own, where Java and the Google Cloud SDK are; in CI they have to be."""
    jar = emulator_jar()
    if jar is None:
        if os.environ.get("CI"):
            pytest.fail("Google's Pub/Sub emulator is not installed, and CI needs it")
        pytest.skip("needs Java and Google's Pub/Sub emulator (gcloud components install pubsub-emulator)")
    port = free_port()
    command = ["java", "-XX:TieredStopAtLevel=1", "-jar", jar, "--host=127.0.0.1", f"--port={port}"]
    with process(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
        until(lambda: listening(port), 60)
        yield f"127.0.0.1:{port}"


def emulator_jar():
    """Where the emulator is, if it is."""
    if not (shutil.which("gcloud") and shutil.which("java")):
        return None
    sdk = subprocess.run(
        ["gcloud", "info", "--format=value(installation.sdk_root)"], capture_output=True, text=True, check=True
    )
    return next(Path(sdk.stdout.strip()).glob("platform/pubsub-emulator/lib/cloud-pubsub-emulator*.jar"), None)


BROKERS = {"local": local_pubsub, "google": google_emulator}


class Topics:
    """The topics and subscriptions around a service, in a project of their own, and a requester's view of them."""

    _projects = itertools.count()

    def __init__(self, address):
        self.address = address
        self.project = f"e2e-{next(self._projects)}"
        self._received = queue.SimpleQueue()

    def topic(self, name):
        """The full name of a topic."""
        return f"projects/{self.project}/topics/{name}"

    def subscription(self, name):
        """The full name of a subscription."""
        return f"projects/{self.project}/subscriptions/{name}"

    def __enter__(self):
        self.publisher, self.subscriber = pubsub_v1.PublisherClient(), pubsub_v1.SubscriberClient()
        for name in ("requests", "responses", "dead"):
            self.publisher.create_topic(name=self.topic(name))
        for name in ("responses", "dead"):
            self.subscriber.create_subscription(name=self.subscription(name), topic=self.topic(name))
        self._stream = self.subscriber.subscribe(self.subscription("responses"), callback=self._receive)
        return self

    def __exit__(self, *_):
        self._stream.cancel()
        self._stream.result()
        self.subscriber.close()
        self.publisher.stop()
        self.publisher.transport.close()

    def _receive(self, message):
        message.ack()
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


@pytest.fixture(scope="session")
def brokers():
    """Each Pub/Sub, started when it is first wanted and kept for the other tests: topics are in separate projects."""
    with ExitStack() as started:
        yield functools.cache(lambda name: started.enter_context(BROKERS[name]()))


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


# --- the ledger


@pytest.fixture
def ledger(tmp_path):
    """The URL of a Redis of its own."""
    port = free_port()
    command = [redisserver.needed(), "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", tmp_path]
    with process(command, stdout=subprocess.DEVNULL), Redis(port=port) as client:

        def answers():
            with suppress(RedisError):
                return client.ping()
            return False

        until(answers)
        yield f"redis://127.0.0.1:{port}/0"


# --- the model


def http(status, content_type, body, *more):
    """The bytes of an HTTP response."""
    head = (f"HTTP/1.1 {status} X", f"Content-Type: {content_type}", f"Content-Length: {len(body)}", *more)
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


class Model(ThreadingHTTPServer):
    """A model that replies to a prompt with the bytes that were agreed for it; to others it echoes the prompt."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 100

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        # prompt -> replies, the last of which is for ever; each is bytes, or a function of the socket
        self.replies = {}
        self.calls = []
        self.headers = []
        self.release = threading.Event()  # lets go of everything that hangs

    def reply(self, prompt):
        """The next reply to a prompt."""
        left = self.replies.get(prompt) or [http(200, "application/json", json.dumps({"echo": prompt}).encode())]
        return left.pop(0) if len(left) > 1 else left[0]

    def hang(self, _connection):
        """Say nothing until the test is over."""
        self.release.wait(60)

    def hang_then(self, reply):
        """Say nothing until released, and then this."""

        def script(connection):
            self.release.wait(60)
            connection.sendall(reply)

        return script


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = body.get("prompt")
        self.server.calls.append((self.path, body))
        self.server.headers.append(dict(self.headers))
        self._say(self.server.reply(prompt))

    def do_GET(self):
        self._say(self.server.reply(f"GET {self.path}"))

    def _say(self, reply):
        with suppress(OSError):
            if callable(reply):
                reply(self.connection)
                self.close_connection = True
            else:
                self.connection.sendall(reply)


@contextmanager
def serving(server):
    """A model, in a thread."""
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    server.release.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def model():
    """A model that does as it is told."""
    with serving(Model()) as server:
        yield server


# --- the service


class Service:
    """A running service: its address, its process and what it logged."""

    def __init__(self, url, child, log):
        self.url, self.process, self._log = url, child, log

    def log(self):
        """Every line of JSON that it logged so far."""
        return [json.loads(line) for line in self._log.read_text().splitlines() if line.startswith("{")]

    def output(self):
        """Everything that it printed."""
        return self._log.read_text()

    def request(self, method, path, body=None, headers=None):
        """One HTTP request by hand: status, headers and body."""
        request = urllib.request.Request(self.url + path, body, headers or {}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.status, response.headers, response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, error.read()

    def is_ready(self):
        """Whether it takes pushes."""
        with suppress(urllib.error.URLError, OSError):
            return self.request("GET", "/health/ready")[0] == 200
        return False

    def push(self, body, headers=None):
        """Post a push by hand and return the status. It carries what must never be printed."""
        planted = {"Authorization": "Bearer PLANTED-token", "X-Header": "PLANTED-header"}
        return self.request("POST", "/", body, {"Content-Type": "application/json", **planted, **(headers or {})})[0]


@pytest.fixture(scope="session")
def ended():
    """Services that were told to end, and may take their time: gunicorn lets kept-alive connections linger for 2 s."""
    children = []
    yield children
    for child in children:
        reap(child)


@pytest.fixture
def serve(tmp_path, ended, request):
    """Starts services, whose responses go to the test's topics; they end with the test."""
    started = []

    def start(server, *, measured=False, **environment):
        topics = request.getfixturevalue("topics" if "topics" in request.fixturenames else "local_topics")
        port = free_port()
        log = tmp_path / f"service-{port}.log"
        settings = {
            "RESPONSE_TOPIC": topics.topic("responses"),
            "PUSH_AUTH": "none",
            "MODEL_API_KEY": "PLANTED-key",
            "PATIENCE_SECONDS": "0",
            "PORT": str(port),
            **environment,
        }
        with log.open("w") as file:
            child = spawn(SERVERS[server], settings, measured=measured, stdout=file, stderr=subprocess.STDOUT)
        service = Service(f"http://127.0.0.1:{port}", child, log)
        started.append(service)
        until(lambda: child.poll() is not None or service.is_ready())
        assert child.poll() is None, service.output()
        return service

    yield start
    for service in started:
        service.process.terminate()
        # Whatever the suite does, nothing secret is printed.
        assert "PLANTED" not in service.output()
    ended += [service.process for service in started]


_ids = itertools.count(1)


def push_of(request, message_id=None, attempt=None, **fields):
    """The body of a wrapped push, of a message of its own unless an id is given."""
    message_id = message_id or f"by-hand-{next(_ids)}"
    data = request if isinstance(request, bytes) else json.dumps(request).encode()
    push = {"message": {"messageId": message_id, "data": base64.b64encode(data).decode(), **fields}}
    return json.dumps(push if attempt is None else push | {"deliveryAttempt": attempt}).encode()

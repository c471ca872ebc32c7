"""What others' bug reports are about, tried on the service as production starts it. Nothing imports the program."""

import itertools
import json
from dataclasses import dataclass, field

import pytest

from tests.e2e.conftest import brokers
from tests.parts.model import Model, serving
from tests.parts.processes import until
from tests.parts.pubsub import Topics
from tests.parts.service import push_of, running

__all__ = ["brokers"]

MAX_ATTEMPTS = 10
_ids = itertools.count(1)


def rows(*table):
    """The parameters of a test, a row each, by name."""
    return [pytest.param(*values, id=name) for name, *values in table]


@dataclass
class Outcome:
    """What became of a message: the statuses of its pushes, the log line of each, and its response, if there is one."""

    statuses: list[int]
    lines: list[dict]
    calls: int
    response: dict | None = None
    attributes: dict = field(default_factory=dict)

    @property
    def deliveries(self):
        """How many times it had to be pushed."""
        return len(self.statuses)

    @property
    def reasons(self):
        """The reason of each push, in the log."""
        return [line["reason"] for line in self.lines]

    @property
    def error(self):
        """The words of an error of the relay's own."""
        return self.response["body"]["error"]["message"]


class World:
    """A service under gunicorn, a model that answers with any bytes, and a requester's view of the responses."""

    def __init__(self, service, topics, model):
        self.service, self.topics, self.model = service, topics, model
        self._responses = {}

    def deliver(self, request, *replies, most=MAX_ATTEMPTS, **message):
        """Push a message as Pub/Sub does, until it is acknowledged; the model answers each call for it by a reply."""
        name = f"field-{next(_ids)}"
        if isinstance(request, dict) and isinstance(request.get("body"), dict):
            request = {**request, "body": {"prompt": name, **request["body"]}}
        self.model.replies[name] = list(replies)
        calls, statuses = len(self.model.calls), []
        while len(statuses) < most and statuses[-1:] != [204]:
            statuses.append(self.service.push(push_of(request, name, len(statuses) + 1, **message)))
        lines = self._lines(name, len(statuses))
        outcome = Outcome(statuses, lines, len(self.model.calls) - calls)
        if statuses[-1] == 204:
            outcome.response, outcome.attributes = self._response(name)
        return outcome

    def ask(self, *replies, **options):
        """A request as it should be, whose answers are these."""
        return self.deliver({"metadata": {"id": 1}, "body": {}}, *replies, **options)

    def _lines(self, message_id, count):
        def found():
            return [line for line in self.service.log() if line.get("message_id") == message_id]

        until(lambda: len(found()) >= count)
        return found()

    def _response(self, message_id):
        while message_id not in self._responses:
            response, attributes, _ = self.topics.response()
            self._responses[attributes["request_message_id"]] = response, attributes
        return self._responses.pop(message_id)


def settings(topics, model_url):
    """Those of a service whose responses go to these topics."""
    pubsub = {"PUBSUB_EMULATOR_HOST": topics.address, "RESPONSE_TOPIC": topics.topic("responses")}
    return {"MODEL_URL": model_url, "MAX_ATTEMPTS": str(MAX_ATTEMPTS), **pubsub}


@pytest.fixture(scope="session")
def topics(brokers):
    """Topics in the project's own Pub/Sub."""
    with Topics(brokers("local")) as made:
        yield made


@pytest.fixture(scope="session")
def model():
    """A model that does as it is told."""
    with serving(Model()) as server:
        yield server


@pytest.fixture(scope="session")
def world(topics, model, tmp_path_factory):
    """Everything, started once: each message is another one."""
    with running("gunicorn", tmp_path_factory.mktemp("field"), **settings(topics, model.url)) as service:
        yield World(service, topics, model)


GOOD = {"id": "c", "choices": [{"index": 0, "text": "blue", "finish_reason": "stop"}]}


def said(status, body, content_type="application/json", *headers):
    """The bytes of a reply: JSON unless it is bytes or text."""
    if not isinstance(body, bytes):
        body = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    head = (f"HTTP/1.1 {status} X", f"Content-Type: {content_type}", f"Content-Length: {len(body)}", *headers)
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body

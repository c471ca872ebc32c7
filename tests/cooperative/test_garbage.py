"""What a message leaves behind in the process."""

import gc
import json
from base64 import b64encode
from collections.abc import Callable
from io import BytesIO

import pytest
from werkzeug.test import EnvironBuilder

from bench.processes import StandIn
from handler.app import App
from handler.config.settings import Settings
from tests.parts.garbage import uncollected

MESSAGES = 50


def wrapped(request: object) -> Callable[[str], object]:
    """Makes a push of a message with this request, by its id."""
    data = b64encode(json.dumps(request).encode()).decode()
    return lambda message_id: {"message": {"messageId": message_id, "data": data}}


ANSWERED = wrapped({"metadata": {"n": 1}, "body": {"model": "m", "prompt": "Hello"}})
PUSHES = {
    "answered": (ANSWERED, 204),
    "answered before": (lambda _: ANSWERED("the same"), 204),
    "no request": (wrapped({"metadata": {}, "prompt": "no body"}), 204),
    "no push": (lambda _: {"message": None}, 400),
}


@pytest.fixture(scope="module")
def environment():
    """The service's, with stand-ins for the model and for Pub/Sub."""
    with StandIn("model", slots=4, messages=1, mean=0.001, status=200) as model, StandIn("sink") as sink:
        yield {
            "MODEL_URL": f"http://127.0.0.1:{model.port}",
            "PUSH_AUTH": "none",
            "PUBSUB_EMULATOR_HOST": f"127.0.0.1:{sink.port}",
            "RESPONSE_TOPIC": "projects/bench/topics/responses",
        }


@pytest.fixture
def push(monkeypatch, environment):
    """Hands a push to the service's application; returns the status."""
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", environment["PUBSUB_EMULATOR_HOST"])
    app = App(Settings.from_environment(environment))
    answer, statuses = app.in_front_of(lambda *_: []), []

    def push(environ):
        answer(environ, lambda status, _headers: statuses.append(int(status[:3])))
        return statuses.pop()

    yield push
    app.close()


def environs(body, prefix):
    """Pushes as a WSGI server hands them on."""
    for number in range(MESSAGES):
        data = json.dumps(body(f"{prefix} {number}")).encode()
        yield EnvironBuilder("/", method="POST", input_stream=BytesIO(data), content_length=len(data)).get_environ()


@pytest.mark.parametrize("name", PUSHES)
def test_a_message_leaves_no_cycles_of_references(push, name):
    """So memory is free again at once, and gunicorn.conf.py may have cycles looked for seldom."""
    body, status = PUSHES[name]
    assert {push(environ) for environ in environs(body, f"{name}, first")} == {status}
    with uncollected():
        # Nobody here holds what is pushed: what holds itself would not be found.
        assert {push(environ) for environ in environs(body, f"{name}, then")} == {status}
        assert gc.collect() < MESSAGES

"""What a message leaves behind in the process."""

import gc
import json
from base64 import b64encode
from io import BytesIO

import pytest
from werkzeug.test import EnvironBuilder

from bench.processes import StandIn
from handler.app import App
from handler.config.settings import Settings

MESSAGES = 50
REQUESTS = {
    "answered": {"metadata": {"n": 1}, "body": {"model": "m", "prompt": "Hello"}},
    "refused": {"metadata": {}, "prompt": "no body"},
}


@pytest.fixture
def push(monkeypatch):
    """Hands a push to the service's application; returns the status."""
    with StandIn("model", slots=4, messages=1, mean=0.001, status=200) as model, StandIn("sink") as sink:
        pubsub = {"PUBSUB_EMULATOR_HOST": f"127.0.0.1:{sink.port}", "RESPONSE_TOPIC": "projects/bench/topics/responses"}
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", pubsub["PUBSUB_EMULATOR_HOST"])
        environment = {"MODEL_URL": f"http://127.0.0.1:{model.port}", "PUSH_AUTH": "none", **pubsub}
        app = App(Settings.from_environment(environment))
        answer, statuses = app.in_front_of(lambda *_: []), []

        def push(environ):
            answer(environ, lambda status, _headers: statuses.append(status))
            return statuses.pop()

        yield push
        app.close()


def environs(request, prefix):
    """Pushes of messages with this request, as a WSGI server hands them on."""
    data = b64encode(json.dumps(request).encode()).decode()
    for number in range(MESSAGES):
        body = json.dumps({"message": {"messageId": f"{prefix} {number}", "data": data}}).encode()
        made = EnvironBuilder("/", method="POST", input_stream=BytesIO(body), content_length=len(body))
        yield made.get_environ()


def test_a_message_leaves_no_cycles_of_references(push):
    """So memory is free again at once, and gunicorn.conf.py may have cycles looked for seldom."""
    for name, request in REQUESTS.items():
        made_once = {push(environ) for environ in environs(request, f"first {name}")}
        pushes = list(environs(request, f"then {name}"))
        gc.collect()
        gc.disable()
        try:
            assert {push(environ) for environ in pushes} == made_once == {"204 NO CONTENT"}
            assert gc.collect() < MESSAGES, name
        finally:
            gc.enable()

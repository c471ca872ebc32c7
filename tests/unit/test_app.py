"""One HTTP request in, one status out."""

import json
import logging
import sys
import threading

import flask
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.test import EnvironBuilder

from handler.app import MAX_PUSH_BYTES, App
from handler.config.settings import Settings
from handler.delivery import Delivery
from handler.rules.verdict.outcome import FACTS, Reason, Verdict
from tests.parts.processes import until

ENVIRONMENT = {
    "MODEL_URL": "http://127.0.0.1:9",
    "RESPONSE_TOPIC": "projects/p/topics/responses",
    "PUSH_AUTH": "platform",
    "MODEL_SLOTS": "1",
    "MAX_WAITING": "1",
}


class Relay:
    """Answers every message with one verdict, once it may."""

    def __init__(self, verdict=None):
        self.verdict = verdict or Verdict(Reason.ANSWERED)
        self.messages = []
        self.entered, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()

    def delivery(self, message, stream, arrived, held, record):
        return Delivery(message, arrived, arrived + 10, message.message_id, "owner", held, stream, "topic", record)

    def drain(self):
        self.draining = True

    def answer(self, delivery):
        self.messages.append(delivery.message)
        self.entered.set()
        self.go_on.wait(10)
        if isinstance(self.verdict, Exception):
            raise self.verdict
        return self.verdict


@pytest.fixture
def relay():
    """What the app hands its messages to."""
    return Relay()


@pytest.fixture
def app(relay):
    """An app with room for two messages: one at the model, one in the line."""
    made = App(Settings.from_environment(ENVIRONMENT))
    made._relay = relay
    return made


def respond(app, method="POST", path="/", data=b"", **options):
    """The app's response to one request."""
    return app(flask.Request(EnvironBuilder(method=method, path=path, data=data, **options).get_environ()))


PUSH = json.dumps({"message": {"messageId": "1", "data": "e30="}}).encode()


def test_a_push_is_acknowledged(app, relay):
    """The status is the verdict's, and there is no body that anybody reads."""
    response = respond(app, data=PUSH)
    assert (response.status_code, response.data) == (204, b"")
    assert relay.messages[0].message_id == "1"


@pytest.mark.parametrize("path", ["/push", "/pubsub/push?token=abc", "/_ah/push-handlers/x", "/healthz", "/health/"])
def test_a_push_to_any_path(app, relay, path):
    """Endpoints often have a path; only the health checks' are taken."""
    assert respond(app, path=path, data=PUSH).status_code == 204
    assert len(relay.messages) == 1


def test_a_query_is_ignored(app):
    """Eventarc adds one."""
    assert respond(app, path="/?__GCP_CloudEventsMode=CUSTOM_PUBSUB_topic", data=PUSH).status_code == 204


@pytest.mark.parametrize("reason", Reason)
def test_every_verdict_becomes_its_status(app, relay, reason):
    """Whatever the relay says, Pub/Sub hears its status."""
    relay.verdict = Verdict(reason)
    assert respond(app, data=PUSH).status_code == FACTS[reason].status


def test_a_bug_is_a_500_with_a_traceback_in_the_log(app, relay, caplog):
    """The message is delivered again, and the operator can see where it happened."""
    relay.verdict = ZeroDivisionError("a bug")
    assert respond(app, data=PUSH).status_code == 500
    assert any(record.exc_info and record.message_id == "1" for record in caplog.records)


def test_the_log_line_of_a_push(app, relay, caplog):
    """It names the message and the verdict, and nothing of what is in the message."""
    caplog.set_level(logging.INFO)
    relay.verdict = Verdict(Reason.MODEL_FAILED, detail="status 503")
    secret = json.dumps({"message": {"messageId": "1", "data": "c2VjcmV0", "attributes": {"a": "secret"}}}).encode()
    respond(app, data=secret, headers={"Authorization": "Bearer secret"})
    (record,) = caplog.records
    assert (record.severity if hasattr(record, "severity") else record.levelname) == "WARNING"
    assert record.getMessage() == "model_failed: status 503"
    assert (record.reason, record.status, record.message_id) == ("model_failed", 503, "1")
    assert "secret" not in str(vars(record))


@pytest.mark.parametrize("path", ["/health/live", "/health/ready"])
def test_health(app, path):
    """Both say so in JSON, to GET and to HEAD."""
    assert respond(app, "GET", path).status_code == 200
    assert respond(app, "GET", path).is_json
    assert respond(app, "HEAD", path).status_code == 200


def test_a_draining_instance(app, relay):
    """It is alive, not ready, and sends pushes elsewhere."""
    app.drain(10)
    assert relay.draining
    assert respond(app, "GET", "/health/live").status_code == 200
    assert respond(app, "GET", "/health/ready").status_code == 503
    assert respond(app, data=PUSH).status_code == 503


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 405),
        ("PUT", "/", 405),
        ("OPTIONS", "/", 405),
        ("POST", "/health/live", 405),
        ("DELETE", "/health/ready", 405),
        ("GET", "/healthz", 404),
        ("GET", "/health/", 404),
        ("GET", "/metrics", 404),
        ("PUT", "/pubsub/push", 404),
    ],
)
def test_other_methods_and_paths(app, relay, caplog, method, path, status):
    """They get a JSON error that says what there is."""
    response = respond(app, method, path, PUSH)
    assert response.status_code == status
    assert response.json["error"]
    assert status != 405 or response.headers["Allow"]
    assert relay.messages == []
    assert [record.reason for record in caplog.records] == ["refused"]


def numbered(number):
    """A push of another message."""
    return PUSH.replace(b'"1"', b'"%d"' % number)


def test_no_room(app, relay):
    """With every place taken the next push is refused at once, and health answers; then there is room again."""
    relay.go_on.clear()
    both = [threading.Thread(target=respond, args=(app,), kwargs={"data": numbered(number)}) for number in (1, 2)]
    for one in both:
        one.start()
    until(lambda: len(relay.messages) == 2)
    assert respond(app, data=numbered(3)).status_code == 429
    assert respond(app, "GET", "/health/ready").status_code == 200
    relay.go_on.set()
    for one in both:
        one.join()
    assert respond(app, data=numbered(3)).status_code == 204


def test_nobody_else_keeps_the_data_of_a_message_that_waits(app):
    """Once its delivery has let go of it, it is gone: thousands wait at once."""
    references = []

    class Waiting(Relay):
        def answer(self, delivery):
            data = delivery.take_data()
            references.append(sys.getrefcount(data))
            return self.verdict

    app._relay = Waiting()
    assert respond(app, data=PUSH).status_code == 204
    assert references == [2]  # the name `data`, and the call that counts


def test_a_delivery_that_was_no_attempt_is_counted(app, relay):
    """The next one's attempt is a number less than Pub/Sub says."""
    for reason, counted in ((Reason.BUSY, 1), (Reason.MODEL_FAILED, 1), (Reason.PUBLISH_FAILED, 2)):
        relay.verdict = Verdict(reason)
        respond(app, data=PUSH)
        assert app._ledger.claim("1", "owner").no_attempts == counted


def test_a_copy_that_joined_is_no_attempt(app, relay):
    """One failure of the model that two deliveries are told of is one attempt, whatever number Pub/Sub counts."""
    relay.verdict = Verdict(Reason.MODEL_FAILED)
    relay.go_on.clear()
    both = [threading.Thread(target=respond, args=(app,), kwargs={"data": PUSH}) for _ in range(2)]
    both[0].start()
    relay.entered.wait(10)
    both[1].start()
    until(lambda: app._copies._waiters["1"] is not None)
    relay.go_on.set()
    for one in both:
        one.join()
    assert app._ledger.claim("1", "owner").no_attempts == 1


def test_a_body_that_no_push_has(app, relay):
    """It is refused for its size, and a push of the largest message is not."""
    assert respond(app, data=b" " * (MAX_PUSH_BYTES + 1)).status_code == 413
    assert respond(app, data=b" " * MAX_PUSH_BYTES).status_code == 400
    assert relay.messages == []


@pytest.mark.parametrize("body", [b"", b"hello", b"{}", b"[]", b'{"message": {}}', b"\xff", b"[" * 100_000])
def test_no_push(app, relay, body):
    """What is no push of a message gets 400 and a line in the log."""
    assert respond(app, data=body).status_code == 400
    assert relay.messages == []


@given(body=st.binary(max_size=500), headers=st.dictionaries(st.sampled_from(["ce-id", "Content-Type"]), st.just("x")))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
def test_any_bytes(app, body, headers):
    """No bytes whatsoever are a server's error: they are a push, or they are none."""
    assert respond(app, data=body, headers=headers).status_code in (204, 400)


def test_an_unwrapped_push_is_any_bytes(app, relay):
    """With payload unwrapping every body is the data of a message."""
    assert respond(app, data=b"\xff", headers={"x-goog-pubsub-message-id": "1"}).status_code == 204
    assert relay.messages[0].data == b"\xff"


def test_who_pushes_is_asked_before_what(relay):
    """Without a token nothing of the body is looked at."""
    verify = {"PUSH_AUTH": "verify", "PUSH_AUDIENCE": "a", "PUSH_SERVICE_ACCOUNT": "s@p.iam.gserviceaccount.com"}
    app = App(Settings.from_environment(ENVIRONMENT | verify))
    app._relay = relay
    assert respond(app, data=PUSH).status_code == 401
    assert respond(app, data=b"junk").status_code == 401
    assert respond(app, "GET", "/health/live").status_code == 200
    assert relay.messages == []

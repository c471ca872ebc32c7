"""Google's tokens for the model service: fetched, renewed, refused; with a metadata server and a model that checks."""

import base64
import json
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from handler.config.settings import Settings
from handler.model.service import ModelService
from handler.rules.verdict.outcome import ModelFailure
from tests.parts.processes import until

from .metadata import running

BODY = b'{"model":"m"}'


class Checking(ThreadingHTTPServer):
    """A model service that lets in who carries a token that it takes, and keeps what it was shown."""

    def __init__(self, takes):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.takes, self.shown = takes, []
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        self.server.shown.append(token)
        body = b'{"choices":[]}'
        self.send_response(200 if self.server.takes(token) else 401)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def service(model, auth, **settings):
    """The model service, called as `auth` says."""
    environment = {"RESPONSE_TOPIC": "projects/p/topics/responses", "PUSH_AUTH": "platform", "MODEL_URL": model.url}
    made = Settings.from_environment({**environment, "MODEL_AUTH": auth, **settings})
    return ModelService(made.routing.routes[0], 5.0)


def statuses(called, times=1):
    """What so many calls at once come to."""
    with ThreadPoolExecutor(times) as threads:
        results = list(threads.map(lambda _: called.call("/v1/completions", BODY, 20), range(times)))
    return [getattr(result, "status", result) for result in results]


def claims(token):
    """What an ID token says."""
    part = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def test_an_access_token(metadata):
    """Fifty calls at once carry the same one, which was fetched once."""
    with running(Checking(lambda token: token == "t-1")) as model:
        assert statuses(service(model, "google-access-token"), 50) == [200] * 50
    assert metadata.fetched == ["token"]


@pytest.mark.parametrize("audience", ["", "https://other"])
def test_an_id_token_is_for_its_audience(metadata, audience):
    """The service's scheme and host, or what the settings say."""
    with running(Checking(lambda token: bool(token))) as model:
        settings = {"MODEL_AUDIENCE": audience} if audience else {}
        assert statuses(service(model, "google-id-token", **settings), 3) == [200] * 3
        assert {claims(token)["aud"] for token in model.shown} == {audience or model.url}
    assert metadata.fetched == ["identity"]


def test_a_token_that_is_refused_is_renewed_once(metadata):
    """And the call made again in place; fifty calls whose token is refused fetch one new one between them."""
    with running(Checking(lambda token: token == "t-2")) as model:
        assert statuses(service(model, "google-access-token"), 50) == [200] * 50
        assert set(model.shown) == {"t-1", "t-2"}
    assert metadata.fetched == ["token"] * 2


def test_a_new_token_that_is_refused_too(metadata):
    """The 401 is the result: it is the operator's."""
    with running(Checking(lambda token: False)) as model:
        assert statuses(service(model, "google-access-token")) == [401]
        assert model.shown == ["t-1", "t-2"]
    assert metadata.fetched == ["token"] * 2


def test_a_token_that_expires_soon_is_renewed_in_the_background(metadata):
    """The call goes on with the old one, as long as that is good, and the next carries the new one."""
    metadata.seconds = 60  # less than google-auth's margin: the token is stale from the start
    with running(Checking(lambda token: True)) as model:
        called = service(model, "google-access-token")
        assert statuses(called) == [200]
        assert statuses(called) == [200]
        until(lambda: len(metadata.fetched) >= 2)
        metadata.seconds = 3600
        until(lambda: statuses(called) == [200] and model.shown[-1] != "t-1")
        assert model.shown[:2] == ["t-1", "t-1"]


def test_tokens_that_expire_in_the_middle(metadata):
    """Nobody is refused while one token after the other runs out."""
    metadata.seconds = 1
    good_until = {}

    def takes(token):
        return time.time() < good_until.setdefault(token, time.time() + 5)

    with running(Checking(takes)) as model:
        called = service(model, "google-access-token")
        ends = time.monotonic() + 3
        while time.monotonic() < ends:
            assert statuses(called, 10) == [200] * 10
    assert len(set(model.shown)) > 2


def test_no_token_to_be_had(metadata, caplog):
    """Nothing is sent, and the log says so; once there are tokens again the calls go on."""
    metadata.broken = True
    with running(Checking(lambda token: True)) as model:
        called = service(model, "google-access-token")
        assert statuses(called, 50) == [ModelFailure.NO_CREDENTIALS] * 50
        assert model.shown == []
        assert "no token for the model service" in caplog.text
        assert "GOOGLE_APPLICATION_CREDENTIALS" in caplog.text
        metadata.broken = False
        until(lambda: statuses(called) == [200])

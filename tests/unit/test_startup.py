"""The startup probe: when a new instance says that it may get pushes."""

import socket
import threading
from contextlib import closing, contextmanager

import pytest

from handler.config.settings import Settings
from handler.startup import LONGEST_START_SECONDS, StartupProbe, connects, destinations

ENVIRONMENT = {"RESPONSE_TOPIC": "projects/my-project/topics/responses", "PUSH_AUTH": "platform"}


@contextmanager
def listening(port=0, backlog=8):
    """A server's address, for as long as it listens."""
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", port))
        server.listen(backlog)
        yield server.getsockname()


def settings(model, ledger=None):
    """Those of a service that calls a model, and perhaps a ledger, at these addresses."""
    host, port = model
    given = ENVIRONMENT | {"MODEL_URL": f"http://{host}:{port}/openai"}
    if ledger:
        given["LEDGER_URL"] = f"redis://:key@{ledger[0]}:{ledger[1]}/0"
    return Settings.from_environment(given)


@pytest.fixture
def closed():
    """An address at which nobody listens."""
    with listening() as address:
        pass
    return address


class Clock:
    """Time that passes when it is told to."""

    now = 1000.0

    def __call__(self):
        return self.now


def test_it_passes_once_the_model_is_reached():
    """Without a ledger there is nothing else to reach."""
    with listening() as model:
        assert StartupProbe(settings(model)).answer() == (200, {"status": "started"})


def test_it_waits_for_what_is_not_there_yet(closed):
    """And says which that is; each destination has to be reached once."""
    with listening() as model:
        probe = StartupProbe(settings(model, ledger=closed))
        assert probe.answer() == (503, {"status": "starting", "not_reached": ["ledger"]})
    with listening(closed[1]):  # the model is away again, and was reached before
        assert probe.answer() == (200, {"status": "started"})


def test_it_passes_after_a_bounded_time_all_the_same(closed, caplog):
    """A service whose model is away starts: what comes then is retried, and answered in the end."""
    clock = Clock()
    probe = StartupProbe(settings(closed, ledger=closed), clock)
    clock.now += LONGEST_START_SECONDS - 0.1
    assert probe.answer() == (503, {"status": "starting", "not_reached": ["ledger", "model"]})
    clock.now += 0.1
    assert probe.answer() == (200, {"status": "started"})
    assert "started without having reached ledger, model in 90 s" in caplog.text
    assert "key" not in caplog.text


def test_all_are_connected_to_at_once(tmp_path, monkeypatch):
    """However many there are, an answer takes as long as one of them: the platform does not wait for more."""
    all_of_them = threading.Barrier(12)
    monkeypatch.setattr("handler.startup.connects", lambda _: all_of_them.wait(10) >= 0)
    routes = [f"- {{name: r{number}, models: [m{number}], url: 'http://m{number}'}}" for number in range(11)]
    (tmp_path / "routes.yaml").write_text("\n".join(("routes:", *routes)))
    more = {"ROUTES_FILE": str(tmp_path / "routes.yaml"), "LEDGER_URL": "redis://ledger"}
    assert StartupProbe(Settings.from_environment(ENVIRONMENT | more)).answer()[0] == 200


def test_it_never_fails_again(closed):
    """It is about the start: liveness and readiness are other questions."""
    with listening() as model:
        probe = StartupProbe(settings(model))
        assert probe.answer()[0] == 200
    assert probe.answer()[0] == 200


def test_a_connection_that_does_not_open_is_given_up():
    """As it is while the way into the network is closed: nobody refuses it."""
    with listening(backlog=0) as address, closing(socket.socket()) as first, closing(socket.socket()) as second:
        for client in (first, second):  # the queue of a server that accepts nothing is full
            client.setblocking(False)
            client.connect_ex(address)
        assert not connects(address)


def test_a_name_that_is_not_known_is_not_reached():
    """DNS comes up with the rest of the network; some are no names."""
    assert not connects(("nowhere.invalid", 80))
    assert not connects(("model..svc", 80))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://model", ("model", 80)),
        ("https://model.example.com/openai", ("model.example.com", 443)),
        ("http://10.0.0.5:8000", ("10.0.0.5", 8000)),
        ("http://[fd00::1]:8443", ("fd00::1", 8443)),
    ],
)
def test_where_the_model_is(url, expected):
    """Its URL's host, and its port or the scheme's."""
    assert destinations(Settings.from_environment(ENVIRONMENT | {"MODEL_URL": url})) == {"model": expected}


@pytest.mark.parametrize(
    ("url", "expected"),
    [("redis://10.0.0.1/0", ("10.0.0.1", 6379)), ("rediss://u:p%2F@cache:6378/0", ("cache", 6378))],
)
def test_where_the_ledger_is(url, expected):
    """With a password and options in its URL, or without."""
    given = Settings.from_environment(ENVIRONMENT | {"MODEL_URL": "http://model", "LEDGER_URL": url})
    assert destinations(given)["ledger"] == expected

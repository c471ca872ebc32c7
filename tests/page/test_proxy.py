"""The proxy in front of the model: what it passes on, what it tells, and each way of breaking the model."""

import json
import ssl
import threading
import time
import urllib.error
import urllib.request

import pytest
import trustme

from handler.local import trouble
from handler.local.proxy import CallBegan, CallEnded, FaultProxy
from handler.local.trouble import Mode
from tests.parts.model import http
from tests.parts.processes import until
from tests.parts.tls import server_context

HELLO = http(200, "application/json", b'{"hello": 1}')


@pytest.fixture
def proxy(model, heard):
    """A proxy in front of the model, and what it tells in `heard`."""
    with FaultProxy(model.url, heard.append) as made:
        yield made


@pytest.fixture
def heard():
    """What the proxy has told."""
    return []


def ask(url, prompt="hi", path="/v1/completions", **body):
    """POST a request: the status and the body, or 0 and what happened to the connection."""
    request = urllib.request.Request(url + path, json.dumps({"prompt": prompt, **body}).encode())
    request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)
    except OSError as error:
        return 0, getattr(error, "reason", error)


def begun(url):
    """A request in a thread of its own: what came of it, when it has ended."""
    results = []
    thread = threading.Thread(target=lambda: results.append(ask(url)), daemon=True)
    thread.start()
    return thread, results


def test_what_it_passes_on(proxy, model, heard):
    """Path, query, body and headers go in, status, headers and body come back; each call is told."""
    model.replies["hi"] = [http(429, "application/json", b'{"error": 1}', "Retry-After: 7", "X-Own: yes")]
    request = urllib.request.Request(proxy.url + "/v1/a%20b?c=%2F", b'{"prompt": "hi"}', {"X-Mine": "1"})
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(request, timeout=20)
    with error.value as response:
        assert (response.code, response.read()) == (429, b'{"error": 1}')
        assert (response.headers["Retry-After"], response.headers["X-Own"]) == ("7", "yes")
    assert model.calls == [("/v1/a%20b?c=%2F", {"prompt": "hi"})]
    assert model.headers[0]["X-Mine"] == "1"
    assert heard == [CallBegan(1, b'{"prompt": "hi"}'), CallEnded(1, 429)]


def test_a_get_is_no_call(proxy, model, heard):
    """Health checks and lists of models are passed on, and not told as calls."""
    model.replies["GET /v1/models"] = [HELLO]
    with urllib.request.urlopen(proxy.url + "/v1/models", timeout=20) as response:
        assert response.read() == b'{"hello": 1}'
    assert heard == []


@pytest.mark.parametrize(("mode", "status"), [(Mode.FAILS, 500), (Mode.BUSY, 503)])
def test_it_fails_in_the_models_place(proxy, model, heard, mode, status):
    """The model is not asked, and is again when it works."""
    proxy.change(mode)
    assert ask(proxy.url)[0] == status
    assert model.calls == []
    assert heard[-1] == CallEnded(1, status)
    proxy.change(Mode.WORKS)
    assert ask(proxy.url) == (200, {"echo": "hi"})


def test_it_hangs_until_something_else_is_chosen(proxy, heard):
    """A call that hangs is cut then, as if the model had been started anew."""
    proxy.change(Mode.HANGS)
    thread, results = begun(proxy.url)
    until(lambda: heard)
    assert thread.is_alive()
    proxy.change(Mode.WORKS)
    thread.join(20)
    assert results[0][0] == 0
    assert heard == [heard[0], CallEnded(1, 0)]


def test_slow_is_only_slow(proxy, monkeypatch):
    """The answer comes, and not before its time."""
    monkeypatch.setattr(trouble, "SLOW_SECONDS", 0.3)
    proxy.change(Mode.SLOW)
    began = time.monotonic()
    assert ask(proxy.url) == (200, {"echo": "hi"})
    assert time.monotonic() - began >= 0.3


def test_slow_is_over_when_the_model_is_mended(proxy, model, heard, monkeypatch):
    """What waits is passed on at once."""
    monkeypatch.setattr(trouble, "SLOW_SECONDS", 600.0)
    proxy.change(Mode.SLOW)
    thread, results = begun(proxy.url)
    until(lambda: heard)
    assert model.calls == []
    proxy.change(Mode.WORKS)
    thread.join(20)
    assert results == [(200, {"echo": "hi"})]


def test_away_is_a_refused_connection(proxy, model, heard):
    """Calls in work break off, new ones find nobody; on the same port it comes back."""
    model.replies["hi"] = [model.hang]
    thread, results = begun(proxy.url)
    until(lambda: model.calls)
    proxy.change(Mode.AWAY)
    proxy.change(Mode.AWAY)
    thread.join(20)
    assert results[0][0] == 0
    status, why = ask(proxy.url)
    assert (status, isinstance(why, ConnectionRefusedError)) == (0, True)
    model.replies.clear()
    proxy.change(Mode.WORKS)
    assert ask(proxy.url) == (200, {"echo": "hi"})


def test_a_model_that_is_gone_is_gone(model, heard):
    """What is really wrong with the model is not hidden: the connection ends."""
    with FaultProxy("http://127.0.0.1:9", heard.append) as proxy:
        assert ask(proxy.url)[0] == 0
    assert heard[-1] == CallEnded(1, 0)


def test_a_model_with_a_certificate_of_ones_own(model, heard):
    """It is called where its authority is trusted, and only there."""
    authority = trustme.CA()
    model.socket = server_context(authority, "127.0.0.1").wrap_socket(model.socket, server_side=True)
    trust, url = ssl.create_default_context(), model.url.replace("http:", "https:")
    authority.configure_trust(trust)
    with FaultProxy(url, heard.append, trust) as proxy:
        assert ask(proxy.url) == (200, {"echo": "hi"})
    with FaultProxy(url, heard.append) as proxy:
        assert ask(proxy.url)[0] == 0


def test_a_caller_that_is_gone_is_no_work(proxy, model, heard):
    """Where the service is killed the model's call ends with it, and the slot is free again."""
    model.replies["hi"] = [model.hang]
    request = urllib.request.Request(proxy.url, b'{"prompt": "hi"}')
    with pytest.raises(TimeoutError):
        urllib.request.urlopen(request, timeout=0.5)
    until(lambda: heard[-1] == CallEnded(1, 0))


def test_fail_once(proxy, model):
    """A body that asks to fail does so the first time that it comes."""
    assert [ask(proxy.url, user="fail-once")[0] for _ in range(3)] == [500, 200, 200]
    assert ask(proxy.url, "another", user="fail-once")[0] == 500


def test_many_at_once(proxy, model):
    """Calls do not wait for each other."""
    gate = threading.Barrier(20, timeout=20)

    def together(connection):
        gate.wait()
        connection.sendall(HELLO)

    model.replies["hi"] = [together]
    calls = [begun(proxy.url) for _ in range(20)]
    for thread, results in calls:
        thread.join(20)
        assert results == [(200, {"hello": 1})]

"""What a requester and Pub/Sub see of the whole service, from outside."""

import json
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.parts.model import http
from tests.parts.processes import free_port, until
from tests.parts.pubsub import Topics, local_pubsub
from tests.parts.service import SERVERS, push_of

# Each Pub/Sub and each server; what one does has nothing to do with the other.
PAIRS = [("local", "gunicorn"), ("local", "functions-framework"), ("google", "gunicorn")]
OPENAI_ERROR = b'{"error": {"message": "no", "type": "x", "param": null, "code": null}}'


def request(prompt="hello", **fields):
    """A request with this prompt."""
    return {"metadata": {"id": prompt}, "body": {"model": "m", "prompt": prompt}, **fields}


@pytest.mark.parametrize(("world", "server"), PAIRS, indirect=["world"])
def test_the_main_job(world, server):
    """What is published is pushed, answered by the model and published, joined by metadata and message id."""
    service, topics, model = world(server)
    topics.push_to(service.url + "/")
    sent = {topics.publish(request(str(number)), batch_id="b"): str(number) for number in range(20)}
    for _ in range(len(sent)):
        response, attributes, _ = topics.response()
        prompt = sent.pop(attributes["request_message_id"])
        assert response == {"status_code": 200, "metadata": {"id": prompt}, "body": {"echo": prompt}}
        assert attributes == {
            "request_message_id": attributes["request_message_id"],
            "status_code": "200",
            "model": "m",
            "batch_id": "b",
        }
    assert len(model.calls) == 20


def test_trouble_is_waited_for(world):
    """A request whose first attempts fail is answered all the same, by every Pub/Sub's redelivery."""
    service, topics, model = world("gunicorn")
    ok = http(200, "application/json", b'{"ok": true}')
    model.replies["flaky"] = [http(503, "text/html", b"<html>"), http(200, "application/json", b""), ok]
    topics.push_to(service.url + "/")
    topics.publish(request("flaky"))
    response, _, _ = topics.response()
    assert (response["status_code"], response["body"]) == (200, {"ok": True})
    assert len(model.calls) == 3


@pytest.mark.parametrize(("world", "server"), PAIRS, indirect=["world"])
def test_bad_requests_are_answered_once(world, server):
    """Each gets one error response that names its message, and the model never hears of it."""
    service, topics, model = world(server)
    topics.push_to(service.url + "/")
    bad = {
        b"not json": 400,
        b"\xff\x00": 400,
        b'{"body": {}}': 400,
        b'{"metadata": {}}': 400,
        b'{"metadata": {}, "body": {"x": NaN}}': 400,
        b'{"metadata": {}, "body": {}, "path": "/v1/files"}': 404,
        b'{"metadata": {}, "body": {}, "path": "/v1/completions/../models"}': 404,
        b'{"metadata": {}, "body": {}, "options": {"deadline": "2020-01-01T00:00:00Z"}}': 408,
    }
    expected = {topics.publish(data): status for data, status in bad.items()}
    seen = {}
    for _ in bad:
        response, attributes, _ = topics.response()
        seen[attributes["request_message_id"]] = response["status_code"]
        assert response["body"]["error"]["message"]
    assert seen == expected
    assert model.calls == []


def test_what_json_can_hold_survives(local_world):
    """Large integers, key order, other scripts and lone surrogates come back as they were."""
    service, topics, model = local_world("gunicorn")
    topics.push_to(service.url + "/")
    metadata = rb'{"z":123456789012345678901234567890,"a":"\ud800","\u65e5":[1.5,null,true,{"b":1,"a":2}]}'
    topics.publish(b'{"metadata": %b, "body": {"prompt": "\\ud800", "n": 9007199254740993}}' % metadata)
    response, _, _ = topics.response()
    assert json.dumps(response["metadata"]) == json.dumps(json.loads(metadata))
    assert model.calls[0][1] == {"prompt": "\ud800", "n": 9007199254740993}


def drop(connection):
    """Send half a response and end."""
    connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"half":')


def elsewhere(connection):
    """Redirect to another host."""
    connection.sendall(b"HTTP/1.1 307 X\r\nLocation: http://127.0.0.1:9/steal\r\nContent-Length: 0\r\n\r\n")


JSON = "application/json"
HOSTILE = {
    "empty 200": (http(200, JSON, b""), 502, "invalid_model_response"),
    "html 200": (http(200, "text/html", b"<html>"), 502, "invalid_model_response"),
    "html 502": (http(502, "text/html", b"<html>Bad Gateway"), 502, "model_error"),
    "server-sent events": (http(200, "text/event-stream", b"data: {}\n\n"), 502, "invalid_model_response"),
    "half": (drop, 502, "invalid_model_response"),
    "redirect": (elsewhere, 502, "invalid_model_response"),
    "gzip": (http(200, JSON, b"\x1f\x8b\x08", "Content-Encoding: gzip"), 502, "invalid_model_response"),
    "not json": (http(200, JSON, b"{'a': 1}"), 502, "invalid_model_response"),
    "401": (http(401, JSON, OPENAI_ERROR), 401, None),
    "404 of an ingress": (http(404, "text/plain", b"default backend - 404"), 404, "model_error"),
    "429": (http(429, JSON, OPENAI_ERROR), 429, None),
}


@pytest.mark.parametrize(("topics", "server"), PAIRS, indirect=["topics"])
def test_a_hostile_model(topics, model, serve, server):
    """Whatever the model does is a redelivery at first, and at the last attempt an answer with its error."""
    service = serve(server, MODEL_URL=model.url, MAX_ATTEMPTS="3")
    for number, (name, (reply, status, code)) in enumerate(HOSTILE.items()):
        model.replies[name] = [reply]
        assert service.push(push_of(request(name), str(number), attempt=1)) == 503, name
        assert service.push(push_of(request(name), str(number), attempt=3)) == 204, name
        response, attributes, _ = topics.response()
        assert (attributes["request_message_id"], response["status_code"]) == (str(number), status), name
        assert response["metadata"] == {"id": name}
        assert response["body"]["error"]["code"] == code, name
    assert topics.no_response()


def test_a_model_that_hangs(local_topics, model, serve):
    """The time is paid twice at most: the first attempt is delivered again, the second answered."""
    service = serve("gunicorn", MODEL_URL=model.url, MODEL_TIMEOUT_SECONDS="0.5")
    model.replies["hang"] = [model.hang]
    assert service.push(push_of(request("hang"), attempt=1)) == 503
    assert service.push(push_of(request("hang"), attempt=2)) == 204
    response, _, _ = local_topics.response()
    assert (response["status_code"], response["body"]["error"]["code"]) == (504, "model_timeout")
    assert service.push(push_of(request("hang", options={"timeout_seconds": 0.2}), attempt=1)) == 204
    assert local_topics.response()[0]["status_code"] == 504


def test_brief_trouble_is_waited_out(local_topics, model, serve):
    """A moment of 429 costs a moment, and not a redelivery."""
    service = serve("gunicorn", MODEL_URL=model.url, PATIENCE_SECONDS="5")
    model.replies["busy"] = [http(429, JSON, OPENAI_ERROR, "Retry-After: 1"), http(200, JSON, b"{}")]
    assert service.push(push_of(request("busy"))) == 204
    assert local_topics.response()[0]["status_code"] == 200
    assert len(model.calls) == 2


def test_a_message_pushed_ten_times_at_once(local_world):
    """The model is called once, one response is published, and every copy is acknowledged in the end."""
    service, topics, model = local_world("gunicorn")
    model.replies["slow"] = [model.hang_then(http(200, JSON, b"{}"))]
    push = push_of(request("slow"))
    with ThreadPoolExecutor(10) as threads:
        copies = [threads.submit(service.push, push) for _ in range(10)]
        until(lambda: sum(copy.done() for copy in copies) == 8)
        model.release.set()
        statuses = sorted(copy.result() for copy in copies)
    assert statuses == [204, 204] + [503] * 8
    assert service.push(push) == 204
    topics.response()
    assert (len(model.calls), topics.no_response()) == (1, True)


def test_a_response_is_kept_while_pubsub_is_away(local_topics, model, serve):
    """The redelivery publishes it; the model is paid once."""
    service = serve(
        "gunicorn", MODEL_URL=model.url, RESPONSE_TOPIC=local_topics.topic("later"), PUBLISH_TIMEOUT_SECONDS="2"
    )
    push = push_of(request("kept"), attributes={"a": "b"})
    assert service.push(push) == 503
    local_topics.publisher.create_topic(name=local_topics.topic("later"))
    local_topics.subscriber.create_subscription(
        name=local_topics.subscription("later"), topic=local_topics.topic("later")
    )
    assert service.push(push) == 204
    (response,) = local_topics.pull("later")
    assert json.loads(response.data)["body"] == {"echo": "kept"}
    assert response.attributes["a"] == "b"
    assert len(model.calls) == 1


@pytest.mark.parametrize(("world", "server"), PAIRS, indirect=["world"])
def test_an_answer_that_no_message_can_hold(world, server):
    """11 MB from the model is one error for the requester, at once."""
    service, topics, model = world(server)
    model.replies["huge"] = [http(200, JSON, b'"%b"' % (b"x" * 11_000_000))]
    model.replies["nearly"] = [http(200, JSON, b'"%b"' % (b"x" * 9_999_950))]
    for prompt in ("huge", "nearly"):
        assert service.push(push_of(request(prompt))) == 204
        response, _, _ = topics.response()
        assert (response["status_code"], response["body"]["error"]["code"]) == (502, "response_too_large")
    assert len(model.calls) == 2


def test_a_large_request_and_response(local_world):
    """Megabytes each way are no trouble: more than gRPC's usual limit of four."""
    service, topics, model = local_world("gunicorn")
    topics.push_to(service.url + "/")
    model.replies["x" * 9_000_000] = [http(200, JSON, b'"%b"' % (b"y" * 3_000_000))]
    topics.publish({"metadata": {}, "body": {"prompt": "x" * 9_000_000}})
    assert len(topics.response()[0]["body"]) == 3_000_000


def test_audio(local_world):
    """Content that is not JSON comes in an object, in base64."""
    service, topics, model = local_world("gunicorn")
    model.replies["speak"] = [http(200, "audio/mpeg", b"\xff\xfb\x90")]
    assert service.push(push_of(request("speak"))) == 204
    body = topics.response()[0]["body"]
    assert body == {"content_type": "audio/mpeg", "encoding": "base64", "content": "//uQ"}


def test_other_forms_of_a_push(local_world):
    """Unwrapped with metadata, and as a CloudEvent of Eventarc's."""
    service, topics, _ = local_world("gunicorn")
    raw = json.dumps(request("unwrapped")).encode()
    assert service.push(raw, {"x-goog-pubsub-message-id": "unwrapped", "x-goog-pubsub-ordering-key": "k"}) == 204
    response, attributes, key = topics.response()
    assert (response["body"], attributes["request_message_id"], key) == ({"echo": "unwrapped"}, "unwrapped", "k")
    assert service.push(push_of(request("event"), "event"), {"ce-id": "event", "ce-specversion": "1.0"}) == 204
    assert topics.response()[0]["body"] == {"echo": "event"}


def test_the_headers_of_a_push_do_not_reach_the_model(local_world):
    """Neither the push's token nor its attributes become headers of the call."""
    service, topics, model = local_world("gunicorn")
    service.push(push_of(request(), attributes={"X-Evil": "1"}))
    topics.response()
    assert {name.lower() for name in model.headers[0]} == {
        "host",
        "accept",
        "accept-encoding",
        "authorization",
        "content-length",
        "content-type",
        "user-agent",
    }
    assert model.headers[0]["Authorization"] == "Bearer PLANTED-key"


def test_a_topic_that_takes_nothing_for_now(local_topics, model, serve):
    """A response that is not confirmed is not acknowledged."""
    missing = {"RESPONSE_TOPIC": local_topics.topic("missing"), "PUBLISH_TIMEOUT_SECONDS": "2"}
    service = serve("gunicorn", MODEL_URL=model.url, **missing)
    assert service.push(push_of(request())) == 503
    assert service.log()[-1]["reason"] == "publish_failed"


@pytest.mark.parametrize("server", SERVERS)
def test_no_push(local_world, server):
    """What is no push is refused, logged, and harms nothing; Pub/Sub's dead-letter topic would take it."""
    service, topics, _ = local_world(server)
    bodies = (b"", b"{}", b"[" * 100_000, b"\xff" * 1000, b'{"message": {"data": "e30="}}')
    assert [service.push(body) for body in bodies] == [400] * len(bodies)
    lines = [line for line in service.log() if line.get("reason") == "not_a_push"]
    assert [line["severity"] for line in lines] == ["ERROR"] * len(bodies)
    assert service.push(b"", {"Content-Length": str(17 << 20)}) == 413
    assert service.push(push_of(request("still here"))) == 204
    assert topics.response()[0]["body"] == {"echo": "still here"}


@pytest.mark.parametrize("server", SERVERS)
def test_health_and_other_paths(serve, server):
    """Health needs neither the model nor Pub/Sub; everything else says what there is."""
    service = serve(server, MODEL_URL="http://127.0.0.1:9", PUBSUB_EMULATOR_HOST="127.0.0.1:9")
    assert service.request("GET", "/health/live")[0] == 200
    assert service.request("GET", "/health/ready")[0] == 200
    for method, path, status in (("GET", "/", 405), ("GET", "/healthz", 404), ("PUT", "/x", 404), ("PUT", "/", 405)):
        answered, headers, body = service.request(method, path)
        assert (answered, headers["Content-Type"]) == (status, "application/json")
        assert json.loads(body)["error"]


class Pushes:
    """Pushes that are under way, each in a thread of its own, and their statuses."""

    def __init__(self, service):
        self.service, self.statuses, self.threads = service, [], []

    def send(self, prompt, **fields):
        body = push_of({"metadata": {}, "body": {"model": "m", "prompt": prompt}}, **fields)
        thread = threading.Thread(target=lambda: self.statuses.append(self.service.push(body)))
        self.threads.append(thread)
        thread.start()

    def join(self):
        for thread in self.threads:
            thread.join()
        return self.statuses


def prompts(model):
    """What the model was asked, in order."""
    return [body["prompt"] for _, body in model.calls]


@pytest.mark.parametrize("server", SERVERS)
def test_pushes_wait_in_the_line_and_are_refused_when_it_is_full(local_topics, model, serve, server):
    """The model gets MODEL_SLOTS calls at once, MAX_WAITING more are held; health answers, the next push is refused."""
    service = serve(server, MODEL_URL=model.url, MODEL_SLOTS="3", MAX_WAITING="2")
    for prompt in ("one", "two", "three"):
        model.replies[prompt] = [model.hang_then(http(200, JSON, b"{}"))]
    pushes = Pushes(service)
    for prompt in ("one", "two", "three"):
        pushes.send(prompt)
    until(lambda: len(model.calls) == 3)
    pushes.send("four")
    pushes.send("five")
    until(lambda: held(service) == 5)
    assert refused(service, push_of(request("one more")))
    assert service.request("GET", "/health/live")[0] == 200
    assert len(model.calls) == 3
    model.release.set()
    assert pushes.join() == [204] * 5
    assert service.push(push_of(request("one more"))) == 204
    assert {line["reason"] for line in service.log() if "reason" in line} == {"answered", "busy"}


def test_a_burst_is_held_and_answered(local_topics, model, serve):
    """Hundreds of pushes at once for a model with four slots: each is answered, none refused, four called at a time."""
    service = serve("gunicorn", MODEL_URL=model.url, MODEL_SLOTS="4")
    calling, most, lock = 0, 0, threading.Lock()

    def counted(connection):
        nonlocal calling, most
        with lock:
            calling += 1
            most = max(most, calling)
        time.sleep(0.01)
        with lock:
            calling -= 1
        connection.sendall(http(200, JSON, b"{}"))

    model.replies["burst"] = [counted]
    with ThreadPoolExecutor(300) as threads:
        statuses = list(threads.map(lambda _: service.push(push_of(request("burst"))), range(300)))
    assert statuses == [204] * 300
    assert most <= 4


def test_priorities_go_ahead_in_the_line(local_topics, model, serve):
    """By the request's option or the message's attribute; first come, first served within one."""
    service = serve("gunicorn", MODEL_URL=model.url, MODEL_SLOTS="1")
    model.replies["first"] = [model.hang_then(http(200, JSON, b"{}"))]
    pushes = Pushes(service)
    pushes.send("first")
    until(lambda: len(model.calls) == 1)
    for number, (prompt, attributes) in enumerate(
        [("low", {"priority": "low"}), ("a", {}), ("b", {"priority": "none such"}), ("high", {"priority": "high"})]
    ):
        pushes.send(prompt, attributes=attributes)
        until(lambda number=number: held(service) == number + 2)
    model.release.set()
    assert pushes.join() == [204] * 5
    assert prompts(model) == ["first", "high", "a", "b", "low"]


def refused(service, push):
    """Whether a push is refused. The functions-framework command may cut the connection, since the body is not read."""
    try:
        return service.push(push) == 429
    except OSError:
        return True


def held(service):
    """How many connections of pushes the service has, by what the system says of its port."""
    port = f":{int(service.url.rpartition(':')[2]):04X}"
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return sum(1 for line in lines if line.split()[1].endswith(port) and line.split()[3] == "01")


def test_the_line_is_bounded_in_bytes(local_topics, model, serve):
    """A burst of large messages is refused beyond MAX_WAITING_MB, before their bodies are read."""
    service = serve("gunicorn", MODEL_URL=model.url, MODEL_SLOTS="1", MAX_WAITING_MB="9")
    large = "x" * 3_000_000
    model.replies["first"] = [model.hang_then(http(200, JSON, b"{}"))]
    model.replies[large] = [http(200, JSON, b"{}")]
    pushes = Pushes(service)
    pushes.send("first")
    until(lambda: len(model.calls) == 1)
    pushes.send(large)
    pushes.send(large)
    until(lambda: held(service) == 3)
    one_more = push_of({"metadata": {}, "body": {"prompt": large}})
    assert service.push(one_more) == 429
    model.release.set()
    assert pushes.join() == [204] * 3
    assert service.push(one_more) == 204


def test_retry_after_holds_the_line(local_topics, model, serve):
    """While the model asks for a pause it gets no call, and the pushes wait."""
    service = serve("gunicorn", MODEL_URL=model.url, MODEL_SLOTS="2", PATIENCE_SECONDS="5", LOG_LEVEL="DEBUG")
    called = []

    def noted(reply):
        def script(connection):
            called.append(time.monotonic())
            connection.sendall(reply)

        return script

    busy = http(429, JSON, OPENAI_ERROR, "Retry-After: 2", "Connection: close")
    fine = http(200, JSON, b"{}", "Connection: close")
    model.replies |= {"busy": [noted(busy), noted(fine)], "after": [noted(fine)]}
    pushes = Pushes(service)
    pushes.send("busy")
    until(lambda: any("the model said: 429" in line["message"] for line in service.log()))
    pushes.send("after")
    assert pushes.join() == [204, 204]
    assert called[1] - called[0] >= 2
    assert prompts(model)[0] == "busy"


def test_sigterm_gives_the_line_back(local_topics, model, serve):
    """At once, while what is at the model finishes."""
    service = serve("gunicorn", MODEL_URL=model.url, MODEL_SLOTS="1")
    model.replies["slow"] = [model.hang_then(http(200, JSON, b"{}"))]
    first, others = Pushes(service), Pushes(service)
    first.send("slow")
    until(lambda: len(model.calls) == 1)
    for number in range(5):
        others.send("waiting")
        until(lambda number=number: held(service) == number + 2)
    service.process.send_signal(signal.SIGTERM)
    assert others.join() == [503] * 5
    model.release.set()
    assert (first.join(), service.process.wait(20)) == ([204], 0)
    assert len(model.calls) == 1


def test_the_old_name_of_the_slots(local_topics, model, serve):
    """CONCURRENCY still sets them, with a warning that says what to write instead."""
    service = serve("gunicorn", MODEL_URL=model.url, CONCURRENCY="1")
    assert [line for line in service.log() if "set MODEL_SLOTS=1 instead" in line["message"]]
    assert service.push(push_of(request())) == 204


def test_ordering_keys_go_through(local_world):
    """Responses carry the ordering key of their requests."""
    service, topics, _ = local_world("gunicorn")
    for number in range(3):
        assert service.push(push_of(request(str(number)), orderingKey="key")) == 204
    assert [topics.response()[2] for _ in range(3)] == ["key"] * 3


def test_pubsub_that_comes_back(local_topics, model, serve, forks):
    """A Pub/Sub that was away when the service started is connected to when it is there."""
    port = free_port()
    service = serve(
        "gunicorn", MODEL_URL=model.url, PUBSUB_EMULATOR_HOST=f"127.0.0.1:{port}", PUBLISH_TIMEOUT_SECONDS="1"
    )
    push = push_of(request())
    assert service.push(push) == 503
    assert service.request("GET", "/health/ready")[0] == 200
    with local_pubsub("--port", port, spawn=forks.spawn) as address, Topics(address) as later:
        later.publisher.create_topic(name=local_topics.topic("responses"))
        until(lambda: service.push(push) == 204, 60)
    assert len(model.calls) == 1


def test_a_message_that_is_no_request_ever_ends_in_the_dead_letter_topic(local_world):
    """What is pushed to where no pushes are taken is refused until Pub/Sub gives up, and not lost."""
    service, topics, _ = local_world("gunicorn")
    topics.push_to(service.url + "/health/live", attempts=5)
    topics.publish(request("misrouted"))
    pulled = []
    until(lambda: pulled or pulled.extend(topics.pull("dead")))
    assert json.loads(pulled[0].data) == request("misrouted")


def test_sigterm_lets_work_finish(local_topics, model, serve):
    """What is in flight is answered and acknowledged before the process ends."""
    service = serve("gunicorn", MODEL_URL=model.url)
    begun = threading.Event()

    def slow(connection):
        begun.set()
        model.release.wait(20)
        connection.sendall(http(200, JSON, b'{"late": true}'))

    model.replies["slow"] = [slow]
    statuses = []
    thread = threading.Thread(target=lambda: statuses.append(service.push(push_of(request("slow")))))
    thread.start()
    assert begun.wait(20)
    service.process.send_signal(signal.SIGTERM)
    model.release.set()
    thread.join()
    assert (statuses, service.process.wait(20)) == ([204], 0)
    assert local_topics.response()[0]["body"] == {"late": True}


def test_sigterm_cuts_off_what_takes_too_long(local_topics, model, serve):
    """The call is ended in time for its push to be given back, and the process ends within its grace."""
    service = serve("gunicorn", MODEL_URL=model.url, GRACE_SECONDS="4")
    model.replies["hang"] = [model.hang]
    statuses = []
    thread = threading.Thread(target=lambda: statuses.append(service.push(push_of(request("hang"), attempt=10))))
    thread.start()
    until(lambda: model.calls)
    told = time.monotonic()
    service.process.send_signal(signal.SIGTERM)
    thread.join()
    assert (statuses, service.process.wait(20)) == ([503], 0)
    assert 2 < time.monotonic() - told < 6  # on a busy machine; 2.5 s is when the call is cut
    assert service.log()[-1]["reason"] == "draining"


def test_nothing_of_a_message_is_logged(local_topics, model, serve):
    """Neither prompt, completion, metadata, attribute nor token appears in what the service prints, at any level."""
    service = serve("gunicorn", MODEL_URL=model.url, LOG_LEVEL="DEBUG")
    secret = {"metadata": {"id": "PLANTED-metadata"}, "body": {"prompt": "PLANTED-prompt", "model": "m"}}
    replies = [http(200, JSON, b'{"text": "PLANTED-completion"}'), http(500, "text/html", b"PLANTED-page"), drop]
    model.replies["PLANTED-prompt"] = replies
    for _ in replies:
        service.push(push_of(secret, attempt=1, attributes={"a": "PLANTED-attribute"}))
    for body in (
        b'{"metadata": {}, "body": "PLANTED"}',
        b"PLANTED",
        b'{"metadata": {}, "body": {}, "path": "/PLANTED"}',
    ):
        service.push(push_of(body))
    service.push(b"PLANTED")
    assert len(service.log()) >= 7
    assert "PLANTED" not in service.output()

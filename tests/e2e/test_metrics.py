"""What /metrics of a running service says, and that it adds up."""

import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from prometheus_client.parser import text_string_to_metric_families as families

from tests.parts.model import http
from tests.parts.processes import free_port, until
from tests.parts.service import SERVERS, push_of

JSON = "application/json"
ANSWER = b'{"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}'


def request(prompt, **fields):
    """A request with this prompt."""
    return {"metadata": {}, "body": {"model": "m", "prompt": prompt}, **fields}


class Scrape:
    """Every sample of a moment."""

    def __init__(self, port):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as response:
            text = response.read().decode()
        self.samples = [sample for family in families(text) for sample in family.samples]

    def total(self, name, **labels):
        """The sum of all series that have these labels."""
        found = [one.value for one in self.samples if one.name == name and labels.items() <= one.labels.items()]
        assert found, f"no {name} with {labels}"
        return sum(found)

    def by(self, label, name):
        """The sums by the values of a label, where they are not 0."""
        sums = Counter()
        for one in self.samples:
            if one.name == name:
                sums[one.labels[label]] += one.value
        return {value: count for value, count in sums.items() if count}


@pytest.fixture
def faulty(model):
    """The model, and how it fails for whom."""
    model.replies |= {
        "good": [http(200, JSON, ANSWER)],
        "busy": [http(429, JSON, b"{}", "Retry-After: 0"), http(200, JSON, ANSWER)],
        "away": [http(503, JSON, b"{}")],
        "key": [http(401, JSON, b'{"error": {"message": "no"}}')],
        "teapot": [http(418, JSON, b'{"error": {"message": "short and stout"}}')],
        "html": [http(502, "text/html", b"<html>")],
        "empty": [http(200, JSON, b"")],
        "half": [lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{")],
        "huge": [http(200, JSON, b'"%b"' % (b"x" * 10_000_001))],
        "hang": [model.hang],
        "slow": [model.hang_then(http(200, JSON, ANSWER))],
    }
    return model


PUSHES = [
    *[push_of(request("good"), f"good-{number % 20}") for number in range(40)],  # each comes twice
    *[push_of(request(prompt), f"{prompt}-{attempt}", attempt=attempt)
      for prompt in ("away", "key", "html", "empty", "half") for attempt in (1, 2, 3)],
    *[push_of(request("hang"), f"hang-{attempt}", attempt=attempt) for attempt in (1, 2)],
    *[push_of(request("teapot")), push_of(request("huge")), push_of(request("busy"))],
    *[push_of(b"no json"), push_of({"body": {}}), push_of(request("good", path="/v1/files"))],
    push_of(request("good", options={"deadline": "2020-01-01T00:00:00Z"})),
    *[b"", b"{}", b"\xff", b'{"message": {"data": "e30="}}'],
]  # fmt: skip


def test_a_run_with_faults_adds_up(local_topics, faulty, serve):
    """Every push is counted once, by the status that it got; every answer, every call, every token."""
    port = free_port()
    service = serve(
        "gunicorn", MODEL_URL=faulty.url, METRICS_PORT=str(port), MODEL_TIMEOUT_SECONDS="2", MAX_ATTEMPTS="3",
        PATIENCE_SECONDS="3", MODEL_SLOTS="8",
    )  # fmt: skip
    with ThreadPoolExecutor(16) as threads:
        statuses = Counter(map(str, threads.map(service.push, PUSHES)))
        joined = Scrape(port).total("inference_relay_joined_total")  # some of the good ones may have, too
        copies = [threads.submit(service.push, push_of(request("slow"), "slow")) for _ in range(3)]
        until(lambda: Scrape(port).total("inference_relay_joined_total") == joined + 2)
        faulty.release.set()
        statuses += Counter(str(copy.result()) for copy in copies)
    scrape = Scrape(port)
    # Pushes, by what Pub/Sub got, and by what the log says of each.
    assert scrape.total("inference_relay_pushes_total") == len(PUSHES) + 3
    assert scrape.by("code", "inference_relay_pushes_total") == statuses
    assert scrape.by("reason", "inference_relay_pushes_total") == Counter(
        line["reason"] for line in service.log() if "reason" in line
    )
    # Answers, by what was published.
    answered = int(scrape.total("inference_relay_answers_total"))
    repeated = scrape.total("inference_relay_pushes_total", reason="already_answered")
    assert scrape.total("inference_relay_pushes_total", code="204") - repeated == answered
    responses = [local_topics.response()[0] for _ in range(answered)]
    assert local_topics.no_response()
    published = Counter(_key(response) for response in responses)
    assert _counted(scrape) == published
    # Calls, and what they cost.
    assert scrape.total("inference_relay_model_call_duration_seconds_count") == len(faulty.calls)
    good = [response for response in responses if response["status_code"] == 200]
    assert scrape.by("type", "inference_relay_tokens_total") == {"input": 3 * len(good), "output": 4 * len(good)}
    assert scrape.total("inference_relay_model_retries_total") >= 1
    assert scrape.total("inference_relay_publish_duration_seconds_count") == answered
    assert scrape.total("inference_relay_slots") == 8
    assert scrape.total("inference_relay_slots_in_use") == scrape.total("inference_relay_waiting") == 0
    assert scrape.total("inference_relay_ledger_up", ledger="memory") == 1


def _key(response):
    """What an answer is counted by."""
    own = response["body"].get("error", {}) if isinstance(response["body"], dict) else {}
    status = str(response["status_code"])
    return ("other" if status == "418" else status, own.get("code") or "")


def _counted(scrape):
    return {
        (one.labels["status"], one.labels["error_code"]): one.value
        for one in scrape.samples
        if one.name == "inference_relay_answers_total" and one.value
    }


def test_a_kept_response_is_counted_once_it_is_published(local_topics, faulty, serve):
    """As an answer with the error that it holds, and as kept; a publish that failed was one, too."""
    port = free_port()
    service = serve(
        "gunicorn", MODEL_URL=faulty.url, METRICS_PORT=str(port), MODEL_TIMEOUT_SECONDS="1",
        PUBLISH_TIMEOUT_SECONDS="2", RESPONSE_TOPIC=local_topics.topic("later"),
    )  # fmt: skip
    push = push_of(request("hang"), attempt=2, publishTime="2020-01-01T00:00:00Z")
    assert service.push(push) == 503
    before = Scrape(port)
    assert before.total("inference_relay_answers_total") == before.total("inference_relay_kept_total") == 0
    local_topics.publisher.create_topic(name=local_topics.topic("later"))
    assert service.push(push) == 204
    after = Scrape(port)
    assert _counted(after) == {("504", "model_timeout"): 1}
    assert after.total("inference_relay_kept_total") == 1
    assert after.total("inference_relay_publish_duration_seconds_count") == 2
    assert after.total("inference_relay_answer_age_seconds_sum") > 86_400


@pytest.mark.parametrize("server", SERVERS)
def test_metrics_have_a_port_of_their_own(local_topics, model, serve, server):
    """The service's own has none, unless it is named."""
    port = free_port()
    service = serve(server, MODEL_URL=model.url, METRICS_PORT=str(port))
    assert service.request("GET", "/metrics")[0] == 404
    assert Scrape(port).total("process_start_time_seconds") > 1_000_000_000


def test_the_tokens_of_a_response(local_world):
    """They are attributes of the response, and in the line of the log."""
    service, topics, model = local_world("gunicorn")
    model.replies["good"] = [http(200, JSON, ANSWER)]
    assert service.push(push_of(request("good"), "counted")) == 204
    _, attributes, _ = topics.response()
    assert (attributes["prompt_tokens"], attributes["completion_tokens"]) == ("3", "4")
    (line,) = [line for line in service.log() if line.get("message_id") == "counted"]
    assert (line["prompt_tokens"], line["completion_tokens"], line["route"], line["model"]) == (3, 4, "default", "m")
    assert line["request_bytes"] > 0
    assert line["response_bytes"] > len(ANSWER)
    assert line["model_calls"] == 1
    assert 0 <= line["line_seconds"] <= line["seconds"]
    assert 0 <= line["model_seconds"] <= line["seconds"]

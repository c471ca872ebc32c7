"""What is logged, line by line."""

import json
import socket
import subprocess

import pytest

from tests.parts.model import http
from tests.parts.processes import free_port, process
from tests.parts.service import SERVERS, push_of

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def request(prompt):
    """A request whose prompt, metadata and path nobody may read in a log."""
    return {"metadata": {"id": "PLANTED-metadata"}, "body": {"model": "m", "prompt": prompt, "user": "PLANTED-user"}}


def test_a_line_leads_to_its_trace(local_world):
    """Where the publisher traces, Cloud Logging shows the line beside its spans."""
    service, topics, _ = local_world("gunicorn")
    context = {"googclient_traceparent": f"00-{TRACE}-{SPAN}-01"}
    assert service.push(push_of(request("x"), "traced", attributes=context)) == 204
    assert service.push(push_of(request("x"), "not traced")) == 204
    lines = {line.get("message_id"): line for line in service.log()}
    line = lines["traced"]
    assert line["logging.googleapis.com/trace"] == f"projects/{topics.project}/traces/{TRACE}"
    assert line["logging.googleapis.com/spanId"] == SPAN
    assert line["logging.googleapis.com/trace_sampled"] is True
    assert not [name for name in lines["not traced"] if "google" in name]


@pytest.mark.parametrize("server", SERVERS)
def test_debug_explains_decisions_without_contents(local_topics, model, serve, server):
    """Each step has a line with the message's id; nothing of the message, the answer or the call is in any of them."""
    service = serve(server, MODEL_URL=model.url, LOG_LEVEL="DEBUG", PATIENCE_SECONDS="3")
    busy = http(429, "application/json", b'{"error": "PLANTED-error"}', "Retry-After: 0", "X-Model: PLANTED-header")
    model.replies["PLANTED-prompt"] = [busy, http(200, "application/json", b'{"text": "PLANTED-answer"}')]
    push = push_of(request("PLANTED-prompt"), "debug-1", attributes={"a": "PLANTED-attribute"})
    assert service.push(push) == 204
    assert service.push(push) == 204
    steps = [line["message"] for line in service.log() if line.get("message_id") == "debug-1"]
    for step in (
        *("a message of ", "ledger: mine", "goes to route default", "waited in the line", "the model said: 429"),
        *("called again in place", "the model said: 200", "decided: answered", "published: status 200", "answered"),
        *("a message of ", "ledger: answered", "already_answered"),
    ):
        while steps and step not in steps[0]:
            del steps[0]
        assert steps, f"no {step!r} in the right place"
    assert "PLANTED" not in service.output()


def test_gunicorns_own_lines_are_json(local_topics, model):
    """Also those of a start that fails."""
    topic = local_topics.topic("responses")
    with socket.create_server(("0.0.0.0", 0)) as taken:
        port = str(taken.getsockname()[1])
        settings = {"MODEL_URL": model.url, "PUSH_AUTH": "none", "RESPONSE_TOPIC": topic, "PORT": port}
        with process(SERVERS["gunicorn"], settings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as it:
            output, _ = it.communicate(timeout=60)
    assert it.returncode != 0
    lines = [json.loads(line) for line in output.splitlines()]
    assert [line for line in lines if line["severity"] == "ERROR" and "in use" in line["message"]]


def test_a_metrics_port_that_is_taken(local_topics, model):
    """The start ends with one line that says so, and is not tried for ever."""
    topic = local_topics.topic("responses")
    with socket.create_server(("0.0.0.0", 0)) as taken:
        port = str(taken.getsockname()[1])
        settings = {"MODEL_URL": model.url, "PUSH_AUTH": "none", "RESPONSE_TOPIC": topic, "METRICS_PORT": port}
        settings |= {"PORT": str(free_port())}
        with process(SERVERS["gunicorn"], settings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as it:
            output, _ = it.communicate(timeout=60)
    assert it.returncode != 0
    (line,) = [line for line in output.splitlines() if "cannot start" in line]
    assert f"METRICS_PORT {port} cannot be had: Address already in use" in line

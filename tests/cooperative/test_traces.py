"""The SDK's batches are sent by a greenlet, which holds nobody up."""

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import gevent
import pytest

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="needs the extra traces")

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from handler.config.settings import Settings
from handler.push.envelope import PubsubMessage
from handler.telemetry.otel import OpenTelemetry


class Collector(ThreadingHTTPServer):
    """Takes spans, once it may."""

    daemon_threads = True
    block_on_close = False

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Take)
        self.asked, self.go_on, self.spans = threading.Event(), threading.Event(), []


class _Take(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.set()
        self.server.go_on.wait()
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.server.spans += [span.name for scope in resource.scope_spans for span in scope.spans]
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()


@pytest.fixture
def collector():
    """A collector that says nothing until it may."""
    server = Collector()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.go_on.set()
    server.shutdown()
    server.server_close()
    thread.join()


@contextmanager
def tracing(collector, monkeypatch):
    """Traces that go to the collector soon."""
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    made = OpenTelemetry(
        Settings.from_environment(
            {
                "MODEL_URL": "http://model",
                "RESPONSE_TOPIC": "projects/p/topics/responses",
                "PUSH_AUTH": "platform",
                "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}",
            }
        )
    )
    try:
        yield made
    finally:
        made.close()


def push(traces):
    """The trace of one push, from begin to end."""
    made = traces.begin(PubsubMessage("1", b"", subscription="projects/p/subscriptions/s"), None, 0.0)
    with made.publishing("projects/p/topics/responses"):
        pass
    made.end("answered", 204)


def test_spans_are_sent_in_the_background(collector, monkeypatch):
    """While a batch is on its way nobody waits, and what comes meanwhile is sent after it."""
    with tracing(collector, monkeypatch) as traces:
        push(traces)
        assert collector.asked.wait(10)
        for _ in range(100):  # the collector says nothing yet
            push(traces)
            gevent.sleep(0)
        assert collector.spans == []
        collector.go_on.set()
        with gevent.Timeout(10):
            while len(collector.spans) < 202:
                gevent.sleep(0.01)
    assert sorted(collector.spans) == ["responses create"] * 101 + ["s process"] * 101


def test_a_name_that_cannot_be_sent_costs_no_spans(collector, monkeypatch):
    """JSON allows lone surrogates in a model's name, UTF-8 does not: what stands there instead is sent."""
    collector.go_on.set()
    with tracing(collector, monkeypatch) as traces:
        monkeypatch.setattr("handler.telemetry.otel.CLOSE_SECONDS", 10.0)
        push(traces)
        odd = traces.begin(PubsubMessage("\ud800", b"", subscription="\udfff"), None, 0.0)
        with odd.calling("/v1/completions", "\ud800", "http://model") as call:
            call.note({"error.type": "\udbff"})
        odd.end("answered", 204)
        traces.close()
        assert sorted(collector.spans) == ["? process", "responses create", "s process", "text_completion ?"]


def test_what_is_left_is_sent_at_the_end(collector, monkeypatch):
    """The process does not wait for the next batch's time."""
    collector.go_on.set()
    with tracing(collector, monkeypatch) as traces:
        monkeypatch.setattr("handler.telemetry.otel.CLOSE_SECONDS", 10.0)
        push(traces)
        traces.close()
        assert collector.spans == ["responses create", "s process"]


def test_a_collector_that_hangs_does_not_hold_up_the_end(collector, monkeypatch):
    """What is left is lost then."""
    with tracing(collector, monkeypatch) as traces:
        push(traces)
        with gevent.Timeout(20):  # it would be half a minute and more
            traces.close()
    assert collector.spans == []

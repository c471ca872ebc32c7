"""One trace from the requester's publish to its reading of the response, with Google's own client on both ends."""

import json
import queue
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from google.cloud import pubsub_v1
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.parts.model import http
from tests.parts.processes import free_port, until
from tests.parts.service import SERVERS, push_of

JSON = "application/json"
ANSWER = b'{"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}, "text": "PLANTED-answer"}'


class Collector(ThreadingHTTPServer):
    """Takes spans by OTLP over HTTP, and keeps them."""

    daemon_threads = True
    block_on_close = False

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Take)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.paths, self.bodies, self.spans, self.services = set(), [], [], set()

    def named(self, name):
        """The only span of this name, once it has come."""
        until(lambda: any(span.name == name for span in self.spans))
        (span,) = [span for span in self.spans if span.name == name]
        return span


class _Take(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.paths.add(self.path)
        self.server.bodies.append(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.server.services |= {
                one.value.string_value for one in resource.resource.attributes if one.key == "service.name"
            }
            for scope in resource.scope_spans:
                self.server.spans += scope.spans
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()


@pytest.fixture
def collector():
    """A collector."""
    with running(Collector()) as server:
        yield server


@contextmanager
def running(server):
    """Serve while the block runs."""
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def recorded():
    """What Google's clients in this process say of their traces."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    yield exporter
    provider.shutdown()


@contextmanager
def traced_publisher():
    """A publisher that begins a trace with each message."""
    options = pubsub_v1.types.PublisherOptions(enable_open_telemetry_tracing=True)
    client = pubsub_v1.PublisherClient(publisher_options=options)
    try:
        yield client
    finally:
        client.stop()
        client.transport.close()


@contextmanager
def traced_subscriber(subscription):
    """The messages that a subscriber that traces gets."""
    options = pubsub_v1.types.SubscriberOptions(enable_open_telemetry_tracing=True)
    received = queue.SimpleQueue()

    def take(message):
        received.put(message)
        message.ack()

    with pubsub_v1.SubscriberClient(subscriber_options=options) as client:
        stream = client.subscribe(subscription, callback=take)
        try:
            yield received
        finally:
            stream.cancel()
            stream.result()


def request(prompt="PLANTED-prompt"):
    """A request with this prompt."""
    return {"metadata": {"id": "PLANTED-metadata"}, "body": {"model": "m", "prompt": prompt}}


def ids(span):
    """The trace and the span, as traceparent has them."""
    return f"{span.trace_id.hex()}-{span.span_id.hex()}"


def attributes(span):
    """What is said of a span."""
    values = ((one.key, one.value) for one in span.attributes)
    return {key: value.int_value if value.HasField("int_value") else value.string_value for key, value in values}


def own_ids(span):
    """The same of a span of the SDK in this process."""
    return f"{span.context.trace_id:032x}-{span.context.span_id:016x}"


@pytest.mark.parametrize("server", SERVERS)
def test_one_trace_from_the_publisher_to_the_subscriber(local_topics, model, serve, collector, recorded, server):
    """Each span's parent is what came before it, across two Pub/Sub topics, the push and the model."""
    recorded.clear()
    model.replies["PLANTED-prompt"] = [http(200, JSON, ANSWER)]
    service = serve(
        server,
        measured=True,
        MODEL_URL=model.url,
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
        OTEL_BSP_SCHEDULE_DELAY="100",
    )
    local_topics.push_to(service.url + "/")
    with traced_publisher() as publisher, traced_subscriber(local_topics.subscription("responses")) as received:
        data = json.dumps(request()).encode()
        message_id = publisher.publish(local_topics.topic("requests"), data, secret="PLANTED-attribute").result(20)
        response = received.get(timeout=30)
        until(lambda: any(span.name == "responses process" for span in recorded.get_finished_spans()))
    ours = {
        name: collector.named(name)
        for name in ("push process", "wait for a slot", "text_completion m", "responses create")
    }
    theirs = {span.name: span for span in recorded.get_finished_spans()}
    begun, read = theirs["requests create"], theirs["responses subscribe"]
    trace_id = own_ids(begun).partition("-")[0]
    assert {span.trace_id.hex() for span in ours.values()} == {trace_id}
    # From parent to child.
    push = ours["push process"]
    assert push.parent_span_id.hex() == own_ids(begun).partition("-")[2]
    assert {span.parent_span_id for span in ours.values() if span is not push} == {push.span_id}
    flags = f"{begun.context.trace_flags:02x}"
    assert model.headers[0]["traceparent"] == f"00-{ids(ours['text_completion m'])}-{flags}"
    assert response.attributes["googclient_traceparent"] == f"00-{ids(ours['responses create'])}-{flags}"
    assert f"{read.parent.trace_id:032x}-{read.parent.span_id:016x}" == ids(ours["responses create"])
    # What is said, by the conventions' names, and what is not.
    assert (push.kind, ours["text_completion m"].kind, ours["responses create"].kind) == (5, 3, 4)
    said = attributes(push)
    assert said.pop("messaging.message.body.size") == len(data)
    assert said == {
        "messaging.system": "gcp_pubsub",
        "messaging.destination.subscription.name": "push",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.message.id": message_id,
        "messaging.gcp_pubsub.message.delivery_attempt": 1,
        "inference_relay.reason": "answered",
        "http.response.status_code": 204,
    }
    assert attributes(ours["text_completion m"]) == {
        "gen_ai.operation.name": "text_completion",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "m",
        "gen_ai.usage.input_tokens": 3,
        "gen_ai.usage.output_tokens": 4,
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "server.address": "127.0.0.1",
        "server.port": model.server_port,
    }
    assert collector.services == {"inference-relay"}
    assert collector.paths == {"/v1/traces"}
    assert not [body for body in collector.bodies if b"PLANTED" in body]
    # And the line of the log leads there.
    (line,) = [line for line in service.log() if line.get("reason") == "answered"]
    assert line["logging.googleapis.com/trace"].endswith(f"/traces/{trace_id}")
    assert line["logging.googleapis.com/spanId"] == push.span_id.hex()


def test_what_fails_says_so_in_its_trace(local_topics, model, serve, collector):
    """The call by its status, and the push by its reason; each call is a span, and a trace may begin here."""
    model.replies["twice"] = [http(429, JSON, b'{"error": "PLANTED"}', "Retry-After: 0"), http(500, JSON, b"{}")]
    service = serve(
        "gunicorn", measured=True, MODEL_URL=model.url, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
        OTEL_BSP_SCHEDULE_DELAY="100", OTEL_SERVICE_NAME="mine", PATIENCE_SECONDS="3",
    )  # fmt: skip
    assert service.push(push_of(request("twice"), subscription="projects/p/subscriptions/s")) == 503
    push = collector.named("process")
    calls = [attributes(span) for span in collector.spans if span.name == "text_completion m"]
    assert [call["error.type"] for call in calls] == ["429", "500"]
    assert attributes(push)["error.type"] == attributes(push)["inference_relay.reason"] == "model_failed"
    assert (push.status.code, push.parent_span_id) == (2, b"")
    assert collector.services == {"mine"}


def test_what_is_not_sampled_is_not_sent_but_handed_on(local_topics, model, serve, collector):
    """The publisher decides, and who comes next hears of it."""
    service = serve(
        "gunicorn", MODEL_URL=model.url, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_BSP_SCHEDULE_DELAY="100"
    )
    context = {"googclient_traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"}
    assert service.push(push_of(request("quiet"), attributes=context)) == 204
    assert service.push(push_of(request("loud"))) == 204
    collector.named("process")
    handed_on = [local_topics.response()[1]["googclient_traceparent"].split("-") for _ in range(2)]
    recorded = {trace_id: int(flags, 16) & 1 for _, trace_id, _, flags in handed_on}
    assert recorded.pop("0af7651916cd43dd8448eb211c80319c") == 0
    assert list(recorded.values()) == [1]


def test_a_collector_that_is_away_harms_nothing(local_topics, model, serve):
    """Pushes are answered, and the process ends as ever."""
    away = f"http://127.0.0.1:{free_port()}"
    service = serve("gunicorn", MODEL_URL=model.url, OTEL_EXPORTER_OTLP_ENDPOINT=away, OTEL_BSP_SCHEDULE_DELAY="100")
    for _ in range(20):
        assert service.push(push_of(request())) == 204
    service.process.terminate()
    assert service.process.wait(20) == 0


def test_without_a_collector_nothing_is_handed_on(local_world):
    """The publisher's context ends at the relay, as it does everywhere where nobody traces."""
    service, topics, model = local_world("gunicorn")
    context = {"googclient_traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    assert service.push(push_of(request(), attributes=context)) == 204
    assert "traceparent" not in {name.lower() for name in model.headers[0]}
    assert not [name for name in topics.response()[1] if "goog" in name]

"""Traces by OpenTelemetry's SDK, sent by OTLP over HTTP; imported only where they are asked for.

Names are those of OpenTelemetry's conventions for messaging, generative AI and HTTP, and those of the spans of Google's
Pub/Sub clients, with which they make one trace. Nothing of a message's or an answer's content is in them. Sampling,
batches, headers and certificates are set by the SDK's own OTEL_* variables.
"""

import atexit
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from urllib.parse import urlsplit

from opentelemetry.context import Context as OtelContext
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from handler.config.settings import Settings
from handler.greenlets import Deadline, DeadlinePassed
from handler.push.envelope import PubsubMessage
from handler.rules.message.usage import Usage
from handler.telemetry.context import Context
from handler.telemetry.tracing import Part, Trace, Tracing

NAME = "inference-relay"
CLOSE_SECONDS = 1.0  # for what is left at the end of the process
SYSTEM = {"messaging.system": "gcp_pubsub"}
# The conventions' word for what an API does; others go by the end of their path.
OPERATIONS = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "text_completion",
    "/v1/embeddings": "embeddings",
    "/v1/responses": "chat",
}

Attributes = Mapping[str, str | int | None]
_W3C = TraceContextTextMapPropagator()


class OpenTelemetry(Tracing):
    """Begins traces and sends what is over, in the background. Made in the process that serves."""

    def __init__(self, settings: Settings) -> None:
        endpoint = f"{str(settings.otel_exporter_otlp_endpoint).rstrip('/')}/v1/traces"
        # Not at its exit of its own accord, which waits for a collector that is away for half a minute.
        self._provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint)))
        self._tracer = self._provider.get_tracer(NAME)
        atexit.register(self.close)  # the functions-framework command says nothing of its end

    def begin(self, message: PubsubMessage, parent: Context | None, seconds: float) -> Trace:
        """Begin the trace of a push that came so many seconds ago, or go on with the one that it comes from."""
        subscription = message.subscription.rpartition("/")[2]
        span = self._tracer.start_span(
            _sendable(f"{subscription} process".lstrip()),
            context=_parent(parent),
            kind=SpanKind.CONSUMER,
            start_time=time.time_ns() - int(seconds * 1e9),
            attributes=_known(
                SYSTEM
                | {
                    "messaging.destination.subscription.name": subscription or None,
                    "messaging.operation.name": "process",
                    "messaging.operation.type": "process",
                    "messaging.message.id": message.message_id,
                    "messaging.message.body.size": len(message.data),
                    "messaging.gcp_pubsub.message.delivery_attempt": message.delivery_attempt,
                }
            ),
        )
        return _Push(self._tracer, span)

    def close(self) -> None:
        """Send what is left, if that can be done within a second; once."""
        atexit.unregister(self.close)
        with suppress(DeadlinePassed), Deadline(CLOSE_SECONDS):  # the collector may be away: what is left is lost
            self._provider.shutdown()


class _Push(Trace):
    """The trace of one push, from its arrival to its answer."""

    def __init__(self, tracer: Tracer, span: Span) -> None:
        self._tracer, self._span = tracer, span
        self._call: _Call | None = None

    @property
    def position(self) -> Context:
        """Where the push stands in its trace."""
        own = self._span.get_span_context()
        return Context(f"{own.trace_id:032x}", f"{own.span_id:016x}", own.trace_flags)

    def waiting(self) -> Part:
        """The wait in the line."""
        return _Part(self._begin("wait for a slot", SpanKind.INTERNAL, {}))

    def calling(self, path: str, model: str | None, url: str) -> Part:
        """One call of the model service at this URL."""
        operation = OPERATIONS.get(path, path.rpartition("/")[2])
        known: Attributes = {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": "openai",  # whose API it speaks; server.address says who
            "gen_ai.request.model": model,
            "http.request.method": "POST",
        }
        self._end_call()
        name = f"{operation} {model or ''}".rstrip()
        self._call = _Call(self._begin(name, SpanKind.CLIENT, {**known, **_server(url)}))
        return self._call

    def spent(self, usage: Usage) -> None:
        """The last call of the model has cost this."""
        if self._call is not None:
            tokens = (usage.prompt_tokens, usage.completion_tokens)
            self._call.note(dict(zip(("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"), tokens, strict=True)))

    def publishing(self, topic: str) -> Part:
        """Publishing the response, to the topic with this full name."""
        name = topic.rpartition("/")[2]
        known: Attributes = {
            "messaging.destination.name": name,
            "messaging.operation.name": "send",
            "messaging.operation.type": "send",
        }
        return _Part(self._begin(f"{name} create", SpanKind.PRODUCER, {**SYSTEM, **known}))

    def end(self, reason: str, status: int) -> None:
        """The push is answered."""
        self._span.set_attributes({"inference_relay.reason": reason, "http.response.status_code": status})
        if status >= 400:
            _fail(self._span, reason)
        self._end_call()
        self._span.end()

    def _begin(self, name: str, kind: SpanKind, attributes: Attributes) -> Span:
        context = set_span_in_context(self._span)
        return self._tracer.start_span(_sendable(name), context=context, kind=kind, attributes=_known(attributes))

    def _end_call(self) -> None:
        if self._call is not None:
            self._call.end()
            self._call = None


class _Part(Part):
    """A span within that of a push."""

    def __init__(self, span: Span) -> None:
        self._span = span

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        """It is over, or has failed: with the word that the error has for it, never its text."""
        if error is not None:
            self.fail(str(getattr(error, "reason", type(error).__name__)))
        self._span.end()

    @property
    def context(self) -> Mapping[str, str]:
        """W3C's `traceparent` and, where there is one, `tracestate`."""
        carrier: dict[str, str] = {}
        _W3C.inject(carrier, context=set_span_in_context(self._span))
        return carrier

    def note(self, attributes: Attributes) -> None:
        """Add what is known now."""
        self._span.set_attributes(_known(attributes))

    def fail(self, kind: str) -> None:
        """It went wrong, in a word."""
        _fail(self._span, kind)


class _Call(_Part):
    """A call, which is over before anybody has read in its answer what it cost."""

    _over_at: int | None = None

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        """It is over; it is not sent yet."""
        self._over_at = time.time_ns()
        if error is not None:
            self.fail(type(error).__name__)

    def end(self) -> None:
        """Nothing more will be known of it."""
        self._span.end(self._over_at)


def _fail(span: Span, kind: str) -> None:
    span.set_attribute("error.type", kind)
    span.set_status(StatusCode.ERROR)


def _known(attributes: Attributes) -> dict[str, str | int]:
    known = {name: value for name, value in attributes.items() if value is not None}
    return {name: _sendable(value) if isinstance(value, str) else value for name, value in known.items()}


def _sendable(text: str) -> str:
    """The text without lone surrogates, which requesters may write: one span's would lose the batch that it is in."""
    return text.encode(errors="replace").decode()


def _parent(parent: Context | None) -> OtelContext:
    """The SDK's form of it; an empty one where the trace begins here."""
    if parent is None:
        return OtelContext()
    return _W3C.extract({"traceparent": parent.traceparent, "tracestate": parent.state}, context=OtelContext())


def _resource() -> Resource:
    """What the operator says of this service, by OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES, or else its name."""
    stated = Resource.create()
    is_named = not str(stated.attributes["service.name"]).startswith("unknown_service")
    return stated if is_named else stated.merge(Resource({"service.name": NAME}))


@lru_cache(64)
def _server(url: str) -> Attributes:
    parts = urlsplit(url)
    return {"server.address": parts.hostname, "server.port": parts.port or (443 if parts.scheme == "https" else 80)}

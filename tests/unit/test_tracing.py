"""Traces that nobody asks for, and those that cannot be had."""

import subprocess
import sys

import pytest

from handler.config.settings import Settings, SettingsError
from handler.publisher import OutgoingMessage
from handler.push.envelope import PubsubMessage
from handler.telemetry.connect import connect
from handler.telemetry.tracing import NO_PART, NO_TRACE, NO_TRACING

ENVIRONMENT = {
    "MODEL_URL": "http://127.0.0.1:9",
    "RESPONSE_TOPIC": "projects/p/topics/responses",
    "PUSH_AUTH": "platform",
}


def test_nothing_is_traced_unless_asked_for():
    """Every push gets the same trace, which is none, and hands nothing on."""
    tracing = connect(Settings.from_environment(ENVIRONMENT))
    trace = tracing.begin(PubsubMessage("1", b""), None, 0.0)
    assert (tracing, trace, trace.position) == (NO_TRACING, NO_TRACE, None)
    for part in (trace.waiting(), trace.calling("/v1/completions", "m", "http://x"), trace.publishing("t")):
        with part as entered:
            assert (part, entered.context) == (NO_PART, {})
    tracing.close()


def test_nothing_is_imported_unless_asked_for():
    """A start does not pay for what it does not use: tokens, routes, traces, a ledger, storage, commands."""
    optional = ("jwt", "yaml.", "opentelemetry.", "redis", "google.cloud.storage", "handler.commands")
    code = (
        "import sys; from handler.app import App; from handler.config.settings import Settings;"
        f"App(Settings.from_environment({ENVIRONMENT!r}));"
        f"print(*(name for name in sys.modules if name.startswith({optional!r})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_traces_that_are_not_installed(monkeypatch):
    """The start says which extra is missing."""
    monkeypatch.setitem(sys.modules, "handler.telemetry.otel", None)
    with pytest.raises(SettingsError, match=r"OTEL_EXPORTER_OTLP_ENDPOINT .*inference-relay\[traces\]"):
        connect(Settings.from_environment(ENVIRONMENT | {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}))


@pytest.mark.parametrize("value", ["localhost:4318", "grpc://collector:4317", "x"])
def test_an_endpoint_that_is_no_url(value):
    """It is named at the start."""
    with pytest.raises(SettingsError, match="OTEL_EXPORTER_OTLP_ENDPOINT"):
        Settings.from_environment(ENVIRONMENT | {"OTEL_EXPORTER_OTLP_ENDPOINT": value})


def test_a_place_in_a_trace_is_handed_on_where_there_is_room():
    """Pub/Sub takes 100 attributes, and the requester's own count more."""
    context = {"traceparent": "00-1-2-01", "tracestate": "a=b"}
    few = OutgoingMessage(b"", {"a": "b"})
    assert few.within({}) is few
    assert few.within(context).attributes == {
        "a": "b",
        "googclient_traceparent": "00-1-2-01",
        "googclient_tracestate": "a=b",
    }
    many = OutgoingMessage(b"", {str(number): "" for number in range(99)})
    assert many.within(context) is many

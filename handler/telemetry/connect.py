"""Chooses whether there are traces. Nothing is imported for them unless they are asked for."""

from handler.config.settings import Settings, SettingsError
from handler.telemetry.tracing import NO_TRACING, Tracing


def connect(settings: Settings) -> Tracing:
    """What the settings ask for. Raises SettingsError where it is not installed."""
    if settings.otel_exporter_otlp_endpoint is None:
        return NO_TRACING
    try:
        from handler.telemetry.otel import OpenTelemetry
    except ImportError:
        raise SettingsError(
            "OTEL_EXPORTER_OTLP_ENDPOINT asks for traces, which are not installed: "
            "pip install 'inference-relay[traces]', or leave it out"
        ) from None
    return OpenTelemetry(settings)

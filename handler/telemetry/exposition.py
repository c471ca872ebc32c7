"""How the metrics get out: GET /metrics, on a port of its own or on the service's."""

import threading
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from handler.config.settings import Settings, SettingsError
from handler.telemetry.metrics import REGISTRY

PATH = "/metrics"
# For a scraper to say what it wants: nobody shall hold connections for ever.
REQUEST_SECONDS = 10

# Prometheus' text format or OpenMetrics, as the scraper asks for, packed where it takes that.
application = make_wsgi_app(REGISTRY)


class _Server(ThreadingWSGIServer):
    def handle_error(self, _request: object, _client_address: object) -> None:
        """A scraper that goes away is not worth a line in the log."""


class _Handler(WSGIRequestHandler):
    timeout = REQUEST_SECONDS

    def log_message(self, *_arguments: object) -> None:
        """Scrapes are not logged."""


def start(settings: Settings) -> None:
    """Serve them on METRICS_PORT, if that is a port of its own. Raises SettingsError where it cannot be had."""
    port = settings.metrics_port
    if port is None or port == settings.port:
        return
    try:
        serve(port)
    except OSError as error:
        raise SettingsError(f"METRICS_PORT {port} cannot be had: {error.strerror}; choose another") from None


def serve(port: int) -> WSGIServer:
    """Serve the metrics on a port of their own, until the process ends. Raises OSError where the port is taken."""
    server = make_server("0.0.0.0", port, application, _Server, _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server

"""A proxy in front of the model that fails on request, since the model itself never does.

A body with `"user": "fail-once"` is answered 500 the first time that it comes, and passed on from then on.
"""

import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import urlsplit

MARK = b'"fail-once"'
_FAILURE = b'{"error": {"message": "failed once, as asked", "type": "server_error", "param": null, "code": null}}'
_SECONDS = 600


class FaultProxy:
    """A proxy in a thread; `url` is its base URL, `model_url` the one behind it."""

    def __init__(self, model_url: str) -> None:
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.target = urlsplit(model_url)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, name="fault-proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    target = urlsplit("")

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(address, handler)
        self._failed: set[bytes] = set()
        self._lock = threading.Lock()

    def fails_now(self, body: bytes) -> bool:
        """Whether this body asks to fail and has not yet."""
        with self._lock:
            if MARK not in body or body in self._failed:
                return False
            self._failed.add(body)
            return True


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, *_: object) -> None:
        """Say nothing: standard error is for what the person at the terminal should read."""

    def do_GET(self) -> None:
        self._pass_on(b"")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.server.fails_now(body):
            self._respond(500, {"Content-Type": "application/json"}, _FAILURE)
        else:
            self._pass_on(body)

    def _pass_on(self, body: bytes) -> None:
        target = self.server.target
        kind = http.client.HTTPSConnection if target.scheme == "https" else http.client.HTTPConnection
        upstream = kind(target.netloc, timeout=_SECONDS)
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
            upstream.request(self.command, target.path.rstrip("/") + self.path, body or None, headers)
            response = upstream.getresponse()
            kept = {name: value for name, value in response.getheaders() if name.lower() == "content-type"}
            self._respond(response.status, kept, response.read())
        except OSError:
            self.close_connection = True  # as the model would have: the connection just ends
        finally:
            upstream.close()

    def _respond(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

"""A metadata server, which tells an instance on Google Cloud who it is and gives it tokens."""

import base64
import itertools
import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

EMAIL = "relay@p.iam.gserviceaccount.com"


class MetadataServer(ThreadingHTTPServer):
    """Its access tokens are t-1, t-2 and so on; tokens last for `seconds`."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.address = f"127.0.0.1:{self.server_port}"
        self.reset()

    def reset(self):
        """Begin anew."""
        self.seconds = 3600
        self.numbers = itertools.count(1)
        self.fetched = []  # the kinds of tokens that were given out
        self.broken = False

    def access_token(self):
        """As JSON."""
        self.fetched.append("token")
        return json.dumps(
            {"access_token": f"t-{next(self.numbers)}", "expires_in": self.seconds, "token_type": "Bearer"}
        )

    def id_token(self, audience):
        """Signed by nobody, since only its reader would look."""
        self.fetched.append("identity")
        claims = {"aud": audience, "exp": int(time.time() + self.seconds), "number": next(self.numbers)}
        parts = (json.dumps(part).encode() for part in ({"alg": "none"}, claims, {}))
        return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        url = urlsplit(self.path)
        kind = url.path.rstrip("/").rpartition("/")[2]
        self._say(404 if self.server.broken and kind in ("token", "identity") else 200, self._body(kind, url.query))

    do_POST = do_GET  # noqa: N815

    def _body(self, kind, query):
        if kind == "token":
            return self.server.access_token()
        if kind == "identity":
            return self.server.id_token(parse_qs(query)["audience"][0])
        if kind in ("default", EMAIL):
            return json.dumps({"email": EMAIL, "scopes": [], "aliases": ["default"]})
        return {"universe-domain": "googleapis.com", "project-id": "p"}.get(kind, "")

    def _say(self, status, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("Metadata-Flavor", "Google")
        self.send_header("Content-Type", "application/json" if body.startswith(b"{") else "application/text")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextmanager
def running(server):
    """A server, while it serves."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

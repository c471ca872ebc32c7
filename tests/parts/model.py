"""A model that replies with the bytes that a test has agreed with it."""

import json
import threading
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def http(status, content_type, body, *more):
    """The bytes of an HTTP response."""
    head = (f"HTTP/1.1 {status} X", f"Content-Type: {content_type}", f"Content-Length: {len(body)}", *more)
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


class Model(ThreadingHTTPServer):
    """A model that replies to a prompt with the bytes that were agreed for it; to others it echoes the prompt."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 100

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        # prompt -> replies, the last of which is for ever; each is bytes, or a function of the socket
        self.replies = {}
        self.calls = []
        self.headers = []
        self.release = threading.Event()  # lets go of everything that hangs

    def forget(self):
        """Begin anew, with nothing agreed: another test goes on from here."""
        self.release.set()
        self.replies, self.calls, self.headers, self.release = {}, [], [], threading.Event()

    def reply(self, prompt):
        """The next reply to a prompt."""
        left = self.replies.get(prompt) or [http(200, "application/json", json.dumps({"echo": prompt}).encode())]
        return left.pop(0) if len(left) > 1 else left[0]

    def hang(self, _connection):
        """Say nothing until the test is over."""
        self.release.wait(60)

    def hang_then(self, reply):
        """Say nothing until released, and then this."""

        def script(connection):
            self.release.wait(60)
            connection.sendall(reply)

        return script


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = body.get("prompt")
        self.server.calls.append((self.path, body))
        self.server.headers.append(dict(self.headers))
        self._say(self.server.reply(prompt))

    def do_GET(self):
        self._say(self.server.reply(f"GET {self.path}"))

    def _say(self, reply):
        with suppress(OSError):
            if callable(reply):
                reply(self.connection)
                self.close_connection = True
            else:
                self.connection.sendall(reply)


@contextmanager
def serving(server):
    """A model, in a thread."""
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    server.release.set()
    server.shutdown()
    server.server_close()
    thread.join()

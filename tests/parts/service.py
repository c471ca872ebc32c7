"""The service as it is started in production, and pushes that are posted by hand."""

import base64
import itertools
import json
import subprocess
import urllib.error
import urllib.request
from contextlib import contextmanager, suppress

from tests.parts.processes import BIN, free_port, reap, spawn, until

SERVERS = {
    "gunicorn": [BIN / "gunicorn", "-c", "gunicorn.conf.py", 'functions_framework:create_app("handle","main.py")'],
    "functions-framework": [BIN / "functions-framework", "--target=handle", "--source=main.py"],
}


class Service:
    """A running service: its address, its process and what it logged."""

    def __init__(self, url, child, log):
        self.url, self.process, self._log = url, child, log
        self._before = 0  # lines

    def forget(self):
        """Leave out of the log what is in it already: another test goes on from here."""
        self._before = len(self.output().splitlines())

    def log(self):
        """Every line of JSON that it logged so far, in this test."""
        return [json.loads(line) for line in self.output().splitlines()[self._before :] if line.startswith("{")]

    def output(self):
        """Everything that it printed."""
        return self._log.read_text()

    def request(self, method, path, body=None, headers=None):
        """One HTTP request by hand: status, headers and body."""
        request = urllib.request.Request(self.url + path, body, headers or {}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.status, response.headers, response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, error.read()

    def is_ready(self):
        """Whether it takes pushes."""
        with suppress(urllib.error.URLError, OSError):
            return self.request("GET", "/health/ready")[0] == 200
        return False

    def push(self, body, headers=None):
        """Post a push by hand and return the status. It carries what must never be printed."""
        planted = {"Authorization": "Bearer PLANTED-token", "X-Header": "PLANTED-header"}
        return self.request("POST", "/", body, {"Content-Type": "application/json", **planted, **(headers or {})})[0]


def start(server, folder, *, measured=False, spawn=spawn, **settings):
    """Start the service, by `spawn`, and wait until it takes pushes. Its log is a file in this folder."""
    port = free_port()
    log = folder / f"service-{port}.log"
    settings = {"PUSH_AUTH": "none", "PATIENCE_SECONDS": "0", "PORT": str(port), **settings}
    with log.open("w") as file:
        child = spawn(SERVERS[server], settings, measured=measured, stdout=file, stderr=subprocess.STDOUT)
    service = Service(f"http://127.0.0.1:{port}", child, log)
    try:
        until(lambda: child.poll() is not None or service.is_ready(), 60)
        assert child.poll() is None, service.output()
    except BaseException:
        child.terminate()
        reap(child)
        raise
    return service


@contextmanager
def running(server, folder, **settings):
    """The service, while the block runs."""
    service = start(server, folder, **settings)
    try:
        yield service
    finally:
        service.process.terminate()
        reap(service.process)


_ids = itertools.count(1)


def push_of(request, message_id=None, attempt=None, **fields):
    """The body of a wrapped push, of a message of its own unless an id is given."""
    message_id = message_id or f"by-hand-{next(_ids)}"
    data = request if isinstance(request, bytes) else json.dumps(request).encode()
    push = {"message": {"messageId": message_id, "data": base64.b64encode(data).decode(), **fields}}
    return json.dumps(push if attempt is None else push | {"deliveryAttempt": attempt}).encode()

"""Cloud Storage over HTTP, against servers that say what a test has them say."""

import gc
import socket
import threading
import time
import weakref
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import gevent
import pytest

pytest.importorskip("google.cloud.storage")

from handler.greenlets import Deadline, DeadlinePassed
from handler.rules.message.reference import Reference
from handler.storage import Found, NoSuchObject, StorageFailed, TooLarge, objects
from handler.storage.objects import CloudStorage
from tests.parts.garbage import uncollected

# Google's library leaves the connection of a download that was refused or broken off to the garbage collector.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <socket object:pytest.PytestUnraisableExceptionWarning"
)

WHERE = Reference("bucket", "PLANTED")
OBJECT = b'{"name": "x", "generation": "7", "size": "3", "contentType": "text/plain"}'


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def _answer(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append(self.path)
        replies = self.server.replies
        status, body, headers = replies.pop(0) if len(replies) > 1 else replies[0]
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self._answer()

    def do_POST(self):
        self._answer()

    def do_PUT(self):
        self._answer()


@pytest.fixture(scope="module", autouse=True)
def only_what_tests_leave_behind():
    """The garbage collector leaves alone what was there before: it would take a tenth of a second each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def shelf():
    """What reads and writes; it connects when it is first used."""
    made = CloudStorage(1)
    yield made
    made.close()
    gc.collect()  # within the reach of the filter above


@pytest.fixture
def store(monkeypatch):
    """Makes a Cloud Storage that gives these replies, the last one for ever: status, body and headers."""
    monkeypatch.setattr(objects, "RETRY_SECONDS", 3.0)

    @contextmanager
    def made(*replies):
        server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        server.daemon_threads = True
        server.replies, server.asked = [(*reply, {})[:3] for reply in replies], []
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{server.server_port}")
        try:
            yield server
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    return made


def test_an_object_is_pinned_to_the_generation_that_was_found(store, shelf):
    """What is read names it."""
    with store((200, OBJECT), (206, b"abc", {"Content-Range": "bytes 0-2/3"})) as server:
        found = shelf.find(WHERE)
        assert found == Found(Reference("bucket", "PLANTED", 7), 3, "text/plain", "")
        assert b"".join(shelf.read(found)) == b"abc"
        assert "generation=7" in server.asked[1]
        # Of the bucket nothing is asked, which would take a right of its own.
        assert all("/o/PLANTED" in path for path in server.asked)


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_brief_trouble_is_tried_again(store, shelf, status):
    """Once is enough."""
    with store((status, b"{}"), (200, OBJECT)) as server:
        assert shelf.find(WHERE).size == 3
        assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("reply", "error", "said"),
    [
        ((404, b'{"error": {"message": "No such object: bucket/PLANTED"}}'), NoSuchObject, ""),
        ((404, b'{"error": {"message": "The specified bucket does not exist."}}'), StorageFailed, "no such bucket"),
        ((403, b'{"error": {"message": "PLANTED"}}'), StorageFailed, "Forbidden: the service account needs roles/"),
        ((401, b"PLANTED"), StorageFailed, "credentials"),
        ((400, b'{"error": {"message": "PLANTED"}}'), StorageFailed, "BadRequest"),
        ((503, b"PLANTED"), StorageFailed, "ServiceUnavailable"),
        ((200, b"no json"), StorageFailed, ""),
    ],
)
def test_every_failure_is_one_of_two_words(store, shelf, reply, error, said):
    """Looking, reading and writing fail alike; no name and no text of Google's is passed on."""
    with store(reply) as _:
        with pytest.raises(error) as caught:
            shelf.find(WHERE)
        assert said in str(caught.value)
        assert "PLANTED" not in str(caught.value)
        with pytest.raises((error, StorageFailed)) as caught:
            list(shelf.read(Found(WHERE, 3, "", "")))
        assert "PLANTED" not in str(caught.value)
        with pytest.raises(StorageFailed) as caught:
            shelf.write(WHERE, "text/plain", iter([b"abc"]), 10)
        assert "PLANTED" not in str(caught.value)


def test_an_object_that_is_shorter_than_it_said(store, shelf):
    """Nothing of the wrong size is sent on as if it were whole."""
    with store((200, b"ab")) as _, pytest.raises(StorageFailed):
        list(shelf.read(Found(WHERE, 3, "", "")))


def test_a_server_that_is_not_there(monkeypatch, shelf):
    """It is trouble, after the retries."""
    monkeypatch.setattr(objects, "RETRY_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{closed.getsockname()[1]}")
    with pytest.raises(StorageFailed):
        shelf.find(WHERE)


@pytest.mark.parametrize("work", ["find", "read", "write"])
def test_one_deadline_ends_everything(monkeypatch, shelf, work):
    """A Cloud Storage that says nothing is waited for until then, and others go on meanwhile."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{silent.getsockname()[1]}")
        turns = []
        ticker = gevent.spawn(lambda: [(turns.append(1), time.sleep(0.01)) for _ in range(1000)])
        actions = {
            "find": lambda: shelf.find(WHERE),
            "read": lambda: list(shelf.read(Found(WHERE, 3, "", ""))),
            "write": lambda: shelf.write(WHERE, "text/plain", iter([b"abc"]), 10),
        }
        with pytest.raises(DeadlinePassed), Deadline(0.5):
            actions[work]()
        ticker.kill()
    assert len(turns) > 5


def broken():
    """A source that breaks off."""
    yield b"a"
    raise ConnectionError("the model")


BEGUN = (200, b"{}", {"Location": "http://127.0.0.1:9/"})


@pytest.mark.parametrize(
    ("reply", "parts"),
    [
        ((200, b"{}", {"Location": ""}), lambda: iter([b"abc"])),
        ((403, b"{}"), lambda: iter([b"abc"])),
        ((503, b"{}"), lambda: iter([b"abc"])),
        (BEGUN, lambda: iter([b"abc"])),
        (BEGUN, lambda: iter([b"a" * 11])),
        (BEGUN, broken),
    ],
)
def test_a_failed_write_holds_nothing(store, shelf, reply, parts):
    """No cycle of references keeps what was to be written, of which there are megabytes."""
    with store((503, b"{}"), reply) as _, uncollected():
        made = (part for part in parts())
        held = weakref.ref(made)
        with suppress(StorageFailed, TooLarge, ConnectionError):
            shelf.write(WHERE, "text/plain", made, 10)
        del made
        assert held() is None
        assert not [one for one in gc.get_objects() if isinstance(one, objects._Source)]


def test_what_goes_wrong_at_the_source_is_raised_as_it_is(store, shelf):
    """A model that breaks off while its response is written is no trouble of Cloud Storage's."""

    with store(BEGUN) as _:
        with pytest.raises(ConnectionError, match="the model") as caught:
            shelf.write(WHERE, "text/plain", broken(), 10)
        assert caught.traceback[-1].name == "broken"  # should it be a bug
        with pytest.raises(TooLarge):
            shelf.write(WHERE, "text/plain", iter([b"a" * 6, b"b" * 6]), 10)

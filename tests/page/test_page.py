"""The page as a part of the stack: its port."""

import socket

import pytest

from handler.local.page.board import Names
from handler.local.page.page import Page
from handler.local.page.reading import LogLine


@pytest.fixture
def page(monkeypatch):
    """A page that serves nothing yet, beside a Pub/Sub that need not be there."""
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", "127.0.0.1:9")
    with Page(Names("projects/p/topics/t", "r", "s"), None, "m") as made:
        yield made


@pytest.fixture
def taken():
    """A port on which somebody listens."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def test_where_the_usual_port_is_taken(page, taken):
    """The next is tried; 0 always finds one."""
    url = page.serve((taken, 0), None, None)
    assert url.startswith("http://127.0.0.1:")
    assert url != f"http://127.0.0.1:{taken}/"


def test_a_port_of_ones_own_that_is_taken(page, taken):
    """It is said which, and what to do."""
    with pytest.raises(OSError, match=f"port {taken} is taken; choose another --page-port"):
        page.serve((taken,), None, None)


def test_a_line_of_the_log_that_is_none(page, monkeypatch):
    """Whatever else the service prints, the page hears what is said of a push."""
    heard = []
    monkeypatch.setattr(page, "hear", heard.append)
    push = (
        '{"message": "answered", "reason": "answered", "message_id": "7", "subscription": "s", "delivery_attempt": 2}'
    )
    for line in ("", "Traceback", "{", '{"reason": 1}', push):
        page.hear_line(line)
    assert heard == [LogLine("7", "s", 2, "answered", "")]

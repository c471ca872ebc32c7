"""Nobody waits longer for a peer than was said."""

import socket
import time

import pytest

from handler.watchdog import Watchdog


@pytest.fixture
def pair():
    """The two ends of a connection."""
    here, there = socket.socketpair()
    with here, there:
        yield here, there


def test_a_wait_that_takes_too_long_ends(pair):
    """Whoever waits finds the end of what is sent, and can still answer."""
    here, there = pair
    with Watchdog().watching(here, 0.01):
        assert here.recv(1) == b""
    here.sendall(b"late")
    assert there.recv(4) == b"late"


def test_what_was_released_is_not_shut(pair):
    """A connection outlives the wait that was in time."""
    here, there = pair
    watchdog = Watchdog()
    with watchdog.watching(here, 60):
        pass
    watchdog.shut_overdue(time.monotonic() + 61)
    there.sendall(b"next")
    assert here.recv(4) == b"next"


def test_only_the_overdue_are_shut(pair):
    """Each connection has its own time, and one that is closed already is no trouble."""
    here, there = pair
    gone = socket.socket()
    gone.close()
    watchdog = Watchdog()
    watchdog.watch(gone, 10)
    watchdog.watch(here, 60)
    watchdog.shut_overdue(time.monotonic() + 30)
    there.sendall(b"on time")
    assert here.recv(7) == b"on time"
    watchdog.shut_overdue(time.monotonic() + 61)
    assert here.recv(1) == b""


def test_without_a_socket_nothing_is_watched():
    """Other servers than gunicorn do not lend theirs."""
    with Watchdog().watching(None, 0):
        pass

"""How long the startup probe may take, and what it tries in that time."""

import socket

import gevent
import pytest

from handler.startup import connects


@pytest.fixture
def found(monkeypatch):
    """What every name stands for."""
    addresses = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: addresses or gevent.sleep(60))
    return addresses


@pytest.fixture
def connecting(monkeypatch):
    """Where a connection was tried; nobody answers but the one at 127.0.0.1."""
    tried, connect = [], socket.socket.connect

    def connect_or_wait(connection, address):
        tried.append(address[0])
        connect(connection, address) if address[0] == "127.0.0.1" else gevent.sleep(60)

    monkeypatch.setattr(socket.socket, "connect", connect_or_wait)
    return tried


def at(*hosts, port=80):
    """What a look-up of names finds."""
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for host in hosts]


@pytest.mark.usefixtures("found")
def test_a_name_server_that_is_silent():
    """The platform does not wait for it: looking up the name is bounded, too."""
    with gevent.Timeout(20):
        assert not connects(("silent", 80))


def test_many_dead_addresses(found, connecting):
    """All of them together have the time that one has."""
    found += at(*(f"192.0.2.{number}" for number in range(20)))
    with gevent.Timeout(20):
        assert not connects(("many", 80))
    assert 0 < len(connecting) < 20


def test_a_name_server_that_takes_a_second(monkeypatch):
    """As while a way into a network opens: every probe would be cut, though calls, which wait longer, go through."""
    with socket.create_server(("127.0.0.1", 0)) as model:
        found = at("127.0.0.1", port=model.getsockname()[1])
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_: gevent.sleep(1.0) or found)
        assert connects(("slow", 80))


def test_a_dead_address_beside_a_good_one(found, connecting):
    """The good one is reached, as a call would reach it."""
    with socket.create_server(("127.0.0.1", 0)) as model:
        found += at("192.0.2.1", "127.0.0.1", port=model.getsockname()[1])
        assert connects(("model", 80))
    assert connecting == ["192.0.2.1", "127.0.0.1"]

"""Whose turn it is while connections come by the hundred."""

import socket

import gevent
from gevent.event import Event
from gevent.server import StreamServer

from handler import greenlets

CONNECTIONS = 60


def order_of_turns():
    """Whose turn it was: connections that are there at the start, and a greenlet that the first of them wakes."""
    turns, go_on = [], Event()

    def handle(_connection, _address):
        turns.append("connection")
        go_on.set()

    def wait():
        go_on.wait()
        turns.append("waiter")

    waiter = gevent.spawn(wait)
    gevent.sleep(0)
    listener = socket.create_server(("127.0.0.1", 0), backlog=CONNECTIONS)
    peers = [socket.create_connection(listener.getsockname()) for _ in range(CONNECTIONS)]
    server = StreamServer(listener, handle)
    server.start()
    try:
        while len(turns) <= CONNECTIONS:
            gevent.sleep(0.001)
        waiter.join()
    finally:
        server.stop()
        for peer in peers:
            peer.close()
    return turns


def test_connections_that_come_at_once_let_others_have_their_turn(monkeypatch):
    """Who is woken goes on before the next few connections are taken, however many wait."""
    monkeypatch.setattr("gevent.baseserver.BaseServer.max_accept", 100)
    assert order_of_turns().index("waiter") > 30  # what it is without
    greenlets.accept_in_turn()
    assert order_of_turns().index("waiter") < 5

"""Publishing as in production: over TLS, with the token of a metadata server, in greenlets."""

import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport

from handler import publisher
from handler.publisher import OutgoingMessage, Publisher, PublishFailed

TOPIC = "projects/p/topics/responses"


@pytest.fixture
def secure(tmp_path, monkeypatch, metadata):
    """Where clients of the real Pub/Sub end up; the addresses that they asked for."""
    asked, authority, make = [], tmp_path / "ca.pem", PublisherGrpcTransport.create_channel
    command = [sys.executable, Path(__file__).with_name("secure_pubsub.py"), authority]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        port = server.stdout.readline().strip()

        def create_channel(host, **options):
            asked.append(host)
            trusted = grpc.ssl_channel_credentials(authority.read_bytes())
            return make(f"localhost:{port}", ssl_credentials=trusted, **options)

        monkeypatch.setattr(PublisherGrpcTransport, "create_channel", create_channel)
        yield asked
        server.kill()


def test_publishing_to_the_real_one(secure):
    """The instance's own token goes along, over TLS; thousands publish at once, each with an id of its own."""
    publisher = Publisher(TOPIC)
    with ThreadPoolExecutor(200) as threads:
        ids = list(threads.map(lambda _: publisher.publish(OutgoingMessage(b"{}"), 30), range(2000)))
    assert len(set(ids)) == 2000
    assert secure == ["pubsub.googleapis.com:443"]


def test_a_silent_pubsub_stops_nobody_else(monkeypatch):
    """While publishing waits, everything else in the process goes on, name look-ups among it."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as silent:
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", "{}:{}".format(*silent.getsockname()))
        publisher = Publisher(TOPIC)

        def publish(_):
            with pytest.raises(PublishFailed):
                publisher.publish(OutgoingMessage(b"{}"), 3)

        with ThreadPoolExecutor(100) as threads:
            waiting = [threads.submit(publish, number) for number in range(100)]
            connection, _ = silent.accept()  # it is on its way, and hears nothing
            assert [socket.getaddrinfo("localhost", 80)[0][4][1] for _ in range(20)] == [80] * 20
            assert not any(one.done() for one in waiting)
            for one in waiting:
                one.result(30)
            connection.close()


def test_credentials_that_do_not_come(monkeypatch):
    """A metadata server that is silent holds up no message for longer than its publish may take."""
    monkeypatch.setattr(publisher, "_channel", lambda: time.sleep(30))
    topic = Publisher(TOPIC)
    for _ in range(2):
        with pytest.raises(PublishFailed, match="no application default credentials"):
            topic.publish(OutgoingMessage(b"{}"), 0.5)

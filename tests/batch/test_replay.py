"""`replay` and what keeps it from settling a dead letter: a copy that is out, and a letter that is still there."""

import json
import signal

import grpc
import pytest

from handler import batch
from tests.parts.processes import until

from .proxy import Refusing


@pytest.fixture
def letters(local_place):
    """Three dead letters: their message ids, in the subscription `dead`."""
    local_place.publisher.create_topic(name=local_place.name("topics", "dead"))
    local_place.subscribe("dead", "dead", ack_deadline_seconds=10)
    requests = [json.dumps({"metadata": {"custom_id": name}, "body": {}}).encode() for name in "abc"]
    return [local_place.publish("dead", request) for request in requests]


def test_an_ack_that_fails_for_good(local_place, letters):
    """Letters whose copy is out while they are not acked are named by their ids, with what to do; nothing more is sent.

    They do not count as replayed, and the exit status is no good one.
    """
    with Refusing(local_place.address, "Acknowledge", grpc.StatusCode.PERMISSION_DENIED) as proxy, local_place.relay():
        done = local_place.run("replay", "dead", "--wait", "2s", "--go", address=proxy.address)
        assert proxy.refused == 1
        until(lambda: local_place.asked() == dict.fromkeys("abc", 1))
    assert done.returncode == 2, done.stdout
    assert "0 dead letters were replayed" in done.stderr
    assert all(message_id in done.stderr for message_id in letters)
    assert "another replay publishes them again" in done.stderr
    assert "subscriptions ack --ack-ids" in done.stderr


@pytest.mark.parametrize("status", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL, grpc.StatusCode.ABORTED])
def test_an_ack_that_fails_for_a_while(local_place, letters, monkeypatch, status):
    """It is tried again, and each letter is replayed once."""
    with Refusing(local_place.address, "Acknowledge", status, times=2) as proxy:
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", proxy.address)
        found = batch.replay("dead", project=local_place.project, go=True, quiet_seconds=2)
        assert (found.replayed, proxy.refused) == (3, 2)
        assert batch.replay("dead", project=local_place.project, quiet_seconds=2).looked_at == 0


def test_a_publish_without_a_confirmation(local_place, letters, monkeypatch):
    """The letters that may have been published are named by their ids, and are still there."""
    with Refusing(local_place.address, "Publish", grpc.StatusCode.UNKNOWN) as proxy:
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", proxy.address)
        with pytest.raises(batch.CannotRun) as caught:
            batch.replay("dead", project=local_place.project, go=True, quiet_seconds=2)
        assert all(message_id in str(caught.value) for message_id in letters)
        # A pull that had ended here may have leased them at the broker once more, for its ten seconds.
        until(lambda: batch.replay("dead", project=local_place.project, quiet_seconds=2).looked_at == 3, 60)


def test_a_publish_that_is_refused(local_place, letters, monkeypatch):
    """What Pub/Sub has surely not taken is not said to be published."""
    with Refusing(local_place.address, "Publish", grpc.StatusCode.INVALID_ARGUMENT) as proxy:
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", proxy.address)
        with pytest.raises(batch.CannotRun, match="took none of the next 3") as caught:
            batch.replay("dead", project=local_place.project, go=True, quiet_seconds=2)
    assert "publishes them again" not in str(caught.value)


def test_an_interruption_before_the_ack(local_place, letters):
    """Ctrl-C while a publish waits for its confirmation names the letters that may be published."""
    command = ("replay", "dead", "--wait", "2s", "--go")
    with (
        Refusing(local_place.address, "Publish", status=None) as proxy,
        local_place.running(*command, address=proxy.address) as child,
    ):
        until(lambda: proxy.refused)
        child.send_signal(signal.SIGINT)
        assert child.wait(30) == 2
    said = (local_place.folder / "command.log").read_text()
    assert "it was interrupted" in said
    assert all(message_id in said for message_id in letters)

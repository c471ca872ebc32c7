"""`ask` and `replay`."""

import json
import signal

import pytest

from handler.batch.asking import Where, ask
from handler.batch.pubsub import Subscription
from tests.parts.processes import until

REPLAY = ("replay", "dead", "--wait", "2s")


def test_ask(local_place):
    """The answer, and nothing else, is on standard output; the subscription is gone. One that is none costs no call."""
    done = local_place.run("ask", "Say hello.", "--model", "m", "--subscription", "misspelt")
    assert (done.returncode, "misspelt does not exist" in done.stderr) == (2, True), done.stderr
    with local_place.relay():
        done = local_place.start("ask", "Say hello.", "--model", "m", "--system", "Be brief.")
        assert (done.returncode, done.stdout) == (0, "xxxxx\n"), done.stderr
        done = local_place.run("ask", "-", "--model", "m", "--json", stdin="From a pipe.")
        assert json.loads(done.stdout)["choices"][0]["message"]["content"] == "xxxxx"
    bodies = [request["body"] for *_, request in local_place.calls()]
    assert bodies[0]["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Say hello."},
    ]
    assert bodies[1]["messages"] == [{"role": "user", "content": "From a pipe."}]
    assert local_place.subscriptions() == {"relay"}


def test_ask_without_an_answer(local_place):
    """It says what that may mean; what is missing says what to give."""
    done = local_place.run("ask", "Say hello.", "--model", "m", "--timeout", "2s")
    assert (done.returncode, "the model may be starting" in done.stderr) == (1, True), done.stderr
    done = local_place.run("ask", "Say hello.", "--model", "m", "--topic", "missing")
    assert (done.returncode, "Ask your platform team" in done.stderr) == (2, True), done.stderr


def test_ask_that_is_interrupted(local_place):
    """Ctrl-C says what becomes of the request, which may be at the model; the subscription is gone."""
    with local_place.running("ask", "Say hello.", "--model", "m") as child:
        until(lambda: local_place.subscriptions() != {"relay"})
        child.send_signal(signal.SIGINT)
        assert child.wait(30) == 130
    said = (local_place.folder / "command.log").read_text()
    assert "interrupted: if the request was sent, it is answered all the same, and paid for" in said
    assert local_place.subscriptions() == {"relay"}


def test_ask_that_is_interrupted_while_its_subscription_is_made(local_place, monkeypatch):
    """There is none afterwards, though Pub/Sub had made it."""
    create, made = Subscription.create, []

    def interrupted(subscription, topic, only):
        create(subscription, topic, only)
        made.extend(local_place.subscriptions() - {"relay"})
        raise KeyboardInterrupt

    monkeypatch.setattr(Subscription, "create", interrupted)
    where = Where(topic=local_place.name("topics", "requests"), responses=local_place.name("topics", "responses"))
    with pytest.raises(KeyboardInterrupt):
        ask("/v1/completions", {"model": "m", "prompt": "Say hello."}, where)
    assert len(made) == 1
    assert local_place.subscriptions() == {"relay"}


def bury(place, name, **attributes):
    """Put a dead letter where they are."""
    request = json.dumps({"metadata": {"custom_id": name}, "body": {"prompt": "hello"}}).encode()
    place.publish("dead", request, **attributes)


def test_replay(local_place):
    """It only looks until told to go; those meant are published again with their attributes, the others stay."""
    local_place.publisher.create_topic(name=local_place.name("topics", "dead"))
    local_place.subscribe("dead", "dead", ack_deadline_seconds=10)
    noted = "CloudPubSubDeadLetterSource"
    bury(local_place, "crashed", batch_id="b", **{f"{noted}DeliveryErrorMessage": "503", f"{noted}DeliveryCount": "7"})
    bury(local_place, "old", **{f"{noted}TopicPublishTime": "2020-01-01T00:00:00+00:00"})
    bury(local_place, "other", colour="red")

    done = local_place.run(*REPLAY, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["looked_at"], found["meant"], found["replayed"]) == (3, 3, 0)
    assert found["reasons"] == {"503": 1, "no error noted": 2}

    with local_place.relay():
        assert "1 replayed" in local_place.run(*REPLAY, "--reason", "503", "--go").stdout
        until(lambda: local_place.asked() == {"crashed": 1})
        _, _, attributes, _ = local_place.calls()[0]
        expected = {"dead_letter_source_delivery_error_message": "503", "dead_letter_source_delivery_count": "7"}
        assert attributes == expected | {"batch_id": "b"}
        assert "1 are meant" in local_place.run(*REPLAY, "--older-than", "1d").stdout
        assert "1 replayed" in local_place.run(*REPLAY, "--where", "colour=red", "--go").stdout
        assert "1 replayed" in local_place.run(*REPLAY, "--count", 5, "--go").stdout
        until(lambda: local_place.asked() == {"crashed": 1, "other": 1, "old": 1})
    assert json.loads(local_place.run(*REPLAY, "--json").stdout)["looked_at"] == 0

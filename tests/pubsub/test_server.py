"""The broker as a whole: what only ours has, black box through the real client library."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from google.api_core.exceptions import (
    FailedPrecondition,
    GoogleAPICallError,
    InvalidArgument,
    MethodNotImplemented,
    NotFound,
)
from google.cloud import pubsub_v1
from google.iam.v1 import iam_policy_pb2
from google.pubsub_v1.types import StreamingPullRequest

from handler.local.pubsub import Broker, Fault, LocalPubSub, Rules
from handler.local.pubsub.cli import command
from tests.parts.processes import until


@pytest.fixture
def clients(ours: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The client library that users have, against our broker."""
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", ours.address)
    publisher, subscriber = pubsub_v1.PublisherClient(), pubsub_v1.SubscriberClient()
    yield publisher, subscriber
    publisher.stop()
    publisher.transport.close()
    subscriber.close()


def test_the_client_library_publishes_and_subscribes(ours: Any, clients: Any) -> None:
    """publish() with batching and subscribe() with callbacks; a message nacked once comes twice."""
    publisher, subscriber = clients
    topic = ours.topic()
    name = ours.subscribe(topic, enable_message_ordering=True)
    for future in [publisher.publish(topic, str(number).encode()) for number in range(50)]:
        future.result(40)
    seen: list[str] = []
    done = threading.Event()

    def callback(message: Any) -> None:
        seen.append(message.data.decode())
        message.nack() if seen.count("7") == 1 and seen[-1] == "7" else message.ack()
        if len(seen) == 51:
            done.set()

    stream = subscriber.subscribe(name, callback)
    assert done.wait(40)
    stream.cancel()
    stream.result(40)
    assert sorted(seen, key=int) == [str(number) for number in sorted([*range(50), 7])]


def test_a_slow_endpoint_gets_many_at_once(ours: Any, endpoint: Any) -> None:
    """200 pushes are out at once, once a few were acked."""
    topic = ours.topic()
    ours.subscribe(topic, push=endpoint.url)
    release = threading.Event()

    def answer(push: Any) -> int:
        if push.number > 8:
            release.wait(60)
        return 204

    endpoint.answer = answer
    ours.publish(topic, *[{"data": b"x"} for _ in range(209)])
    assert endpoint.wait(lambda: endpoint.busy == 200)
    release.set()
    assert endpoint.wait(lambda: endpoint.busy == 0)
    assert len(endpoint.pushes) == 209


def test_what_pushes_got_is_counted(endpoint: Any, connect: Any) -> None:
    """By status, and by how many deliveries a message took."""
    statuses = iter([500, 429, 204, 204])
    endpoint.answer = lambda _: next(statuses)
    with LocalPubSub(rules=Rules(push_backoff=False)) as broker:
        remote = connect(broker.address)
        topic = remote.topic()
        name = remote.subscribe(topic, push=endpoint.url)
        remote.publish(topic, {"data": b"x"})
        endpoint.wait_for(3)
        remote.publish(topic, {"data": b"x"})
        endpoint.wait_for(4)
        until(lambda: broker.stats().acked == 2)
        assert broker.push_answers == {500: 1, 429: 1, 204: 2}
        assert broker.deliveries(name) == {3: 1, 1: 1}


def test_pushes_stop_with_the_subscription(ours: Any, endpoint: Any) -> None:
    """Deleting a subscription ends its pushes; the stats tell what happened."""
    topic = ours.topic()
    name = ours.subscribe(topic, push=endpoint.url)
    before = ours.local.stats()
    ours.publish(topic, {"data": b"x"})
    endpoint.wait_for(1)
    ours.subscriber.delete_subscription(subscription=name)
    ours.publish(topic, {"data": b"x"})
    after = ours.local.stats()
    assert (after.published - before.published, after.pushed - before.pushed) == (2, 1)


def test_a_push_subscription_cannot_be_pulled(ours: Any, endpoint: Any) -> None:
    """FAILED_PRECONDITION, for pull and streaming pull."""
    name = ours.subscribe(ours.topic(), push=endpoint.url)
    with pytest.raises(FailedPrecondition):
        ours.subscriber.pull(subscription=name, max_messages=1)
    opening = StreamingPullRequest(subscription=name, stream_ack_deadline_seconds=10)
    with pytest.raises(FailedPrecondition):
        next(iter(ours.subscriber.streaming_pull(requests=iter([opening]))))


def test_a_stream_ends_with_its_subscription(ours: Any) -> None:
    """NOT_FOUND, as the real service does."""
    topic = ours.topic()
    name = ours.subscribe(topic)
    ours.publish(topic, {"data": b"x"})
    done = threading.Event()

    def requests() -> Any:
        yield StreamingPullRequest(subscription=name, stream_ack_deadline_seconds=10)
        yield StreamingPullRequest(modify_deadline_ack_ids=["1"], modify_deadline_seconds=[20])
        done.wait(60)

    stream = iter(ours.subscriber.streaming_pull(requests=requests()))
    assert len(next(stream).received_messages) == 1
    ours.subscriber.delete_subscription(subscription=name)
    with pytest.raises(NotFound):
        next(stream)
    done.set()


def test_a_pull_waits_for_the_first_message(ours: Any) -> None:
    """A pull is answered when a message comes, and with nothing after a bounded time."""
    topic = ours.topic()
    name = ours.subscribe(topic)
    assert not ours.subscriber.pull(subscription=name, max_messages=1).received_messages
    with ThreadPoolExecutor() as pool:
        pull = pool.submit(ours.pull, name, 1)
        ours.publish(topic, {"data": b"x"})
        assert pull.result(40)[0].message.data == b"x"


def test_answers_to_pulls_stay_under_the_clients_limit(ours: Any, clients: Any) -> None:
    """Twelve messages of a megabyte are pulled by a client whose receive limit is 4 MB."""
    topic = ours.topic()
    name = ours.subscribe(topic)
    for _ in range(12):
        ours.publish(topic, {"data": b"x" * 1_000_000})
    counts = []
    while sum(counts) < 12:
        counts.append(len(clients[1].pull(subscription=name, max_messages=100).received_messages))
    assert counts == [3, 3, 3, 3]


def test_lists_come_in_pages(ours: Any) -> None:
    """Every list, page by page, has everything once."""
    topics = {ours.topic() for _ in range(3)}
    subscriptions = {ours.subscribe(next(iter(topics))) for _ in range(3)}
    listed = [each.name for each in ours.publisher.list_topics({"project": "projects/p", "page_size": 2})]
    assert topics <= set(listed)
    assert len(set(listed)) == len(listed)
    found = ours.subscriber.list_subscriptions({"project": "projects/p", "page_size": 1})
    assert subscriptions <= {each.name for each in found}
    of_topic = ours.publisher.list_topic_subscriptions({"topic": next(iter(topics)), "page_size": 1})
    assert set(of_topic) == subscriptions
    assert not list(ours.publisher.list_topics(project="projects/other"))


def test_a_negative_page_size_is_refused(ours: Any) -> None:
    """INVALID_ARGUMENT."""
    with pytest.raises(GoogleAPICallError, match="page_size"):
        list(ours.publisher.list_topics({"project": "projects/p", "page_size": -1}))


@pytest.mark.parametrize(
    "call",
    [
        lambda ours: ours.subscriber.seek({"subscription": "projects/p/subscriptions/s"}),
        lambda ours: ours.subscriber.create_snapshot(name="projects/p/snapshots/s", subscription="s"),
        lambda ours: ours.publisher.update_topic({"topic": {"name": "projects/p/topics/t"}}),
        lambda ours: ours.publisher.set_iam_policy(iam_policy_pb2.SetIamPolicyRequest(resource="r")),
        lambda ours: ours.publisher.create_topic({"name": "projects/p/topics/kms", "kms_key_name": "k"}),
        lambda ours: ours.subscribe(ours.topic(), enable_exactly_once_delivery=True),
        lambda ours: ours.subscribe(ours.topic(), bigquery_config={"table": "t"}),
    ],
)
def test_what_is_left_out_says_so(ours: Any, call: Any) -> None:
    """UNIMPLEMENTED with a sentence, never silence."""
    with pytest.raises(MethodNotImplemented, match=r"left out of the local Pub/Sub.*\."):
        call(ours)


def test_a_broken_page_token_is_refused(ours: Any) -> None:
    """INVALID_ARGUMENT."""
    with pytest.raises(GoogleAPICallError, match="page_token"):
        list(ours.publisher.list_topics({"project": "projects/p", "page_token": "x"}))


def test_updates_change_what_the_mask_names(ours: Any, endpoint: Any) -> None:
    """A pull subscription is given an endpoint, a retry policy with its defaults, and keeps the rest."""
    topic = ours.topic()
    name = ours.subscribe(topic, ack_deadline_seconds=33)
    change = {"name": name, "push_config": {"push_endpoint": endpoint.url}, "retry_policy": {}}
    mask = {"paths": ["push_config", "retry_policy"]}
    ours.subscriber.update_subscription(subscription=change, update_mask=mask)
    got = ours.subscriber.get_subscription(subscription=name)
    assert (got.ack_deadline_seconds, got.retry_policy.minimum_backoff.seconds) == (33, 10)
    ours.publish(topic, {"data": b"x"})
    assert endpoint.wait_for(1)


def test_a_dead_letter_without_a_topic_is_delivered_on(ours: Any) -> None:
    """A dead-letter topic that was deleted loses nothing."""
    topic, dead = ours.topic(), ours.topic()
    name = ours.subscribe(topic, dead_letter_policy={"dead_letter_topic": dead})
    ours.publisher.delete_topic(topic=dead)
    ours.publish(topic, {"data": b"x"})
    for _ in range(6):
        [received] = ours.pull(name, 1)
        ours.subscriber.modify_ack_deadline(subscription=name, ack_ids=[received.ack_id], ack_deadline_seconds=0)
    assert received.delivery_attempt == 6


def test_a_dead_letter_topic_is_looked_for_when_it_is_named(ours: Any) -> None:
    """A subscription whose dead-letter topic was deleted can be changed otherwise, and be rid of it."""
    dead = ours.topic()
    name = ours.subscribe(ours.topic(), dead_letter_policy={"dead_letter_topic": dead})
    ours.publisher.delete_topic(topic=dead)
    update = ours.subscriber.update_subscription
    update(subscription={"name": name, "ack_deadline_seconds": 33}, update_mask={"paths": ["ack_deadline_seconds"]})
    again = {"name": name, "dead_letter_policy": {"dead_letter_topic": dead}}
    with pytest.raises(NotFound, match="does not exist; create it first"):
        update(subscription=again, update_mask={"paths": ["dead_letter_policy"]})
    changed = update(subscription={"name": name}, update_mask={"paths": ["dead_letter_policy"]})
    assert (changed.ack_deadline_seconds, "dead_letter_policy" in changed) == (33, False)


@pytest.mark.parametrize("call", ["acknowledge", "modify_ack_deadline"])
def test_ack_ids_count_as_long_as_the_services(ours: Any, call: str) -> None:
    """What a program may ack at once does not depend on that ids are short here; refused, nothing is acked."""
    topic = ours.topic()
    request = {"subscription": ours.subscribe(topic), "ack_ids": ["1"] * 2_700}
    if call == "modify_ack_deadline":
        request["ack_deadline_seconds"] = 60
    with pytest.raises(InvalidArgument, match="Request payload size exceeds the limit: 524288 bytes"):
        getattr(ours.subscriber, call)(request)
    request["ack_ids"] = ["1"] * 2_500
    getattr(ours.subscriber, call)(request)


def test_what_is_out_is_not_lost_when_pushes_end(ours: Any, endpoint: Any) -> None:
    """A subscription that is no longer pushed gives what was out to a pull."""
    topic = ours.topic()
    name = ours.subscribe(topic, push=endpoint.url)
    release = threading.Event()
    endpoint.answer = lambda _: release.wait(60) and 204
    ours.publish(topic, {"data": b"x"})
    endpoint.wait_for(1)
    ours.subscriber.modify_push_config(subscription=name, push_config={})
    assert ours.pull(name, 1)
    release.set()


def test_an_endpoint_that_is_not_there_is_a_nack(ours: Any, endpoint: Any) -> None:
    """Nothing is lost while the endpoint is away, and nothing when it cannot be given a header."""
    endpoint.close()
    topic, dead = ours.topic(), ours.topic()
    funeral = ours.subscribe(dead)
    policy = {"dead_letter_topic": dead}
    ours.subscribe(topic, push=endpoint.url, dead_letter_policy=policy)
    unwrapped = {"push_endpoint": "http://127.0.0.1:9/", "no_wrapper": {"write_metadata": True}}
    ours.subscribe(topic, push_config=unwrapped, dead_letter_policy=policy)
    ours.publish(topic, {"data": b"x", "attributes": {"bad": "line\r\nbreak"}})
    assert len(ours.pull(funeral, 2)) == 2


def test_a_restart_keeps_what_was_not_acked(endpoint: Any, connect: Any) -> None:
    """After a restart, on the same address, the push that was cut comes again."""
    with LocalPubSub() as broker:
        address = broker.address
        remote = connect(address)
        topic = remote.topic()
        remote.subscribe(topic, push=endpoint.url)
        release = threading.Event()
        endpoint.answer = lambda push: 204 if push.number else release.wait(60) and 500
        remote.publish(topic, {"data": b"x"})
        endpoint.wait_for(1)
        broker.restart()
        first, second = endpoint.wait_for(2)
        release.set()
        assert first.message == second.message
        assert broker.address == address
        remote.publish(topic, {"data": b"x"})
        endpoint.wait_for(3)


def test_a_port_that_is_taken_is_an_error() -> None:
    """OSError, which the command turns into a sentence."""
    with LocalPubSub() as broker:
        port = int(broker.address.rpartition(":")[2])
        with pytest.raises(OSError, match="cannot listen"), LocalPubSub(port):
            pass
        result = CliRunner().invoke(command, ["--port", str(port)])
        assert result.exit_code == 1
        assert "choose another --port" in result.output


def test_two_brokers_live_side_by_side() -> None:
    """Each in its own thread, on its own port."""
    with LocalPubSub() as one, LocalPubSub() as two:
        assert one.address != two.address
        assert one.certs_url != two.certs_url


# ---- faults


@pytest.fixture
def faulty(ours: Any) -> Any:
    yield ours.local.faults
    ours.local.faults.clear()


def test_publish_fails(ours: Any, faulty: Any) -> None:
    """The second of every two publishes to a matching topic is refused, and nothing of it is taken."""
    topic = ours.topic()
    name = ours.subscribe(topic)
    faulty.add(Fault(kind="publish-fails", every=2, times=1, match=topic, status="RESOURCE_EXHAUSTED"))
    ours.publish(ours.topic(), {"data": b"other"})
    ours.publish(topic, {"data": b"1"})
    with pytest.raises(GoogleAPICallError, match="fault on demand"):
        ours.publisher.publish(topic=topic, messages=[{"data": b"2"}], retry=None)
    ours.publish(topic, {"data": b"3"})
    ours.publish(topic, {"data": b"4"})
    assert [each.message.data for each in ours.pull(name, 3)] == [b"1", b"3", b"4"]


def test_publish_answer_lost(ours: Any, faulty: Any) -> None:
    """The message is there although the publisher was told otherwise: its retry makes a second one."""
    topic = ours.topic()
    name = ours.subscribe(topic)
    faulty.add(Fault(kind="publish-answer-lost", times=1))
    ours.publish(topic, {"data": b"x"})
    one, two = ours.pull(name, 2)
    assert one.message.message_id != two.message.message_id


def test_publish_late(ours: Any, faulty: Any) -> None:
    """The message is delivered before its publish is answered."""
    topic = ours.topic()
    name = ours.subscribe(topic)
    faulty.add(Fault(kind="publish-late", seconds=60))
    with ThreadPoolExecutor() as pool:
        publish = pool.submit(ours.publisher.publish, topic=topic, messages=[{"data": b"x"}], timeout=2, retry=None)
        assert ours.pull(name, 1)
        assert not publish.done()
        with pytest.raises(GoogleAPICallError):
            publish.result(40)


def test_push_twice(ours: Any, endpoint: Any, faulty: Any) -> None:
    """Two copies are there at the same time; the ack of one is enough."""
    topic = ours.topic()
    faulty.add(Fault(kind="push-twice", times=1))

    def answer(push: Any) -> int:
        endpoint.wait(lambda: len(endpoint.pushes) == 2)
        return 204 if push.number else 500

    endpoint.answer = answer
    ours.subscribe(topic, push=endpoint.url, enable_message_ordering=True)
    for name in ("1", "2"):
        ours.publish(topic, {"attributes": {"n": name}, "ordering_key": "k"})
    assert [push.attribute("n") for push in endpoint.wait_for(3)] == ["1", "1", "2"]


def test_push_cut(ours: Any, endpoint: Any, faulty: Any) -> None:
    """A push that is cut is a nack, although the endpoint would have acked."""
    topic = ours.topic()
    name = ours.subscribe(topic, push=endpoint.url)
    faulty.add(Fault(kind="push-cut", seconds=0.2, times=1, match=name))
    release = threading.Event()
    endpoint.answer = lambda push: 204 if push.number else release.wait(60) and 204
    ours.publish(topic, {"data": b"x"})
    endpoint.wait_for(2)
    release.set()


def test_push_late(ours: Any, endpoint: Any, faulty: Any) -> None:
    """A message whose push is late is overtaken, beyond its ack deadline too."""
    topic = ours.topic()
    faulty.add(Fault(kind="push-late", seconds=2.5, times=1))
    ours.subscribe(topic, push=endpoint.url, ack_deadline_seconds=2)
    ours.publish(topic, {"attributes": {"n": "1"}}, {"attributes": {"n": "2"}})
    assert [push.attribute("n") for push in endpoint.wait_for(2)] == ["2", "1"]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("push-twice", Fault(kind="push-twice")),
        ("push-late,seconds=2.5,every=3", Fault(kind="push-late", seconds=2.5, every=3)),
        (
            "publish-fails,times=2,match=t,status=ABORTED",
            Fault(kind="publish-fails", times=2, match="t", status="ABORTED"),
        ),
    ],
)
def test_faults_are_read_from_text(text: str, fault: Fault) -> None:
    """The form that the command takes."""
    assert Fault.parse(text) == fault


@pytest.mark.parametrize(
    "text",
    ["", "nonsense", "push-twice,every", "push-twice,every=0", "push-twice,every=x", "push-late,seconds=-1",
     "push-twice,other=1", "publish-fails,status=OK", "publish-fails,status=NONE"],
)  # fmt: skip
def test_what_is_no_fault_is_refused(text: str) -> None:
    """By the command too, with its usage."""
    with pytest.raises(ValueError, match=r"."):
        Fault.parse(text)
    result = CliRunner().invoke(command, ["--fault", text])
    assert result.exit_code == 2
    assert "--fault" in result.output


# ---- the command


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command(number: int, endpoint: Any, connect: Any) -> None:
    """It says where it listens, serves, and ends with 0 on a signal, with a push still out."""
    run = [sys.executable, "-m", "handler.local.pubsub", "--port", "0", "--fault", "publish-fails,times=1"]
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    with subprocess.Popen(run, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout
        export, variable, certs = process.stdout.readline().split()
        assert (export, certs.startswith("PUSH_CERTS_URL=http://127.0.0.1:")) == ("export", True)
        remote = connect(variable.removeprefix("PUBSUB_EMULATOR_HOST="))
        release = threading.Event()
        endpoint.answer = lambda _: release.wait(60) and 204
        topic = remote.topic()
        remote.subscribe(topic, push=endpoint.url)
        remote.publish(topic, {"data": b"x"})
        endpoint.wait_for(1)
        process.send_signal(number)
        assert process.wait(40) == 0
        release.set()


def test_help_teaches() -> None:
    """--help has an example."""
    assert "export PUBSUB_EMULATOR_HOST=127.0.0.1:8085" in CliRunner().invoke(command, ["--help"]).output


def test_a_broker_needs_no_thread() -> None:
    """Programs that are asynchronous open and close a Broker in their own loop."""

    async def play() -> str:
        broker = Broker()
        await broker.open()
        await broker.close()
        return broker.address

    assert asyncio.run(play()).startswith("127.0.0.1:")

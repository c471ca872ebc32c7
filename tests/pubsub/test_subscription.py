"""The state of one subscription, driven by a clock that the tests hold."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from handler.local.pubsub import Rules
from handler.local.pubsub.core import pb
from handler.local.pubsub.core.subscription import Subscription


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def make(bury: Callable[[Any], bool] = lambda _: False, rules: Rules | None = None, **config: Any) -> Subscription:
    named = pb.Subscription(name="projects/p/subscriptions/sub", **config)
    return Subscription(named, rules or Rules(), Clock(), bury, Counter())


def add(subscription: Subscription, *names: str, key: str = "") -> None:
    for name in names:
        subscription.add(pb.PubsubMessage(data=name.encode(), message_id=name, ordering_key=key), 10)


def names(taken: list[Any]) -> str:
    return " ".join(each.message.message_id for each in taken)


def test_messages_are_handed_out_once_while_they_are_out() -> None:
    """A message that is out is not handed out again."""
    subscription = make()
    add(subscription, "a", "b", "c")
    assert [names(subscription.take(object(), 2)) for _ in range(3)] == ["a b", "c", ""]


def test_an_acked_message_is_gone() -> None:
    """An ack settles a message for good."""
    subscription = make()
    add(subscription, "a")
    subscription.ack([subscription.take(None, 1, 10)[0].ack_id])
    subscription.clock.now = 1000
    assert subscription.take(None, 1) == []
    assert subscription.counts == {"delivered": 1, "redelivered": 0, "acked": 1}


def test_without_a_retry_policy_a_nack_is_redelivered_at_once() -> None:
    """No policy: no wait."""
    subscription = make()
    add(subscription, "a")
    subscription.nack(subscription.take(None, 1)[0].ack_id)
    assert names(subscription.take(None, 1)) == "a"


@pytest.mark.parametrize(
    ("low", "high", "growth", "waits"),
    [
        (10, 600, 2.0, [10, 20, 40, 80, 160, 320, 600, 600]),
        (10, 10, 2.0, [10, 10, 10]),
        (1, 600, 3.0, [1, 3, 9, 27]),
        (0, 600, 2.0, [0, 0, 0]),
    ],
)
def test_retry_policy(low: int, high: int, growth: float, waits: list[float]) -> None:
    """The wait grows with each failure from the minimum to the maximum."""
    policy = {"minimum_backoff": {"seconds": low}, "maximum_backoff": {"seconds": high}}
    subscription = make(retry_policy=policy, rules=Rules(backoff_growth=growth))
    add(subscription, "a")
    for wait in waits:
        subscription.nack(subscription.take(None, 1)[0].ack_id)
        subscription.clock.now += wait - 0.001
        assert wait == 0 or subscription.take(None, 1) == []
        subscription.clock.now += 0.001


def test_a_lease_expires() -> None:
    """A delivery that is neither acked nor extended comes again, and its late ack and nack change nothing."""
    subscription = make()
    add(subscription, "a")
    [first] = subscription.take(None, 1, 10)
    subscription.clock.now = 9.9
    assert subscription.take(None, 1) == []
    subscription.clock.now = 10
    [second] = subscription.take(None, 1, 10)
    subscription.ack([first.ack_id])
    subscription.nack(first.ack_id)
    assert subscription.holds(second.ack_id)
    assert (subscription.counts["expired"], subscription.counts["late"], subscription.counts["acked"]) == (1, 2, 0)


def test_a_lease_can_be_extended() -> None:
    """The last extension counts; 0 is a nack; an unknown id is ignored."""
    subscription = make()
    add(subscription, "a")
    [first] = subscription.take(None, 1, 10)
    subscription.clock.now = 9
    subscription.extend(first.ack_id, 100)
    subscription.extend("unknown", 100)
    subscription.clock.now = 108
    assert subscription.take(None, 1) == []
    subscription.extend(first.ack_id, 0)
    assert names(subscription.take(None, 1)) == "a"


def test_room_limits_a_batch_but_never_starves_a_large_message() -> None:
    """At least one message is handed out, however large."""
    subscription = make()
    add(subscription, "a", "b", "c")
    assert [names(subscription.take(None, 10, room=room)) for room in (5, 20)] == ["a", "b c"]


def test_dead_letters_go_after_the_last_attempt() -> None:
    """The fifth failure buries the message; attempts are counted from 1."""
    buried = []
    policy = {"dead_letter_topic": "projects/p/topics/dead", "max_delivery_attempts": 5}
    subscription = make(lambda entry: not buried.append(entry.failures), dead_letter_policy=policy)
    add(subscription, "a")
    attempts = []
    while taken := subscription.take(None, 1):
        attempts.append(taken[0].delivery_attempt)
        subscription.nack(taken[0].ack_id)
    assert (attempts, buried, subscription.counts["dead_lettered"]) == ([1, 2, 3, 4, 5], [5], 1)


def test_a_dead_letter_without_a_topic_goes_on() -> None:
    """Where the dead-letter topic is missing the message is not lost."""
    policy = {"dead_letter_topic": "projects/p/topics/dead", "max_delivery_attempts": 5}
    subscription = make(lambda _: False, dead_letter_policy=policy)
    add(subscription, "a")
    for _ in range(7):
        subscription.nack(subscription.take(None, 1)[0].ack_id)
    assert subscription.take(None, 1)[0].delivery_attempt == 8


def test_without_a_dead_letter_policy_attempts_are_not_told() -> None:
    """delivery_attempt is 0, which the API does not send."""
    subscription = make()
    add(subscription, "a")
    assert subscription.take(None, 1)[0].delivery_attempt == 0


def test_one_holder_gets_a_key_in_order() -> None:
    """Another holder gets nothing of a key that is out; the same one gets more of it."""
    subscription = make(enable_message_ordering=True)
    add(subscription, "a", "b", key="k")
    first, second = object(), object()
    assert names(subscription.take(first, 1)) == "a"
    assert subscription.take(second, 1) == []
    add(subscription, "c", key="k")
    assert names(subscription.take(second, 5)) == ""


def test_keys_are_ignored_without_message_ordering() -> None:
    """An ordering key orders nothing unless the subscription asks for it."""
    subscription = make()
    add(subscription, "a", "b", key="k")
    assert [names(subscription.take(object(), 1)) for _ in range(2)] == ["a", "b"]


def test_later_messages_of_a_key_are_replayed() -> None:
    """What follows a failed message comes again after it, acked or not, and old ids of it are worthless."""
    subscription = make(enable_message_ordering=True)
    add(subscription, "a", "b", "c", "d", key="k")
    a, b, c = subscription.take(None, 3)
    subscription.ack([b.ack_id])
    subscription.nack(a.ack_id)
    subscription.ack([c.ack_id])
    assert names(subscription.take(None, 9)) == "a b c d"
    assert subscription.counts["late"] == 1


def test_a_failed_key_waits_as_a_whole() -> None:
    """Under a retry policy later messages of the key wait too; other keys do not."""
    policy = {"minimum_backoff": {"seconds": 10}, "maximum_backoff": {"seconds": 600}}
    subscription = make(enable_message_ordering=True, retry_policy=policy)
    add(subscription, "a", "b", key="k")
    subscription.nack(subscription.take(object(), 1)[0].ack_id)
    add(subscription, "x", key="other")
    assert names(subscription.take(object(), 9)) == "x"
    subscription.clock.now = 10
    assert names(subscription.take(object(), 9)) == "a b"


def test_a_dead_letter_lets_its_key_go_on() -> None:
    """The next message of the key follows."""
    policy = {"dead_letter_topic": "projects/p/topics/dead", "max_delivery_attempts": 1}
    subscription = make(lambda _: True, enable_message_ordering=True, dead_letter_policy=policy)
    add(subscription, "a", "b", key="k")
    subscription.nack(subscription.take(None, 1)[0].ack_id)
    assert names(subscription.take(None, 9)) == "b"


def test_release_costs_no_attempt() -> None:
    """After a restart what was out is there again as if it had not been delivered."""
    policy = {"dead_letter_topic": "projects/p/topics/dead", "max_delivery_attempts": 5}
    subscription = make(enable_message_ordering=True, dead_letter_policy=policy)
    add(subscription, "a")
    add(subscription, "b", "c", key="k")
    subscription.take(None, 9)
    subscription.release()
    again = subscription.take(None, 9)
    assert (names(again), {each.delivery_attempt for each in again}) == ("a b c", {1})


def test_the_filter_drops_what_does_not_match() -> None:
    """A message that does not match is never there."""
    subscription = make(filter="attributes:a")
    subscription.add(pb.PubsubMessage(message_id="1", attributes={"b": ""}), 1)
    subscription.add(pb.PubsubMessage(message_id="2", attributes={"a": ""}), 1)
    assert names(subscription.take(None, 9)) == "2"


@given(st.lists(st.sampled_from(["a", "b", ""]), max_size=12), st.data())
def test_keys_are_acked_in_order(keys: list[str], data: st.DataObject) -> None:
    """One at a time, whatever fails in between: of each key the messages are settled in the order of publishing."""
    subscription = make(enable_message_ordering=True)
    for number, key in enumerate(keys):
        add(subscription, str(number), key=key)
    settled: list[int] = []
    failures = 0
    while taken := subscription.take(object(), 1):
        if failures < 20 and data.draw(st.booleans()):
            failures += 1
            subscription.nack(taken[0].ack_id)
        else:
            settled.append(int(taken[0].message.message_id))
            subscription.ack([taken[0].ack_id])
    assert sorted(settled) == list(range(len(keys)))
    for key in ("a", "b"):
        of_key = [number for number in settled if keys[number] == key]
        assert of_key == sorted(of_key)


class Anything(RuleBasedStateMachine):
    """Whatever is done in whatever order: nothing is lost, nothing out is handed out, nothing acked comes again."""

    def __init__(self) -> None:
        super().__init__()
        policy = {"minimum_backoff": {"seconds": 1}, "maximum_backoff": {"seconds": 8}}
        self.subscription = make(retry_policy=policy)
        self.published: set[str] = set()
        self.acked: set[str] = set()
        self.out: dict[str, str] = {}

    @rule()
    def publish(self) -> None:
        name = str(len(self.published))
        self.published.add(name)
        add(self.subscription, name)

    @rule(limit=st.integers(1, 5), lease=st.integers(1, 20))
    def take(self, limit: int, lease: int) -> None:
        for each in self.subscription.take(object(), limit, lease):
            name = each.message.message_id
            assert name not in self.acked
            assert name not in [known for ack_id, known in self.out.items() if self.subscription.holds(ack_id)]
            self.out[each.ack_id] = name

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def ack(self, data: st.DataObject) -> None:
        ack_id = data.draw(st.sampled_from(sorted(self.out)))
        if self.subscription.holds(ack_id):
            self.acked.add(self.out[ack_id])
        self.subscription.ack([ack_id])

    @precondition(lambda self: self.out)
    @rule(data=st.data(), lease=st.integers(0, 20))
    def extend(self, data: st.DataObject, lease: int) -> None:
        self.subscription.extend(data.draw(st.sampled_from(sorted(self.out))), lease)

    @rule(seconds=st.floats(0, 30))
    def wait(self, seconds: float) -> None:
        self.subscription.clock.now += seconds

    @rule()
    def release(self) -> None:
        self.subscription.release()

    @invariant()
    def nothing_is_lost(self) -> None:
        held = {self.out[ack_id] for ack_id in self.out if self.subscription.holds(ack_id)}
        assert not held & self.acked

    def teardown(self) -> None:
        for _ in range(2):  # leases expire, then the retry policy's waits end
            self.subscription.clock.now += 1000
            self.subscription.advance()
        left = names(self.subscription.take(object(), 10_000)).split()
        assert sorted(left) == sorted(self.published - self.acked)


TestAnything = Anything.TestCase

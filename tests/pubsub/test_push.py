"""The pace of pushes, and the push loop in time that jumps."""

import asyncio
import logging
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handler.local.pubsub import Rules
from handler.local.pubsub.core import pb
from handler.local.pubsub.core.subscription import Subscription
from handler.local.pubsub.push.loop import Pace, Pusher


def settle(pace: Pace, outcomes: str, now: float = 0.0) -> None:
    for outcome in outcomes:
        pace.settled(outcome == "+", now)


@pytest.mark.parametrize(
    ("outcomes", "window"),
    [("", 3), ("+", 6), ("++", 12), ("+" * 9, 1536), ("+" * 10, 3000), ("+" * 20 + "-", 1500), ("--", 1), ("-" * 9, 1)],
)
def test_window(outcomes: str, window: int) -> None:
    """The window doubles on an ack and halves on a failure, between 1 and 3,000."""
    pace = Pace(Rules())
    settle(pace, outcomes)
    assert pace.window == window


@pytest.mark.parametrize(
    ("outcomes", "window"),
    [("", 3), ("+", 4), ("+++", 6), ("+" * 9, 12), ("+" * 9 + "-", 6), ("+" * 5000, 3000), ("--", 1)],
)
def test_window_that_doubles_each_round_trip(outcomes: str, window: int) -> None:
    """The other reading: each ack adds one, so that a window of acks doubles it; a failure halves it."""
    pace = Pace(Rules(window_growth="round trip"))
    settle(pace, outcomes)
    assert pace.window == window


@pytest.mark.parametrize(
    ("outcomes", "backoff"),
    [("", 0), ("+++", 0), ("-", 0.1), ("-+", 0), ("--", 0.2), ("-" * 5, 1.6), ("-" * 100, 60)],
)
def test_backoff(outcomes: str, backoff: float) -> None:
    """Nacks slow the subscription down, 100 ms to 60 s; an ack after a single one ends it."""
    pace = Pace(Rules())
    settle(pace, outcomes)
    assert pace.backoff == pytest.approx(backoff)


def test_backoff_can_be_switched_off() -> None:
    """With push_backoff=False nothing waits."""
    pace = Pace(Rules(push_backoff=False))
    settle(pace, "-" * 100)
    assert pace.backoff == 0


def test_backoff_of_another_range() -> None:
    """All of it is shorter by the same factor where the range is."""
    usual, short = Pace(Rules()), Pace(Rules(push_backoff_range=(0.01, 6.0)))
    for number in range(20):
        assert short.backoff == pytest.approx(usual.backoff / 10)
        for pace in (usual, short):
            pace.settled(number % 5 == 4, 0.0)


def test_one_nack_of_five_settles_at_half_a_second() -> None:
    """Google's figure: five messages a second, one nack a second, a push about every 500 ms."""
    pace = Pace(Rules())
    waits = []
    for _ in range(200):
        for outcome in "-++++":
            settle(pace, outcome)
            waits.append(pace.backoff)
    assert sum(waits[-5:]) / 5 == pytest.approx(0.5, abs=0.1)


def test_all_nacks_settle_at_30_to_60_seconds() -> None:
    """Google's figure: five nacks a second, a push every 30 to 60 s."""
    pace = Pace(Rules())
    settle(pace, "-" * 15)
    assert 30 <= pace.backoff <= 60


@given(st.text("+-", max_size=60))
def test_pace_stays_within_its_limits(outcomes: str) -> None:
    """Whatever happens: 1 to 3,000 pushes at once, 0 or 0.1 to 60 s between them."""
    pace = Pace(Rules())
    settle(pace, outcomes, 5.0)
    assert 1 <= pace.window <= 3000
    assert pace.backoff == 0 or 0.1 <= pace.backoff <= 60
    assert pace.opens() <= 65


class Scene:
    """A subscription with its push loop, in jumping time, and an endpoint that answers as told."""

    def __init__(self, loop: Any, rules: Rules | None = None, **config: Any) -> None:
        self.loop = loop
        self.rules = rules or Rules()
        named = pb.Subscription(name="projects/p/subscriptions/sub", ack_deadline_seconds=10, **config)
        self.subscription = Subscription(named, self.rules, loop.time, lambda _: False, Counter())
        self.pusher = Pusher(self.subscription, self.send, self.rules)
        self.log: list[tuple[float, str]] = []
        self.out = self.most_out = 0
        self.answers: list[bool] = []
        self.takes = 0.0

    async def send(self, received: Any, _: Any) -> bool:
        self.log.append((round(self.loop.time(), 2), received.message.message_id))
        self.out += 1
        self.most_out = max(self.out, self.most_out)
        await asyncio.sleep(self.takes)
        self.out -= 1
        return self.answers.pop(0) if self.answers else True

    def add(self, count: int, key: str = "") -> None:
        for number in range(count):
            self.subscription.add(pb.PubsubMessage(message_id=str(number), ordering_key=key), 1)

    def run(self, until: float) -> None:
        async def play() -> None:
            task = asyncio.create_task(self.pusher.run())
            await asyncio.sleep(until - self.loop.time())
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        self.loop.run_until_complete(play())

    @property
    def times(self) -> list[float]:
        return [when for when, _ in self.log]


def test_the_window_opens_with_acks(loop: Any) -> None:
    """200 pushes of 0.3 s are done in three rounds: 3, 24, and the rest."""
    scene = Scene(loop)
    scene.takes = 0.3
    scene.add(200)
    scene.run(2)
    assert Counter(scene.times) == {0.0: 3, 0.3: 24, 0.6: 173}


def test_the_window_is_never_exceeded(loop: Any) -> None:
    """3,000 at once, not 3,001."""
    scene = Scene(loop)
    scene.takes = 5
    scene.add(4000)
    scene.run(60)
    assert (scene.most_out, len(scene.log)) == (3000, 4000)


def test_one_message_of_a_key_at_a_time(loop: Any) -> None:
    """A key's messages are pushed one after another."""
    scene = Scene(loop, enable_message_ordering=True)
    scene.takes = 1
    scene.add(5, key="k")
    scene.run(10)
    assert (scene.most_out, scene.times) == (1, [0, 1, 2, 3, 4])


def test_failures_slow_the_whole_subscription_down(loop: Any) -> None:
    """Nothing is pushed while the backoff lasts, and it lasts longer each time."""
    scene = Scene(loop)
    scene.answers = [False] * 6
    scene.add(1)
    scene.run(60)
    assert scene.times == [0, 0.1, 0.3, 0.7, 1.5, 3.1, 6.3]


def test_a_new_message_waits_for_the_backoff_too(loop: Any) -> None:
    """The backoff is the subscription's, not the message's."""
    scene = Scene(loop)
    scene.answers = [False, False, False]
    scene.add(1)
    loop.call_later(0.35, scene.add, 1)
    scene.run(0.69)
    assert scene.times == [0, 0.1, 0.3]


@pytest.mark.parametrize(("combine", "times"), [("max", [0, 10, 30]), ("sum", [0, 10.1, 30.3])])
def test_backoff_and_retry_policy(loop: Any, combine: Any, times: list[float]) -> None:
    """Together they are the longer of the two, or, switched, both one after the other."""
    policy = {"minimum_backoff": {"seconds": 10}, "maximum_backoff": {"seconds": 600}}
    scene = Scene(loop, Rules(combine=combine), retry_policy=policy)
    scene.answers = [False, False]
    scene.add(1)
    scene.run(100)
    assert scene.times == times


def test_other_messages_pass_one_that_waits(loop: Any) -> None:
    """A message that waits for its retry policy holds nobody up."""
    policy = {"minimum_backoff": {"seconds": 100}, "maximum_backoff": {"seconds": 600}}
    scene = Scene(loop, retry_policy=policy)
    scene.answers = [False]
    scene.add(4)
    scene.run(200)
    assert [name for _, name in scene.log] == ["0", "1", "2", "3", "0"]


def test_a_full_window_does_not_keep_the_loop_busy(loop: Any) -> None:
    """What becomes due while no push may start waits quietly."""
    policy = {"minimum_backoff": {"seconds": 1}, "maximum_backoff": {"seconds": 1}}
    scene = Scene(loop, Rules(push_backoff=False, largest_window=1, first_window=1), retry_policy=policy)
    scene.answers = [False]
    scene.add(1)
    loop.call_later(0.5, setattr, scene, "takes", 5)
    loop.call_later(0.5, scene.add, 1)
    loop.call_later(0.5, scene.subscription.ring)
    scene.run(20)
    assert scene.times == [0, 0.5, 5.5]


def test_a_bug_in_a_push_is_a_logged_nack(loop: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The message is not lost, and the log says why."""
    scene = Scene(loop)
    send, scene.pusher._send = scene.send, None  # type: ignore[assignment]
    loop.call_later(0.05, setattr, scene.pusher, "_send", send)
    scene.add(1)
    with caplog.at_level(logging.ERROR):
        scene.run(1)
    assert scene.times == [0.1]
    assert "a bug: the push of message 0 failed" in caplog.text


def test_ending_the_loop_cuts_its_pushes(loop: Any) -> None:
    """Nothing is answered after the end."""
    scene = Scene(loop)
    scene.takes = 5
    scene.add(1)
    scene.run(1)
    loop.run_until_complete(asyncio.sleep(10))
    assert scene.subscription.counts["acked"] == 0

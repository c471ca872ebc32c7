"""bench/slow_start.py: what a simulation of Pub/Sub's push must hold to, whatever the figures."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handler.local.pubsub.rules import Rules

_SPEC = importlib.util.spec_from_file_location("slow_start", Path(__file__).parents[2] / "bench" / "slow_start.py")
slow_start = importlib.util.module_from_spec(_SPEC)
sys.modules["slow_start"] = slow_start  # dataclasses look their module up
_SPEC.loader.exec_module(slow_start)

Situation, simulate, predict = slow_start.Situation, slow_start.simulate, slow_start.predict

ONE = Situation(slots=1, latency=1, sigma=0, concurrency=1, backlog=2, overhead=0, seconds=100)
STEADY = Situation(slots=20, latency=2, sigma=0, concurrency=3000, backlog=2000, overhead=0.2, seconds=120)

situations = st.builds(
    Situation,
    slots=st.integers(1, 40),
    latency=st.floats(0.05, 5),
    sigma=st.sampled_from([0, 0.5]),
    instances=st.integers(1, 3),
    concurrency=st.integers(1, 30),
    routing=st.sampled_from(["least", "random"]),
    wait=st.sampled_from([0, 1]),
    backlog=st.integers(0, 200),
    overhead=st.floats(0, 0.5),
    ack_deadline=st.sampled_from([3, 600]),
    retry=st.sampled_from([(0.5, 2), (10, 600)]),
    growth=st.sampled_from(["local", "documented"]),
    largest_window=st.integers(3, 200),
    seconds=st.just(200),
    seed=st.integers(0, 3),
)


def test_what_finds_no_room_is_refused_and_comes_again_after_the_retry_policys_wait() -> None:
    """Counted by hand."""
    record = simulate(ONE)
    assert (record.nacks, record.answers) == ([0], [1, 11])
    assert record.used == [(0, 0), (0, 1), (1, 0), (10, 1), (11, 0)]
    assert record.slot_seconds(0, 0.5, 10.25, 50) == [0.5, 0.75, 0.75]


def test_what_may_wait_for_room_in_the_platform_is_not_refused() -> None:
    """The same, with a queue before the room."""
    assert simulate(replace(ONE, wait=1.1)).answers == [1, 2]
    assert simulate(replace(ONE, wait=0.9)).nacks == [0.9]


def test_an_expired_push_gives_its_slot_back() -> None:
    """Nothing is held for a push that Pub/Sub has given up."""
    record = simulate(replace(ONE, backlog=1, latency=5, ack_deadline=2, seconds=13))
    assert (record.nacks, record.answers) == ([2], [])
    assert record.used == [(0, 0), (0, 1), (2, 0), (12, 1)]


@given(situations)
@settings(max_examples=100, deadline=None)
def test_every_message_is_answered_once_at_most_and_no_slot_is_used_twice(situation: Situation) -> None:
    """Whatever the figures."""
    record = simulate(situation)
    assert len(record.answers) <= situation.backlog
    assert all(0 <= used <= min(situation.slots, situation.room) for _, used in record.used)
    assert record.used == sorted(record.used, key=lambda each: each[0])


@given(situations)
@settings(max_examples=100, deadline=None)
def test_no_more_is_answered_than_the_slots_can(situation: Situation) -> None:
    """Slots over latency is the most that any of it gives."""
    summary = predict(replace(situation, sigma=0))
    assert summary.utilisation <= 1 + 1e-9
    assert summary.answers <= situation.slots * (situation.seconds / situation.latency)


@given(situations)
@settings(max_examples=100, deadline=None)
def test_where_the_whole_window_has_room_nothing_is_refused(situation: Situation) -> None:
    """Room for the window is the one setting without nacks."""
    roomy = replace(situation, concurrency=situation.largest_window, growth="local", ack_deadline=10_000)
    assert simulate(roomy).nacks == []


@pytest.mark.parametrize("growth", ["local", "documented"])
def test_more_slots_and_a_slower_model_take_longer_to_fill(growth: str) -> None:
    """Ramp-up grows with both."""
    slower = [predict(replace(STEADY, growth=growth, latency=seconds)).ramp for seconds in (0.5, 1, 2, 4, 8)]
    larger = [predict(replace(STEADY, growth=growth, slots=slots)).ramp for slots in (3, 20, 40, 80, 160, 320)]
    assert slower == sorted(slower)
    assert larger == sorted(larger)


def test_the_ramp_up_is_two_or_more_round_trips() -> None:
    """3, then 24 for three acks at once, then more than enough; or 3, 6, 12, 24."""
    assert predict(STEADY).ramp == pytest.approx(2.2 + 0.1)
    assert predict(replace(STEADY, growth="documented")).ramp == pytest.approx(3 * 2.2 + 0.1)


def test_with_no_room_to_spare_a_slot_idles_for_the_turnaround() -> None:
    """Utilisation is L / (L + T)."""
    tight = replace(STEADY, concurrency=20, largest_window=20)
    roomy = replace(STEADY, concurrency=22, largest_window=22)
    assert predict(tight).utilisation == pytest.approx(2 / 2.2, abs=0.01)
    assert predict(tight).rate == pytest.approx(20 / 2.2, rel=0.01)
    assert predict(roomy).utilisation == pytest.approx(1, abs=0.01)


def test_too_little_room_costs_more_than_the_room_that_is_missing() -> None:
    """Nacks slow the whole subscription."""
    short = predict(replace(STEADY, concurrency=10))
    assert short.ramp is None
    assert short.nacks > 0
    assert short.rate < 10 / 2.2


def test_messages_that_come_slower_than_the_model_works_are_answered_as_they_come() -> None:
    """Without a backlog the window hardly matters."""
    summary = predict(replace(STEADY, backlog=0, rate=5))
    assert summary.rate == pytest.approx(5, rel=0.1)
    assert summary.finished is None


def test_the_documented_window_doubles_each_round_trip_and_creeps_beyond_the_largest() -> None:
    """As Google describes it."""
    pace = slow_start.DocumentedPace(Rules(first_window=2, largest_window=8))

    def round_trip(seconds: float = 0.1) -> int:
        for _ in range(pace.window):
            pace.measured(True, seconds)
            pace.settled(True, 0)
        return pace.window

    assert [round_trip() for _ in range(5)] == [4, 8, 9, 10, 11]
    assert round_trip(1000) == 8  # an endpoint that slow is kept at the largest
    pace.settled(False, 0)
    assert pace.window == 4

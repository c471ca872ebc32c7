"""How many calls the model gets at once."""

import random

from hypothesis import given
from hypothesis import strategies as st

from handler.admission.limit import START, AdaptiveLimit, FixedLimit


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def adaptive(ceiling=100):
    clock = Clock()
    return AdaptiveLimit(ceiling, clock), clock


def test_a_fixed_limit_stays():
    """Plain model servers never say what they can take: a number is the honest default."""
    limit = FixedLimit(7)
    limit.answered(0.0, overloaded=True, full=True)
    assert limit.slots == 7


def test_one_more_a_round_trip():
    """As long as all slots are used and nothing is refused."""
    limit, _ = adaptive()
    for _ in range(limit.slots - 1):
        limit.answered(0.0, overloaded=False, full=True)
    assert limit.slots == START  # each has added a part
    limit.answered(0.0, overloaded=False, full=True)
    assert limit.slots == START + 1


def test_slots_that_nobody_wants_do_not_grow():
    """A quiet night would end in a burst."""
    limit, _ = adaptive()
    for _ in range(1000):
        limit.answered(0.0, overloaded=False, full=False)
    assert limit.slots == START


def test_the_failures_of_one_flight_decrease_it_once():
    """Calls that were begun before the decrease say nothing of what came of it."""
    limit, clock = adaptive()
    clock.now = 10.0
    for _ in range(8):
        limit.answered(9.0, overloaded=True, full=True)
    assert limit.slots == 6
    clock.now = 20.0
    limit.answered(11.0, overloaded=True, full=True)
    assert limit.slots == 4


@given(st.lists(st.booleans(), max_size=500), st.integers(1, 50))
def test_it_stays_within_its_bounds(overloads, ceiling):
    """Never below one, never above the ceiling."""
    limit, clock = adaptive(ceiling)
    for overloaded in overloads:
        clock.now += 1.0
        limit.answered(clock.now - 0.5, overloaded=overloaded, full=True)
        assert 1 <= limit.slots <= ceiling


def test_it_finds_what_a_model_takes():
    """A model that takes twenty at once and refuses more is used by fifteen to twenty-one on average."""
    limit, clock = adaptive()
    shares = []
    for _ in range(400):  # round trips
        begun, clock.now = clock.now, clock.now + 1.0
        asked = limit.slots
        outcomes = [number >= 20 for number in range(asked)]
        random.Random(asked).shuffle(outcomes)
        for overloaded in outcomes:
            limit.answered(begun + 0.1, overloaded=overloaded, full=True)
        shares.append(min(asked, 20))
    assert 15 <= sum(shares[100:]) / len(shares[100:]) <= 21

"""How many pushes are taken in, and how many bytes of them wait."""

from contextlib import ExitStack, nullcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handler.admission import Refused
from handler.admission.intake import Intake
from handler.config.settings import WAITERS_PER_SLOT
from handler.rules.verdict.outcome import Reason


def taken(intake, sizes):
    """Take in pushes of these sizes; what holds them, and each one that was taken."""
    stack, held = ExitStack(), []
    for size in sizes:
        try:
            held.append(stack.enter_context(intake.take(size)))
        except Refused as refused:
            assert refused.reason is Reason.BUSY
    return stack, held


def test_so_many_pushes():
    """More are refused, until one is answered."""
    intake = Intake(slots=1, pushes=3, size=1000)
    with intake.take(1), intake.take(1):
        with intake.take(1), pytest.raises(Refused, match="busy"), intake.take(1):
            pass
        with intake.take(1):
            pass


def test_so_many_bytes():
    """A push is refused for its bytes once it would have to wait; a smaller one still fits."""
    intake = Intake(slots=1, pushes=100, size=100)
    stack, held = taken(intake, [60, 50, 40, 1])
    with stack:
        assert len(held) == 2


def test_those_that_find_slots_free_may_be_of_any_size():
    """They will not wait, so that no slot idles for the sake of a bound on what waits."""
    intake = Intake(slots=3, pushes=100, size=100)
    stack, held = taken(intake, [1000, 1000, 1000, 1])
    with stack:
        assert len(held) == 3


def test_what_waits_no_longer_makes_room():
    """Once it is at the model, its bytes are bounded by the slots."""
    intake = Intake(slots=1, pushes=100, size=100)
    with intake.take(100) as first:
        with pytest.raises(Refused), intake.take(1):
            pass
        first.resize(0)
        with intake.take(100), pytest.raises(Refused), intake.take(1):
            pass


def test_a_push_larger_than_the_bound_waits_when_nothing_else_does():
    """Or it would be refused for ever."""
    intake = Intake(slots=1, pushes=100, size=100)
    with intake.take(50) as first:
        first.resize(0)
        with intake.take(1000):
            pass


def test_who_waits_aside_takes_no_place():
    """It is taken again afterwards."""
    intake = Intake(slots=1, pushes=2, size=100)
    with intake.take(1), intake.take(1) as second:
        with second.aside() as has_room, intake.take(1):
            assert has_room
        with pytest.raises(Refused, match="busy"), intake.take(1):
            pass


def test_who_waits_aside_takes_bytes():
    """They are there all the same."""
    intake = Intake(slots=1, pushes=5, size=100)
    with intake.take(60) as one, one.aside(), intake.take(1), pytest.raises(Refused, match="busy"), intake.take(60):
        pass


def test_so_many_wait_aside():
    """In number, and in bytes however many slots are free; what is large may wait alone."""
    intake = Intake(slots=4, pushes=100, size=100)
    assert aside(intake, [1] * (4 * WAITERS_PER_SLOT + 2)) == [True] * 4 * WAITERS_PER_SLOT + [False] * 2
    assert aside(intake, [60, 60, 40, 1]) == [True, False, True, False]
    assert aside(intake, [1000, 1]) == [True, False]


def aside(intake, sizes):
    """Of pushes of these sizes that are taken in, one after the other, for which there is room aside."""
    with ExitStack() as stack:
        return [stack.enter_context(stack.enter_context(intake.take(size)).aside()) for size in sizes]


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 200), st.booleans()), max_size=50))
def test_everything_is_given_back(pushes):
    """Whatever came and whatever became of it, at the end there is room for all again."""
    intake = Intake(slots=2, pushes=5, size=300)
    stack, held = taken(intake, [size for size, _, _ in pushes])
    for one, (_, size, is_aside) in zip(held, pushes, strict=False):
        with one.aside() if is_aside else nullcontext():
            one.resize(size)
    stack.close()
    assert (intake._held, intake._bytes, intake._aside, intake._aside_bytes) == (0, 0, 0, 0)

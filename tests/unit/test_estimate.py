"""How long calls take, by those that were answered lately."""

from hypothesis import given
from hypothesis import strategies as st

from handler.admission.estimate import LEAST_SAMPLES, MAX_MODELS, NAME_CHARACTERS, SAMPLES, Estimates


def fed(seconds, model="m"):
    estimates = Estimates()
    for one in seconds:
        estimates.add(model, one)
    return estimates


def test_nothing_is_said_of_too_few():
    """One cold start is no rule."""
    estimates = fed([60.0] * (LEAST_SAMPLES - 1))
    assert (estimates.mean(), estimates.likely("m")) == (None, None)
    estimates.add("m", 60.0)
    assert (estimates.mean(), estimates.likely("m")) == (60.0, 60.0)


def test_one_slow_answer_moves_little():
    """What is likely is an order statistic."""
    assert fed([2.0] * 40 + [500.0]).likely("m") == 2.0


def test_models_are_told_apart():
    """A small one is not said to take as long as a large one; one that is not known has no estimate."""
    estimates = fed([1.0] * 20, "small")
    for _ in range(20):
        estimates.add("large", 30.0)
    assert (estimates.likely("small"), estimates.likely("large"), estimates.likely("other")) == (1.0, 30.0, None)
    assert estimates.mean() == 15.5


def test_it_follows_a_change():
    """The last calls count, not those of yesterday."""
    estimates = fed([1.0] * 1000 + [10.0] * SAMPLES)
    assert (estimates.likely("m"), round(estimates.mean(), 6)) == (10.0, 10.0)


def test_the_names_of_models_are_bounded():
    """Requesters write what they like into `model`."""
    estimates = Estimates()
    for number in range(10 * MAX_MODELS):
        estimates.add(f"model {number}", 1.0)
    assert len(estimates._models) == MAX_MODELS


def test_long_names_of_models_are_cut():
    """Their beginnings are remembered, and tell them apart."""
    estimates = fed([1.0] * 20, "a" * 1_000_000)
    assert [len(name) for name in estimates._models] == [NAME_CHARACTERS]
    assert (estimates.likely("a" * 1_000_000), estimates.likely("a")) == (1.0, None)


@given(st.lists(st.floats(0, 600), min_size=LEAST_SAMPLES, max_size=300))
def test_both_lie_among_what_was_measured(seconds):
    """And nine in ten of the last calls take no longer than what is likely."""
    estimates, last = fed(seconds), seconds[-SAMPLES:]
    likely = estimates.likely("m")
    assert min(last) <= likely <= max(last)
    assert min(last) - 1e-6 <= estimates.mean() <= max(last) + 1e-6
    assert sum(one <= likely for one in last) >= 0.89 * len(last) - 1

"""The relay stays cheaper than the obvious handler, measured side by side: a machine's speed does not matter."""

from collections.abc import Callable

import pytest

from bench.figures import Figures
from bench.run import measure
from bench.scenarios import Scenario

pytestmark = pytest.mark.timeout(600)  # on a slow machine a round takes as long as it takes

SECONDS = 2
ROUNDS = 6  # at most: what else the machine does shows in some of them, what has gone wrong in all


def measured(scenario: str, holds: Callable[[Figures, Figures], bool]) -> tuple[Figures, Figures]:
    """The relay's figures and the reference's of the first round in which that holds, or of the last one."""
    for _ in range(ROUNDS):
        relay, reference = measure(scenario, "relay", SECONDS), measure(scenario, "reference", SECONDS)
        assert [*relay.problems, *reference.problems] == []
        if relay.utilisation > reference.utilisation and holds(relay, reference):
            break
    return relay, reference


def test_what_a_message_costs_beside_the_obvious_handler():
    """Some 0.5 of its processor time, with as many messages as one process can take."""
    relay, reference = measured("tight-64-0.05", lambda relay, reference: relay.cpu_ms < 0.6 * reference.cpu_ms)
    assert relay.cpu_ms < 0.6 * reference.cpu_ms
    assert relay.utilisation > reference.utilisation
    assert relay.publishes < 0.9  # responses share requests


def test_what_a_message_waits_for_beside_the_obvious_handler():
    """A third of its added latency, where neither lacks processor time."""
    relay, reference = measured(
        "tight-64-0.5", lambda relay, reference: relay.added_p50_ms < 0.5 * reference.added_p50_ms
    )
    assert relay.added_p50_ms < 0.5 * reference.added_p50_ms
    assert relay.utilisation > reference.utilisation


def test_the_bench_itself_is_not_what_is_waited_for():
    """Without a program in between, the stand-ins are far quicker than any."""
    found = measure(Scenario("direct", "", 64, 0.002, 64), "direct", seconds=0.2)
    assert not found.problems
    assert found.messages_per_second > 3000
    found = measure(Scenario("direct", "", 64, 0.05, 71), "direct", seconds=1)
    assert found.utilisation > 0.95

"""The relay stays cheaper than the obvious handler, measured side by side: a machine's speed does not matter."""

from bench.run import measure

SCENARIO = "tight-64-0.05"  # 1,280 messages a second, if nothing had to wait
SECONDS = 4


def test_what_a_message_costs_beside_the_obvious_handler():
    """Some 0.3 of its processor time and 0.1 of its added latency; the bounds only notice what has gone wrong."""
    relay, reference = measure(SCENARIO, "relay", SECONDS), measure(SCENARIO, "reference", SECONDS)
    assert [*relay.problems, *reference.problems] == []
    assert relay.cpu_ms < 0.6 * reference.cpu_ms
    assert relay.added_p50_ms < 0.5 * reference.added_p50_ms
    assert relay.utilisation > reference.utilisation
    assert relay.publishes < 0.9  # responses share requests

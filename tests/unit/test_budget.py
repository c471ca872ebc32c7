"""How long one call of the model may take, and which limit says so."""

from datetime import UTC, datetime, timedelta

import pytest

from handler.rules.message.options import Options
from handler.rules.verdict.budget import Budget, Limit, call_budget

NOW = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("options", "push", "expected"),
    [
        ({}, 70, Budget(50, Limit.MODEL_TIMEOUT)),
        ({}, 30, Budget(30, Limit.PUSH_DEADLINE)),
        ({}, -10, Budget(-10, Limit.PUSH_DEADLINE)),
        ({"timeout_seconds": 5.0}, 70, Budget(5, Limit.REQUEST_TIMEOUT)),
        ({"timeout_seconds": 500.0}, 70, Budget(50, Limit.MODEL_TIMEOUT)),
        ({"deadline": NOW + timedelta(seconds=7)}, 70, Budget(7, Limit.REQUEST_DEADLINE)),
        ({"deadline": NOW - timedelta(seconds=7)}, 70, Budget(-7, Limit.REQUEST_DEADLINE)),
        ({"deadline": NOW + timedelta(days=7)}, 70, Budget(50, Limit.MODEL_TIMEOUT)),
        ({"deadline": datetime.max.replace(tzinfo=UTC)}, 70, Budget(50, Limit.MODEL_TIMEOUT)),
    ],
)
def test_the_tightest_limit_counts(options, push, expected):
    """A requester's limits only ever shorten the service's own."""
    limits = Options.model_construct(**options)
    budget = call_budget(limits, model_seconds=50, push_seconds=push, now=NOW)
    assert (budget.seconds, budget.limit, budget.share) == (expected.seconds, expected.limit, expected.seconds / 50)
    assert (budget.share == 1) is (budget.limit is Limit.MODEL_TIMEOUT)

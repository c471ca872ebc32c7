"""How long one call of the model may take, and which limit says so."""

from datetime import UTC, datetime, timedelta

import pytest

from handler.config.settings import Settings
from handler.rules.message.options import Options
from handler.rules.verdict.budget import Budget, Limit, call_budget

NOW = datetime(2030, 1, 1, tzinfo=UTC)
SETTINGS = Settings.from_environment(
    {
        "MODEL_URL": "http://model",
        "RESPONSE_TOPIC": "projects/p/topics/responses",
        "PUSH_AUTH": "platform",
        "ACK_DEADLINE_SECONDS": "100",
        "MODEL_TIMEOUT_SECONDS": "50",
        "PUBLISH_TIMEOUT_SECONDS": "20",
    }
)


@pytest.mark.parametrize(
    ("options", "spent", "expected"),
    [
        ({}, 0, Budget(50, Limit.MODEL_TIMEOUT)),
        # 100 of the ack deadline, less 10 of margin and 20 for the publish
        ({}, 40, Budget(30, Limit.PUSH_DEADLINE)),
        ({}, 80, Budget(-10, Limit.PUSH_DEADLINE)),
        ({"timeout_seconds": 5.0}, 0, Budget(5, Limit.REQUEST_TIMEOUT)),
        ({"timeout_seconds": 500.0}, 0, Budget(50, Limit.MODEL_TIMEOUT)),
        ({"deadline": NOW + timedelta(seconds=7)}, 0, Budget(7, Limit.REQUEST_DEADLINE)),
        ({"deadline": NOW - timedelta(seconds=7)}, 0, Budget(-7, Limit.REQUEST_DEADLINE)),
        ({"deadline": NOW + timedelta(days=7)}, 0, Budget(50, Limit.MODEL_TIMEOUT)),
        ({"deadline": datetime.max.replace(tzinfo=UTC)}, 0, Budget(50, Limit.MODEL_TIMEOUT)),
    ],
)
def test_the_tightest_limit_counts(options, spent, expected):
    """A requester's limits only ever shorten the service's own."""
    limits = Options.model_construct(**options)
    assert expected == call_budget(SETTINGS, limits, model_seconds=50, spent=spent, now=NOW)

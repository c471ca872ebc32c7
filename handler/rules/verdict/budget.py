"""How long one call of the model may take, and which limit says so. Pure."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from handler.rules.message.options import Options


class Limit(StrEnum):
    """What bounds one call of the model."""

    REQUEST_DEADLINE = "options.deadline"
    REQUEST_TIMEOUT = "options.timeout_seconds"
    MODEL_TIMEOUT = "MODEL_TIMEOUT_SECONDS"
    PUSH_DEADLINE = "ACK_DEADLINE_SECONDS"


@dataclass(frozen=True, slots=True)
class Budget:
    """The seconds left for a call, and the tightest limit, which set them. Not above zero: too late.

    `share` is the part that they are of the longest that the model may take, 1.0 where they are all of it.
    """

    seconds: float
    limit: Limit
    share: float = 1.0


def call_budget(options: Options, *, model_seconds: float, push_seconds: float, now: datetime) -> Budget:
    """The budget of a call that starts at the wall-clock time `now`.

    `model_seconds` is the longest that its model service may take, `push_seconds` what its push leaves for the call.
    """
    limits = [Budget(model_seconds, Limit.MODEL_TIMEOUT), Budget(push_seconds, Limit.PUSH_DEADLINE)]
    if options.timeout_seconds is not None:
        limits.append(Budget(options.timeout_seconds, Limit.REQUEST_TIMEOUT))
    if options.deadline is not None:
        limits.append(Budget((options.deadline - now).total_seconds(), Limit.REQUEST_DEADLINE))
    tightest = min(limits, key=lambda budget: budget.seconds)
    return Budget(tightest.seconds, tightest.limit, tightest.seconds / model_seconds)

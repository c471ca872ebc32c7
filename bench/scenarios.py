"""What is measured: the loads, and the two scenarios without one."""

import math
from dataclasses import dataclass
from enum import StrEnum

KB, MB = 1_000, 1_000_000


class Kind(StrEnum):
    """How a run of a scenario goes."""

    LOAD = "load"  # a number of pushes in flight, until all messages are answered
    COLD = "cold"  # from the start of the process to the first 204
    IDLE = "idle"  # nothing to do


@dataclass(frozen=True, slots=True)
class Scenario:
    """One load: `pushes` in flight for a model with `slots`, which takes `mean_seconds` on average for a request.

    `prompt_bytes` is the length of a request's prompt.
    """

    name: str
    about: str
    slots: int
    mean_seconds: float
    pushes: int
    prompt_bytes: int = KB
    kind: Kind = Kind.LOAD
    least_runs: int = 1

    @property
    def seconds(self) -> float:
        """How long a run lasts if nobody says otherwise: at least twelve requests one after the other in each slot."""
        return max(10.0, 12 * self.mean_seconds)

    def messages(self, seconds: float) -> int:
        """How many messages keep all slots busy for so long; at least one for each push in flight."""
        return max(self.pushes, round(seconds * self.slots / self.mean_seconds)) if self.kind is Kind.LOAD else 1


_SIZES = ((64, 0.05), (64, 0.5), (512, 2.0), (1000, 2.0))  # slots, mean seconds of a request


def _tight(slots: int, mean: float) -> Scenario:
    about = f"{slots} slots of {mean:g} s, and as many pushes in flight: each moment of the relay is a slot's idle time"
    return Scenario(f"tight-{slots}-{mean:g}", about, slots, mean, pushes=slots)


def _headroom(slots: int, mean: float) -> Scenario:
    pushes = math.ceil(round(1.1 * slots, 6))
    about = f"{slots} slots of {mean:g} s, and {pushes} pushes in flight: requests wait for a slot, as they should"
    return Scenario(f"headroom-{slots}-{mean:g}", about, slots, mean, pushes=pushes)


SCENARIOS = (
    *(_tight(slots, mean) for slots, mean in _SIZES),
    *(_headroom(slots, mean) for slots, mean in _SIZES),
    Scenario("body-100k", "prompts of 100 KB, 64 slots of 0.5 s", 64, 0.5, pushes=64, prompt_bytes=100 * KB),
    Scenario("body-5m", "prompts of 5 MB, 16 slots of 1 s: memory for each message", 16, 1.0, 16, prompt_bytes=5 * MB),
    Scenario(
        "cold", "from the start of the process to the first 204", 64, 0.5, pushes=64, kind=Kind.COLD, least_runs=5
    ),
    Scenario("idle", "nothing to do, after one message", 64, 0.5, pushes=64, kind=Kind.IDLE),
)
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}

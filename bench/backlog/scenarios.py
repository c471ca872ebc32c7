"""The backlogs and the systems that are to drain them."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from bench.systems import GUNICORN, System

SUBSCRIPTION = "projects/bench/subscriptions/requests"
GROWTHS = ("ack", "round trip")  # of Pub/Sub's window: see handler/local/pubsub/core/rules.py


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """So many messages wait for a model with so many slots, which takes so many seconds for each.

    All times of the relay and of Pub/Sub are divided by `divisor`; `seconds` are as they are then. With `hold_seconds`
    a run ends so long after as many pushes are out as Pub/Sub's window allows: it is about what holding them takes.
    """

    name: str
    messages: int
    seconds: float
    slots: int = 64
    prompt_bytes: int = 1000
    divisor: int = 1
    hold_seconds: float | None = None
    growths: Sequence[str] = GROWTHS
    systems: Sequence[str] = ("relay", "relay-refuses", "pull")
    by_default: bool = True

    @property
    def ideal_seconds(self) -> float:
        """With all slots in use all the time."""
        return self.messages * self.seconds / self.slots

    @property
    def about(self) -> str:
        """The scenario in words."""
        compressed = f", all times divided by {self.divisor}" if self.divisor > 1 else ""
        return f"{self.messages:,} messages of {self.seconds:g} s, {self.slots} slots{compressed}"

    @property
    def environment(self) -> dict[str, str]:
        """The relay's settings as Terraform makes them."""
        times = {"ACK_DEADLINE": 600, "MODEL_TIMEOUT": 540, "PUBLISH_TIMEOUT": 30, "MARGIN": 10}
        scaled = {f"{name}_SECONDS": f"{seconds / self.divisor:g}" for name, seconds in times.items()}
        return {"MODEL_SLOTS": str(self.slots), "SUBSCRIPTION": SUBSCRIPTION} | scaled


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Backlog(name="1500x1", messages=1500, seconds=1.0),
        Backlog(name="5000x0.2", messages=5000, seconds=0.2),
        Backlog(name="5000x2", messages=5000, seconds=2.0),
        Backlog(name="2000x30-tenth", messages=2000, seconds=3.0, divisor=10),
        Backlog(name="2000x30", messages=2000, seconds=30.0, systems=("relay",), by_default=False),
        Backlog(
            name="hold", messages=5000, seconds=8.0, prompt_bytes=2000, hold_seconds=20.0, growths=("ack",),
            systems=("relay",),
        ),
    )
}  # fmt: skip

_PYTHON = sys.executable
SYSTEMS = {
    "relay": System("relay", GUNICORN),
    "relay-refuses": System("relay-refuses", GUNICORN, {"MAX_WAITING": "0"}),
    "pull": System("pull", (_PYTHON, "-m", "bench.backlog.puller")),
}


def compressed(command: Sequence[str]) -> Sequence[str]:
    """The same command with the constants of the line divided too (tenth.py)."""
    return [word.replace("main.py", "bench/backlog/tenth.py") for word in command]

"""How long calls lately take, model by model: what the line goes by when it says who can still be answered in time.

Order statistics over the last calls, which one slow answer among many does not move. Not thread-safe: the line has the
lock.
"""

from collections import OrderedDict, deque
from dataclasses import dataclass, field

SAMPLES = 64  # of one model
LEAST_SAMPLES = 8  # below which nothing is said
MAX_MODELS = 100  # models that are told apart; requesters choose their names
NAME_CHARACTERS = 100  # of a name, which may be as long as a message: so many are remembered
LIKELY = 0.9  # the part of the calls that takes no longer than what is called likely


@dataclass(slots=True)
class _Recent:
    """The last durations, in seconds, and what follows from them."""

    seconds: "deque[float]" = field(default_factory=lambda: deque(maxlen=SAMPLES))
    likely: float | None = None

    def add(self, seconds: float) -> None:
        self.seconds.append(seconds)
        self.likely = None

    def is_known(self) -> bool:
        return len(self.seconds) >= LEAST_SAMPLES


class Estimates:
    """What calls of the model take, in seconds."""

    def __init__(self) -> None:
        self._all = _Recent()
        self._models: OrderedDict[str, _Recent] = OrderedDict()  # the one used last at the end

    def add(self, model: str, seconds: float) -> None:
        """A call of `model` has been answered."""
        self._all.add(seconds)
        name = model[:NAME_CHARACTERS]
        self._models.setdefault(name, _Recent()).add(seconds)
        self._models.move_to_end(name)
        if len(self._models) > MAX_MODELS:
            self._models.popitem(last=False)

    def mean(self) -> float | None:
        """The mean of the last calls of all models: what a place in the line costs. None before there are some."""
        return sum(self._all.seconds) / len(self._all.seconds) if self._all.is_known() else None

    def likely(self, model: str) -> float | None:
        """What nine in ten calls of `model` do not exceed; None before there are some."""
        recent = self._models.get(model[:NAME_CHARACTERS])
        if recent is None or not recent.is_known():
            return None
        if recent.likely is None:
            recent.likely = sorted(recent.seconds)[int(LIKELY * (len(recent.seconds) - 1))]
        return recent.likely

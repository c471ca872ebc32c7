"""The procedure: each scenario with each system in turn, after a run of each that does not count."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.figures import Figures
from bench.processes import BenchError
from bench.run import measure
from bench.scenarios import Kind, Scenario
from bench.systems import System

_WARM_UP_SECONDS = 2.0  # at least; twice a request's time if that is more


@dataclass(frozen=True, slots=True)
class Result:
    """The runs of one scenario: for each system's name, in the order in which they were made."""

    scenario: Scenario
    runs: Mapping[str, Sequence[Figures]]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be compared. `seconds` is how long each run is to last, None for the scenario's own time."""

    scenarios: Sequence[Scenario]
    systems: Sequence[System]
    runs: int
    seconds: float | None = None

    def runs_of(self, scenario: Scenario) -> int:
        """How often each system runs the scenario, and it counts."""
        return max(self.runs, scenario.least_runs)

    @property
    def total(self) -> int:
        """How many runs there will be, with those that do not count."""
        return sum(len(self.systems) * (1 + self.runs_of(scenario)) for scenario in self.scenarios)

    @property
    def minutes(self) -> float:
        """About how long all of it will take, with the time for starts and ends."""
        return sum((1 + self.runs_of(one)) * len(self.systems) * (self._lasts(one) + 3) for one in self.scenarios) / 60

    def _lasts(self, scenario: Scenario) -> float:
        longest = 4 * scenario.mean_seconds  # at the end the last requests are waited for
        return 2.0 if scenario.kind is not Kind.LOAD else (self.seconds or scenario.seconds) + longest


Note = Callable[[Scenario, System, int, Figures], None]


def compare(plan: Plan, note: Note) -> Iterator[Result]:
    """Make all runs, scenario by scenario; `note` hears of each run, those that do not count being number 0.

    A system that cannot do a scenario's first run is left out of it.
    """
    for scenario in plan.scenarios:
        runs: dict[str, list[Figures]] = {system.name: [] for system in plan.systems}
        able = [system for system in plan.systems if _warm_up(plan, scenario, system, note, runs[system.name])]
        for number in range(1, plan.runs_of(scenario) + 1):
            for system in able:
                found = _run(scenario, system, plan.seconds)
                runs[system.name].append(found)
                note(scenario, system, number, found)
        yield Result(scenario, runs)


def _warm_up(plan: Plan, scenario: Scenario, system: System, note: Note, runs: list[Figures]) -> bool:
    """Make a short run that does not count, unless it fails."""
    seconds = min(max(_WARM_UP_SECONDS, 2 * scenario.mean_seconds), plan.seconds or scenario.seconds)
    found = _run(scenario, system, seconds)
    note(scenario, system, 0, found)
    if found.problems:
        runs.append(found)
    return not found.problems


def _run(scenario: Scenario, system: System, seconds: float | None) -> Figures:
    """One run; that it broke off is a problem of the run's, and the others go on."""
    try:
        return measure(scenario, system, seconds)
    except BenchError as error:
        what, _, log = str(error).partition("\n")
        return Figures(problems=(what,), log=log)

"""The results as JSON, as Markdown and as a picture."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.backlog.figures import Figures
from bench.backlog.scenarios import SCENARIOS

_NAME = "backlog"
_COLUMNS = (  # title, figure, form
    ("answered", "answered", "{:,}"),
    ("seconds", "seconds", "{:.1f}"),
    ("ideal", "ideal_seconds", "{:.1f}"),
    ("start", "start_seconds", "{:.1f}"),
    ("over ideal", "over_ideal", "{:.3f}"),
    ("slots in use", "slots_share", "{:.3f}"),
    ("refused", "refused", "{:,}"),
    ("other nacks", "other_nacks", "{:,}"),
    ("deliveries, median", "deliveries_median", "{}"),
    ("most", "deliveries_most", "{}"),
    ("dead letters", "dead_lettered", "{}"),
    ("out at once", "outstanding_most", "{:,}"),
    ("health, ms, median", "health_median_ms", "{:.1f}"),
    ("most in the rush", "health_rush_ms", "{:.0f}"),
    ("most once full", "health_full_ms", "{:.0f}"),
    ("MB above idle", "memory_above_idle_mb", "{:.0f}"),
)
_ABOUT = """# How a backlog drains

Made by `python -m bench.backlog --write`; [bench/README.md](../../bench/README.md) says what each run does, and how to
read it. *Start* are the seconds until all slots were in use for the first time, *over ideal* the others over what
the slots need for all messages, *slots in use* their part from the start until the last call began. A run that is
marked with a star was broken off. *Health* is how long `GET /health/live` took: *in the rush*, until five seconds after
the most pushes were out, and *once full*, from then on.
"""


@dataclass(frozen=True, slots=True)
class Result:
    """One run, and where it was made."""

    scenario: str
    growth: str  # of the push window; empty where nothing is pushed
    system: str
    machine: dict[str, Any]
    figures: Figures

    @property
    def key(self) -> tuple[int, str, str]:
        """What it is a run of; results are in this order."""
        return list(SCENARIOS).index(self.scenario), self.growth or "z", self.system

    @property
    def line(self) -> str:
        """All figures in a line."""
        said = ", ".join(f"{title} {text}" for title, text in _cells(self.figures) if text)
        return (
            f"{self.scenario}, {self.growth or 'no window'}, {self.system}: {said} {'; '.join(self.figures.problems)}"
        )


@dataclass(frozen=True, slots=True)
class Report:
    """The last run of each kind."""

    results: Sequence[Result]

    @classmethod
    def read(cls, folder: Path) -> "Report":
        """What is in the folder so far."""
        file = folder / f"{_NAME}.json"
        found = json.loads(file.read_text())["results"] if file.is_file() else []
        return cls([Result(**one | {"figures": Figures(**one["figures"])}) for one in found])

    def having(self, result: Result) -> "Report":
        """With this run in the place of the earlier one of its kind."""
        others = [one for one in self.results if one.key != result.key]
        return Report(sorted([*others, result], key=lambda one: one.key))

    def to_json(self) -> str:
        """One run a line."""
        lines = ",\n".join(json.dumps(asdict(result)) for result in self.results)
        return f'{{"results": [\n{lines}\n]}}\n'

    def to_markdown(self) -> str:
        """A table for each scenario."""
        parts = [_ABOUT, *(_table(self, name) for name in SCENARIOS)]
        return "\n".join(part for part in parts if part)


def save(report: Report, folder: Path) -> None:
    """Write backlog.json, backlog.md and backlog.svg."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{_NAME}.json").write_text(report.to_json())
    (folder / f"{_NAME}.md").write_text(report.to_markdown())
    from bench.backlog.plot import draw  # half a second of imports, for whoever draws

    draw([(one.scenario, one.growth, one.system, one.figures) for one in report.results], folder / f"{_NAME}.svg")


def _table(report: Report, scenario: str) -> str:
    results = [one for one in report.results if one.scenario == scenario]
    if not results:
        return ""
    columns = ["window doubles on", "system", *(title for title, _, _ in _COLUMNS)]
    rows = "".join(map(_row, results))
    head = f"| {' | '.join(columns)} |\n|---|---|{'---:|' * len(_COLUMNS)}\n"
    where = "\n".join(sorted({_where(one.machine) for one in results}))
    return f"## {scenario}\n\n{SCENARIOS[scenario].about}.\n\n{head}{rows}\n{where}\n"


def _row(result: Result) -> str:
    star = "*" if result.figures.broken_off else ""
    cells = [text for _, text in _cells(result.figures)]
    wrong = f" **{'; '.join(result.figures.problems)}**" if result.figures.problems else ""
    return f"| {result.growth or 'nothing is pushed'} | {result.system}{star}{wrong} | {' | '.join(cells)} |\n"


def _cells(figures: Figures) -> Sequence[tuple[str, str]]:
    values = [(title, getattr(figures, name), form) for title, name, form in _COLUMNS]
    return [(title, "" if value is None else form.format(value)) for title, value, form in values]


def _where(machine: dict[str, Any]) -> str:
    return (
        f"Measured {machine['date']} at revision {machine['revision']}, {machine['cores']} cores of {machine['cpu']}, "
        f"load average {machine['load_average'][0]:g}, Python {machine['python']}."
    )

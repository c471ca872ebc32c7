"""The results as JSON and as Markdown."""

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.compare import Result
from bench.figures import Figures
from bench.scenarios import Kind, Scenario

REFERENCE = "reference"  # what the others are divided by


@dataclass(frozen=True, slots=True)
class Shown:
    """A figure that gets a table: its name in Figures, the table's title, what it says, and how it is written."""

    name: str
    title: str
    about: str
    digits: int
    only: str = ""  # scenarios whose names begin so

    def of(self, runs: Sequence[Figures]) -> Sequence[float]:
        """The figure in each run that counts and has it."""
        values = [getattr(run, self.name) for run in runs if not run.problems]
        return [value for value in values if value is not None]


TABLES = (
    Shown("utilisation", "Utilisation of the model", "1.0: no slot ever waited for the relay. More is better.", 4),
    Shown(
        "utilisation_full",
        "Utilisation once full",
        "The same, without the rush at the start: from when as many requests as there are slots had begun.",
        4,
    ),
    Shown("messages_per_second", "Messages a second", "More is better.", 0),
    Shown("cpu_ms", "Processor time of a message, ms", "User and system time of all processes. Less is better.", 3),
    Shown(
        "added_p50_ms",
        "Added latency, ms, median",
        "From push to 204, less the time in the model's slot. Less is better.",
        1,
        "tight",
    ),
    Shown(
        "added_p99_ms",
        "Added latency, ms, 99th percentile",
        "The same, for the slowest hundredth; the rush at the start is in it.",
        1,
        "tight",
    ),
    Shown("memory_mb", "Memory at most, MB", "All processes; what they share counts once. Less is better.", 0),
    Shown(
        "memory_per_push_mb",
        "Memory for each push in flight, MB",
        "What came on top of the memory just before the load. Less is better.",
        2,
        "body",
    ),
    Shown("memory_per_body", "The same, as a multiple of the prompt", "Less is better.", 2, "body"),
    Shown("publishes", "Publish calls for each message", "Below 1, responses share calls.", 3),
    Shown("model_calls", "Calls of the model for each message", "1: nothing was paid for twice.", 3),
    Shown("start_seconds", "From the start of the process to its first 204, s", "Less is better.", 2),
    Shown("idle_cpu_ms", "Processor time while idle, ms each second", "Less is better.", 1),
    Shown("idle_mb", "Memory while idle, MB", "After one message. Less is better.", 0),
)


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that was found, and where."""

    machine: Mapping[str, Any]
    results: list[Result]

    def to_json(self) -> str:
        """Everything, one run a line."""
        head = json.dumps(self.machine, indent=1)
        results = ",\n".join(f" {json.dumps(asdict(result.scenario))[:-1]}" + _runs(result) for result in self.results)
        return f'{{\n"machine": {head},\n"results": [\n{results}\n]\n}}\n'

    @classmethod
    def from_json(cls, text: str) -> "Report":
        """Read what `to_json` wrote."""
        document = json.loads(text)
        return cls(document["machine"], [_result(one) for one in document["results"]])

    @property
    def systems(self) -> Sequence[str]:
        """The names of the systems that were measured."""
        return list(dict.fromkeys(name for result in self.results for name in result.runs))

    @property
    def problems(self) -> Sequence[str]:
        """The runs that do not count, and why."""
        return list(self._problems())

    def _problems(self) -> Iterator[str]:
        for result in self.results:
            for name, runs in result.runs.items():
                for number, run in enumerate(runs, 1):
                    if run.problems:
                        yield f"{result.scenario.name}, {name}, run {number}: {'; '.join(run.problems)}"

    def to_markdown(self) -> str:
        """Tables, one for each figure."""
        parts = [_machine(self.machine), *(_table(self, shown) for shown in TABLES), _statuses(self)]
        if self.problems:
            problems = "\n".join(f"- {problem}" for problem in self.problems)
            parts.append(f"## Runs that do not count\n\n{problems}\n")
        return "\n".join(part for part in parts if part)


def save(report: Report, folder: Path) -> None:
    """Write results.json and results.md."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(report.to_json())
    (folder / "results.md").write_text(f"# Results of the benchmark\n\n{report.to_markdown()}")


def ratios(shown: Shown, runs: Sequence[Figures], others: Sequence[Figures]) -> Sequence[float]:
    """The figure of each run over that of the run beside it, of another system."""
    pairs = ((shown.of([one]), shown.of([other])) for one, other in zip(runs, others, strict=False))
    return [one[0] / other[0] for one, other in pairs if one and other and other[0]]


def _runs(result: Result) -> str:
    runs = {
        name: "[\n" + ",\n".join(f"    {json.dumps(asdict(run))}" for run in runs) + "]"
        for name, runs in result.runs.items()
    }
    return ', "runs": {' + ",".join(f"\n  {json.dumps(name)}: {lines}" for name, lines in runs.items()) + "}}"


def _result(document: Mapping[str, Any]) -> Result:
    fields = {name: value for name, value in document.items() if name != "runs"}
    scenario = Scenario(**fields | {"kind": Kind(fields["kind"])})
    return Result(scenario, {name: [Figures(**run) for run in runs] for name, runs in document["runs"].items()})


def _machine(machine: Mapping[str, Any]) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    return (
        f"Measured {machine['date']} at revision {machine['revision']}, on {machine['cpu']}, {machine['cores']} cores, "
        f"{machine['memory_gb']:g} GB, Linux {machine['kernel']}, Python {machine['python']}; load average at the "
        f"begin {machine['load_average'][0]:g}.\n\nWith {packages}.\n\n"
        "Each cell is the median of the runs, with the least and the most; a ratio is the median of those of each run "
        f"to the {REFERENCE}'s run after it.\n"
    )


def _table(report: Report, shown: Shown) -> str:
    """One figure's table, or nothing if no scenario has it."""
    compared = [name for name in report.systems if name != REFERENCE and REFERENCE in report.systems]
    columns = ["scenario", *report.systems, *(f"{name} / {REFERENCE}" for name in compared)]
    rows = [_row(result, report.systems, compared, shown) for result in report.results if _has(result, shown)]
    return _markdown(f"## {shown.title}\n\n{shown.about}", columns, rows) if rows else ""


def _has(result: Result, shown: Shown) -> bool:
    return result.scenario.name.startswith(shown.only) and any(shown.of(runs) for runs in result.runs.values())


def _row(result: Result, systems: Sequence[str], compared: Sequence[str], shown: Shown) -> Sequence[str]:
    runs = {name: result.runs.get(name, ()) for name in systems}
    cells = [_cell(shown.of(runs[name]), shown.digits) for name in systems]
    cells += [_cell(ratios(shown, runs[name], runs[REFERENCE]), 2) for name in compared]
    return [result.scenario.name, *cells]


def _cell(values: Sequence[float], digits: int) -> str:
    """Median, least and most."""
    if not values:
        return "-"
    middle, least, most = (f"{value:,.{digits}f}" for value in (statistics.median(values), min(values), max(values)))
    return middle if least == most else f"{middle} ({least} to {most})"


def _statuses(report: Report) -> str:
    """What pushes got instead of a 204, over all runs."""
    rows = []
    for result in report.results:
        cells = [_counted(result.runs.get(name, ())) for name in report.systems]
        if any(cells):
            rows.append([result.scenario.name, *(cell or "none" for cell in cells)])
    title = "## Pushes that got something else than a 204\n\nIn all runs together; they were sent again after 100 ms."
    return _markdown(title, ["scenario", *report.systems], rows) if rows else ""


def _counted(runs: Sequence[Figures]) -> str:
    counts: dict[str, int] = {}
    for run in runs:
        for status, count in run.statuses.items():
            counts[status] = counts.get(status, 0) + count
    return ", ".join(f"{status}: {count}" for status, count in sorted(counts.items()))


def _markdown(head: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in (columns, *rows)]
    lines.insert(1, f"|---{'|---:' * (len(columns) - 1)}|")
    return f"{head}\n\n" + "\n".join(lines) + "\n"

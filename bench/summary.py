"""The few figures that docs/measurements.md has, from all of them."""

import statistics
from collections.abc import Sequence
from pathlib import Path

from bench.compare import Result
from bench.report import REFERENCE, Report, Shown, ratios
from bench.scenarios import Kind

PAGE = Path(__file__).parents[1] / "docs" / "measurements.md"
BEGIN, END = "<!-- made by `make bench` -->\n", "<!-- end -->\n"
RELAY = "relay"

_HEAD = (
    "| slots, seconds, pushes | slots in use | once full | reference | CPU, ms a message | reference | ratio "
    "| added, ms | reference | memory, MB | reference |\n|---|---|---|---|---|---|---|---|---|---|---|\n"
)


def write(report: Report) -> None:
    """Put the summary of a report into the page."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}{summary(report)}{END}{rest.partition(END)[2]}")


def summary(report: Report) -> str:
    """A table of the scenarios with a load, and lines on the others: medians of the relay and the reference."""
    where = f"{report.machine['cpu']}, {report.machine['cores']} cores, Python {report.machine['python']}:\n\n"
    loads = [_row(result) for result in report.results if result.scenario.kind is Kind.LOAD]
    others = [_line(result) for result in report.results]
    return f"{where}{_HEAD}{''.join(loads)}\n{''.join(line for line in others if line)}"


def _row(result: Result) -> str:
    scenario = result.scenario
    small = f"{scenario.slots}, {scenario.mean_seconds:g}, {scenario.pushes}"
    large = f", {scenario.prompt_bytes // 1000:,} KB each" if scenario.prompt_bytes > 1000 else ""
    tight = scenario.pushes == scenario.slots
    cells = [
        small + large,
        _median(result, RELAY, "utilisation", 3),
        _median(result, RELAY, "utilisation_full", 4),
        _median(result, REFERENCE, "utilisation", 3),
        _median(result, RELAY, "cpu_ms", 2),
        _median(result, REFERENCE, "cpu_ms", 2),
        _ratio(result),
        _median(result, RELAY, "added_p50_ms", 1) if tight else "",
        _median(result, REFERENCE, "added_p50_ms", 1) if tight else "",
        _median(result, RELAY, "memory_mb", 0),
        _median(result, REFERENCE, "memory_mb", 0),
    ]
    return f"| {' | '.join(cells)} |\n"


def _line(result: Result) -> str:
    def both(name: str, digits: int) -> str:
        mine, other = (_median(result, system, name, digits) for system in (RELAY, REFERENCE))
        return f"{mine} (reference: {other})"

    if result.scenario.kind is Kind.COLD:
        return f"- From the start of the process to its first 204: {both('start_seconds', 2)} s.\n"
    if result.scenario.kind is Kind.IDLE:
        return f"- Idle: {both('idle_mb', 0)} MB, {both('idle_cpu_ms', 1)} ms of CPU a second.\n"
    if result.scenario.prompt_bytes >= 1_000_000:
        return f"- Memory for each large push in flight, as a multiple of the prompt: {both('memory_per_body', 1)}.\n"
    return ""


def _median(result: Result, system: str, name: str, digits: int) -> str:
    values = _shown(name).of(result.runs.get(system, ()))
    return f"{statistics.median(values):,.{digits}f}" if values else "-"


def _ratio(result: Result) -> str:
    pairs: Sequence[float] = ratios(_shown("cpu_ms"), *(result.runs.get(name, ()) for name in (RELAY, REFERENCE)))
    return f"{statistics.median(pairs):.2f}" if pairs else "-"


def _shown(name: str) -> Shown:
    return Shown(name, "", "", 0)

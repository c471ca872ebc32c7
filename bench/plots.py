"""The results as pictures: SVG, the same bytes for the same results."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from bench.compare import Result
from bench.figures import Figures
from bench.report import TABLES, Report
from bench.scenarios import KB

STYLE: Any = {
    "svg.hashsalt": "bench",  # names of parts of the picture, else random
    "svg.fonttype": "none",  # text stays text
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "legend.frameon": False,
}
_COLORS = {"relay": "#1f6feb", "reference": "#9a9a9a"}
_MORE_COLORS = ("#d98300", "#2a9d5c", "#8a4fbf", "#c23b3b")
_SLOTS_OF = "tight-1000-2"  # the scenario whose slots are drawn over time
_SHOWN = {shown.name: shown for shown in TABLES}


def draw(report: Report, folder: Path) -> None:
    """Write the pictures for which there are results."""
    with mpl.rc_context(STYLE):
        for name, picture in _PICTURES.items():
            if (figure := picture(report)) is not None:
                figure.savefig(folder / f"{name}.svg", metadata={"Date": None}, facecolor="white", bbox_inches="tight")


def _utilisation(report: Report) -> Figure | None:
    return _bars(report, "utilisation", "part of the model's slots in use", most=1.0)


def _cpu(report: Report) -> Figure | None:
    return _bars(report, "cpu_ms", "ms of processor time for each message")


def _bars(report: Report, name: str, label: str, most: float | None = None) -> Figure | None:
    """One group of bars for each scenario with small messages, one bar for each system, with its least and most."""
    results = [one for one in report.results if one.scenario.prompt_bytes == KB and _has(one, name)]
    if not results:
        return None
    figure, axes = _canvas(width=max(4.0, 1.1 * len(results)), height=3.2)
    width = 0.8 / len(report.systems)
    for number, system in enumerate(report.systems):
        at = [place - 0.4 + width * (number + 0.5) for place in range(len(results))]
        _system_bars(axes, at, width, [_SHOWN[name].of(one.runs.get(system, ())) for one in results], system)
    axes.set_xticks(range(len(results)), [one.scenario.name for one in results], rotation=20, ha="right")
    axes.grid(visible=False, axis="x")
    axes.set(ylabel=label, ylim=(0, most))
    figure.legend(loc="outside upper right", ncols=len(report.systems))
    return figure


def _has(result: Result, name: str) -> bool:
    return any(_SHOWN[name].of(runs) for runs in result.runs.values())


def _system_bars(axes: Axes, at: Sequence[float], width: float, runs: Sequence[Sequence[float]], system: str) -> None:
    there = [(place, statistics.median(one), min(one), max(one)) for place, one in zip(at, runs, strict=True) if one]
    places, middles = [one[0] for one in there], [one[1] for one in there]
    reach = [[one[1] - one[2] for one in there], [one[3] - one[1] for one in there]]
    bars = axes.bar(places, middles, width, label=system, color=_color(system))
    axes.errorbar(places, middles, reach, fmt="none", ecolor="#333333", elinewidth=0.8, capsize=2)
    axes.bar_label(bars, [f"{value:.2f}" for value in middles], fontsize=7, padding=2)


def _latency(report: Report) -> Figure | None:
    """The added latency of each part of the messages, for each scenario without headroom."""
    results = [one for one in report.results if one.scenario.name.startswith("tight") and _has(one, "added_p50_ms")]
    if not results:
        return None
    figure = Figure(figsize=(2.0 * len(results) + 1, 2.8), layout="constrained")
    panels = figure.subplots(1, len(results), sharex=True, sharey=True, squeeze=False)[0]
    for axes, result in zip(panels, results, strict=True):
        _curves(axes, result)
        axes.set_title(result.scenario.name, fontsize=9)
    panels[0].set(xscale="log", ylim=(0, 1), ylabel="part of the messages")
    panels[0].xaxis.set_major_formatter("{x:g}")
    panels[0].xaxis.set_minor_locator(NullLocator())
    figure.supxlabel("added latency at most, ms", fontsize=9)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper right", ncols=len(report.systems))
    return figure


def _curves(axes: Axes, result: Result) -> None:
    for system, runs in result.runs.items():
        if run := _typical(runs):
            points = len(run.added_quantiles_ms) - 1
            parts = [number / points for number in range(points + 1)]
            # A timer of the model's may be late by a little, which then seems to be gained here.
            axes.plot([max(0.01, ms) for ms in run.added_quantiles_ms], parts, label=system, color=_color(system))


def _slots(report: Report) -> Figure | None:
    """The slots in use over the time of one run."""
    result = next((one for one in report.results if one.scenario.name == _SLOTS_OF), None)
    if result is None or not _has(result, "utilisation"):
        return None
    figure, axes = _canvas(width=6.5, height=3.0)
    for system, runs in result.runs.items():
        if run := _typical(runs):
            step = run.seconds / len(run.slots_in_use)
            times = [step * (number + 0.5) for number in range(len(run.slots_in_use))]
            axes.plot(times, run.slots_in_use, label=system, color=_color(system))
    axes.axhline(result.scenario.slots, color="#333333", linewidth=0.8, linestyle=":")
    axes.set(xlabel="seconds since the first push", ylabel="slots in use", xlim=(0, None), ylim=(0, None))
    figure.legend(loc="outside upper right", ncols=len(report.systems))
    return figure


def _canvas(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def _typical(runs: Sequence[Figures]) -> Figures | None:
    """The run in the middle, of those that count."""
    ordered = sorted((run for run in runs if not run.problems), key=lambda run: run.utilisation or 0)
    return ordered[len(ordered) // 2] if ordered else None


def _color(system: str) -> str:
    return _COLORS.get(system) or _MORE_COLORS[sum(system.encode()) % len(_MORE_COLORS)]


_PICTURES: Mapping[str, Callable[[Report], Figure | None]] = {
    "utilisation": _utilisation,
    "cpu": _cpu,
    "latency": _latency,
    "slots": _slots,
}

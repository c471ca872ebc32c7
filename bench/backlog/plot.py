"""The slots in use over time as a picture: SVG, the same bytes for the same results."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.backlog.figures import Figures
from bench.backlog.scenarios import SCENARIOS
from bench.plots import STYLE

_LOOKS = {
    ("relay", "ack"): ("#1f6feb", "-", "relay, window doubles on every ack"),
    ("relay", "round trip"): ("#1f6feb", "--", "relay, each round trip"),
    ("relay-refuses", "ack"): ("#c23b3b", "-", "without the line, every ack"),
    ("relay-refuses", "round trip"): ("#c23b3b", "--", "without the line, each round trip"),
    ("pull", ""): ("#9a9a9a", "-", "worker that pulls"),
}


def draw(results: Sequence[tuple[str, str, str, Figures]], path: Path) -> None:
    """A panel for each scenario that runs to its end; `results` are scenario, growth, system and figures."""
    names = [name for name in SCENARIOS if any(one[0] == name for one in results) and not SCENARIOS[name].hold_seconds]
    if not names:
        return
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.5, 2.0 * len(names) + 0.6), layout="constrained")
        panels = figure.subplots(len(names), 1, squeeze=False)[:, 0]
        for axes, name in zip(panels, names, strict=True):
            _panel(axes, name, [one[1:] for one in results if one[0] == name])
        panels[-1].set_xlabel("seconds since the first call")
        labelled = dict(zip(*reversed(_handles(panels)), strict=True))
        figure.legend(labelled.values(), labelled.keys(), loc="outside upper center", ncols=3)
        figure.savefig(path, metadata={"Date": None}, facecolor="white", bbox_inches="tight")


def _panel(axes: Axes, name: str, runs: Sequence[tuple[str, str, Figures]]) -> None:
    for growth, system, run in runs:
        if run.slots_in_use:
            color, line, label = _LOOKS[system, growth]
            step = run.seconds / len(run.slots_in_use)
            times = [step * (number + 0.5) for number in range(len(run.slots_in_use))]
            axes.plot(times, run.slots_in_use, color=color, linestyle=line, linewidth=1.2, label=label)
    axes.axvline(SCENARIOS[name].ideal_seconds, color="#333333", linewidth=0.8, linestyle=":")
    axes.set(ylabel="slots in use", xlim=(0, None), ylim=(0, SCENARIOS[name].slots * 1.05))
    axes.set_title(f"{SCENARIOS[name].about}; dotted: ideal", fontsize=9)


def _handles(panels: Sequence[Axes]) -> tuple[list[object], list[str]]:
    pairs = [axes.get_legend_handles_labels() for axes in panels]
    return [one for handles, _ in pairs for one in handles], [one for _, labels in pairs for one in labels]

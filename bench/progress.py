"""Says on standard error how far the bench is, and what each run saw."""

import sys
from typing import Self

from rich.console import Console

from bench.compare import Plan
from bench.figures import Figures
from bench.scenarios import Scenario
from bench.systems import System

_LINE = (  # what is said of a run, as far as it is known
    ("utilisation", "utilisation {:.3f}"),
    ("messages_per_second", "{:,.0f} messages/s"),
    ("cpu_ms", "{:.2f} ms CPU each"),
    ("added_p50_ms", "added {:.1f} ms"),
    ("memory_mb", "{:.0f} MB"),
    ("start_seconds", "first 204 after {:.2f} s"),
    ("idle_cpu_ms", "{:.1f} ms CPU each second"),
    ("idle_mb", "{:.0f} MB idle"),
)


class Progress:
    """A line for each run; on a terminal also one that says that something is going on."""

    def __init__(self, plan: Plan) -> None:
        self._console = Console(file=sys.stderr, soft_wrap=True, highlight=False)
        self._total, self._done = plan.total, 0
        self._status = self._console.status(f"{plan.total} runs, about {max(1, round(plan.minutes))} minutes")

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._status.stop()

    def note(self, scenario: Scenario, system: System, number: int, found: Figures) -> None:
        """Say what a run saw."""
        self._done += 1
        which = f"run {number}" if number else "warm-up"
        said = _said(found) if not found.problems else f"DOES NOT COUNT: {'; '.join(found.problems)}\n{found.log}"
        line = f"[{self._done}/{self._total}] {scenario.name} {system.name} {which}: {said}"
        self._console.print(line, markup=False, style="red" if found.problems else None)


def _said(found: Figures) -> str:
    parts = [text.format(getattr(found, name)) for name, text in _LINE if getattr(found, name) is not None]
    other = [f"{count} times {status}" for status, count in found.statuses.items()]
    return ", ".join(parts + other)

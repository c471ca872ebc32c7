"""How a backlog drains that waits in the local Pub/Sub, and is pushed to the relay as production starts it.

Compared are the relay, the relay without its line (MAX_WAITING=0), and a worker that pulls, each with as many calls at
once as the model has slots; with both readings of how Google's push window grows. bench/README.md says how to read it.

  python -m bench.backlog --list                        the scenarios
  python -m bench.backlog --only 1500x1 --systems relay --growths ack
  python -m bench.backlog --write                       everything, into docs/benchmarks/: half an hour
  python -m bench.backlog --only 2000x30 --write        the longest in real time, added to what is there: half an hour
"""

import argparse
import signal
import sys
import tempfile
from pathlib import Path

from bench.backlog.report import Report, Result, save
from bench.backlog.run import measure
from bench.backlog.scenarios import GROWTHS, SCENARIOS, SYSTEMS
from bench.machine import machine
from bench.processes import ROOT, BenchError

_PAGES = ROOT / "docs" / "benchmarks"


def main() -> None:
    """Measure. The exit status says whether all runs count."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    try:
        sys.exit(_list() if options.list else _draw(options) if options.again else _measure(options))
    except BenchError as error:
        sys.exit(f"bench: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.backlog", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    usual = [name for name, scenario in SCENARIOS.items() if scenario.by_default]
    add("--only", nargs="+", default=usual, choices=SCENARIOS, metavar="NAME", help="these scenarios (see --list)")
    add("--systems", nargs="+", default=list(SYSTEMS), choices=SYSTEMS, metavar="NAME", help=f"of {', '.join(SYSTEMS)}")
    add("--growths", nargs="+", default=GROWTHS, choices=GROWTHS, help="of the window: on every ack, each round trip")
    add("--limit", type=float, help="seconds after which a run is broken off (default: twice the ideal, and a minute)")
    add("--out", type=Path, metavar="DIR", help="where the results go, beside those there (default: a new folder)")
    add("--write", action="store_true", help="the same as --out docs/benchmarks")
    add("--again", action="store_true", help="measure nothing: table and picture from what is there")
    add("--list", action="store_true", help="list the scenarios, and measure nothing")
    options = parser.parse_args()
    if options.write and options.out:
        parser.error("--write puts the results into docs/benchmarks: leave out --out, or --write")
    return options


def _list() -> int:
    for name, scenario in SCENARIOS.items():
        print(f"{name:<14} {scenario.about}{'' if scenario.by_default else ' (only where it is named)'}")
    return 0


def _folder(options: argparse.Namespace) -> Path:
    if options.write:
        return _PAGES
    return options.out or Path(tempfile.mkdtemp(prefix="bench-"))


def _draw(options: argparse.Namespace) -> int:
    folder = _folder(options)
    save(Report.read(folder), folder)
    return 0


def _measure(options: argparse.Namespace) -> int:
    folder, where, good = _folder(options), machine(), True
    for name, growth, system in _plan(options):
        backlog = SCENARIOS[name]
        found = measure(backlog, growth, system, options.limit or 2 * backlog.ideal_seconds + 60)
        result = Result(name, growth, system, where, found)
        save(Report.read(folder).having(result), folder)  # so that an interruption costs one run
        print(result.line, flush=True)
        good = good and not found.problems
    print(f"backlog.json, backlog.md and backlog.svg are in {folder}", file=sys.stderr)
    return 0 if good else 1


def _plan(options: argparse.Namespace) -> list[tuple[str, str, str]]:
    """Scenario, growth and system of each run. Who pulls has no window, and runs once."""
    plan = []
    for name in options.only:
        growths = [growth for growth in options.growths if growth in SCENARIOS[name].growths]
        systems = [system for system in options.systems if system in SCENARIOS[name].systems]
        plan += [(name, growth, system) for growth in growths for system in systems if system != "pull"]
        plan += [(name, "", "pull")] if "pull" in systems else []
    return plan


if __name__ == "__main__":
    main()

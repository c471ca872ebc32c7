"""How good the relay is at keeping a model busy, beside the handler that anyone would write first.

Starts a stand-in for the model, one for Pub/Sub and, anew for every run, the system to measure; keeps pushes in flight
until all messages are answered; checks that each was answered once; and says what part of the model was used, what a
message cost in processor time, and what it waited for. bench/README.md says how to read it.

  python -m bench --list                                     the scenarios
  python -m bench --only tight-64-0.5 --runs 1 --seconds 5   a first impression
  python -m bench --write                                    everything, into docs/benchmarks/
  python -m bench --system mine='mine --port {port}'         another program beside the two (see --system)
"""

import argparse
import importlib.util
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.report import Report

_ROOT = Path(__file__).parents[1]
_PAGES = _ROOT / "docs" / "benchmarks"
_PACKAGES = ("grpc", "httptools", "matplotlib", "psutil", "rich", "uvloop")


def main() -> None:
    """Measure, or say what is missing. The exit status says whether all runs count."""
    if missing := [name for name in _PACKAGES if importlib.util.find_spec(name) is None]:
        sys.exit(f"the bench needs {', '.join(missing)}: run `make bench`, or pip install -e '.[bench]'")
    from bench.processes import BenchError

    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    try:
        sys.exit(_list() if options.list else _again(options) if options.again else _measure(options))
    except BenchError as error:
        sys.exit(f"bench: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped")


def _options() -> argparse.Namespace:
    from bench.scenarios import BY_NAME
    from bench.systems import SYSTEMS, peer

    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--only", nargs="+", default=list(BY_NAME), choices=BY_NAME, metavar="NAME", help="these scenarios (--list)")
    add(
        "--systems",
        nargs="+",
        default=["relay", "reference"],
        choices=SYSTEMS,
        metavar="NAME",
        help=f"of {', '.join(SYSTEMS)}; direct has no program at all and shows how much the bench itself can do",
    )
    add(
        "--system",
        action="append",
        default=[],
        type=peer,
        metavar="NAME=COMMAND",
        help="one more: a command that listens on {port}, calls the model at {model} (a base URL) and publishes to a "
        "Pub/Sub emulator at {sink} (HOST:PORT), with {concurrency} pushes in flight. Its environment has all of them "
        "too: PORT, MODEL_URL, PUBSUB_EMULATOR_HOST, CONCURRENCY, and RESPONSE_TOPIC",
    )
    add("--runs", type=int, default=3, help="of each system in each scenario (default: %(default)s)")
    add("--seconds", type=float, help="that each run lasts (default: at least 10, and 12 requests a slot)")
    add("--out", type=Path, metavar="DIR", help="where the results go (default: a new folder in /tmp)")
    add("--write", action="store_true", help="put the results into docs/benchmarks/; needs all scenarios")
    add("--again", type=Path, metavar="FILE", help="measure nothing: tables and pictures from an earlier results.json")
    add("--list", action="store_true", help="list the scenarios, and measure nothing")
    return _checked(parser, parser.parse_args())


def _checked(parser: argparse.ArgumentParser, options: argparse.Namespace) -> argparse.Namespace:
    from bench.scenarios import BY_NAME

    if options.runs < 1 or (options.seconds is not None and options.seconds <= 0):
        parser.error("--runs is at least 1, and --seconds above 0")
    if options.write and (set(options.only) != set(BY_NAME) or options.out):
        parser.error("--write puts all scenarios into docs/benchmarks/: leave out --only and --out, or --write")
    if options.again and not options.again.is_file():
        parser.error(f"there is no file {options.again}: give the results.json of an earlier time")
    return options


def _list() -> int:
    from bench.scenarios import SCENARIOS

    for scenario in SCENARIOS:
        print(f"{scenario.name:<18} {scenario.about}")
    return 0


def _again(options: argparse.Namespace) -> int:
    from bench.report import Report

    return _publish(Report.from_json(options.again.read_text()), _folder(options))


def _measure(options: argparse.Namespace) -> int:
    from bench.compare import Plan, compare
    from bench.machine import machine
    from bench.progress import Progress
    from bench.report import Report, save
    from bench.scenarios import BY_NAME
    from bench.systems import SYSTEMS

    systems = [*(SYSTEMS[name] for name in options.systems), *options.system]
    plan = Plan([BY_NAME[name] for name in options.only], systems, options.runs, options.seconds)
    folder, report = _folder(options), Report(machine(), [])
    with Progress(plan) as progress:
        for result in compare(plan, progress.note):
            report.results.append(result)
            save(report, folder)  # so that an interruption costs one scenario
    return _publish(report, folder)


def _folder(options: argparse.Namespace) -> Path:
    if options.write:
        return _PAGES
    return options.out or Path(tempfile.mkdtemp(prefix="bench-"))


def _publish(report: "Report", folder: Path) -> int:
    from bench import summary
    from bench.plots import draw
    from bench.report import save

    save(report, folder)
    draw(report, folder)
    if folder == _PAGES:
        summary.write(report)
    print(report.to_markdown())
    print(f"results.json, results.md and the pictures are in {folder}", file=sys.stderr)
    return 1 if report.problems else 0


if __name__ == "__main__":
    main()

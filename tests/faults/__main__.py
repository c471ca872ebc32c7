"""Runs the scenarios and prints what came of them: python tests/faults [--list short] [--only TEXT] [--seed N]."""

import argparse
import logging
import signal
import sys
from pathlib import Path

from scenarios import LISTS
from world import World

from tests.parts.forks import Forks

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- made by `make faults` -->\n", "<!-- end -->\n"
COLUMNS = ("scenario", "messages", "answers", "lost", "duplicated", "model calls a message", "explained")
HEAD = f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|\n"


def main():
    """Run them all; the exit status says whether something happened that may not."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    # The model cuts connections while they are served, which aiohttp takes for errors of its own.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    rows, failed = [], False
    with Forks() as forks:
        for scenario in LISTS[options.list]:
            if options.only in scenario.name:
                found = _run(scenario, options.seed, forks)
                rows.append(_row(scenario, found))
                failed = failed or bool(found.faults)
    if options.write and not failed and options.list == "full" and not options.only:
        _write(rows, options.seed)
    sys.exit(failed)


def _options():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--list", choices=LISTS, default="full", help="short: for a test; control: what must fail")
    parser.add_argument("--only", default="", help="the scenarios whose names contain this")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write", action="store_true", help=f"write the table into docs/{PAGE.name} if all is well")
    return parser.parse_args()


def _run(scenario, seed, forks):
    with World(scenario, seed, forks) as world:
        found = world.run()
        print(_row(scenario, found), end="", flush=True)
        for key, fault in found.faults:
            print(f"FAULT: {key}: {fault}", *world.story(key), sep="\n  ", file=sys.stderr)
        if found.faults:
            print(world.reasons(), world.broker.stats(), file=sys.stderr)
    return found


def _row(scenario, found):
    calls = f"{found.calls:.2f}"
    if found.injected:
        calls += f" = {found.calls - found.injected:.2f} + {found.injected:.2f} that failed on command"
    notes = [f"{what}: {count}" for what, count in sorted(found.explained.items())] + found.notes
    cells = (scenario.name, found.messages, found.answers, found.lost, found.duplicated, calls, "; ".join(notes))
    return f"| {' | '.join(map(str, cells))} |\n"


def _write(rows, seed):
    before, _, rest = PAGE.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    command = f"`make faults SEED={seed}`:\n\n"
    PAGE.write_text(f"{before}{BEGIN}{command}{HEAD}{''.join(rows)}{END}{after}")


if __name__ == "__main__":
    main()

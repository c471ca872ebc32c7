"""How many instructions the relay takes for a message, counted by valgrind.

On a still machine a change of one part in a hundred shows; beside other work more responses share a publish request,
and the count is up to a tenth less. What is counted is the service's own, without the kernel's. Everything takes some
thirty times as long under valgrind, which comes from the system's packages.

  python -m bench.instructions
  python -m bench.instructions --routes                                    with one route and one stream in ROUTES_FILE
  python -m bench.instructions --set LEDGER_URL=redis://127.0.0.1:6379   with more settings
"""

import argparse
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import requests

from bench.processes import BenchError, Program, StandIn, free_port
from bench.scenarios import BY_NAME, KB
from bench.systems import SYSTEMS

_SCENARIO = BY_NAME["tight-64-0.5"]
_MESSAGES = (128, 640)  # what the second run takes more is what the messages take that it has more
_START_SECONDS = _RUN_SECONDS = _END_SECONDS = 600.0
_VALGRIND = ("valgrind", "--tool=cachegrind", "--cache-sim=no", "--trace-children=yes")
_SUMMARY = re.compile(r"^summary: (\d+)", re.MULTILINE)


def main() -> None:
    """Count, and print what a message takes."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.instructions", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the service")
    parser.add_argument("--routes", action="store_true", help="route and stream stand in ROUTES_FILE, one of each")
    options = parser.parse_args()
    settings = dict(pair.split("=", 1) for pair in options.set)
    if shutil.which("valgrind") is None:
        sys.exit("this needs valgrind: install your system's package of that name")
    try:
        print(f"{_per_message(settings, routes=options.routes):,.0f} instructions a message")
    except BenchError as error:
        sys.exit(f"bench: {error}")


def _per_message(settings: Mapping[str, str], *, routes: bool) -> float:
    fewer, more = (_counted(messages, settings, routes=routes) for messages in _MESSAGES)
    return (more - fewer) / (_MESSAGES[1] - _MESSAGES[0])


def _counted(messages: int, settings: Mapping[str, str], *, routes: bool) -> int:
    """The instructions of a whole run of the service, from its start to its end."""
    with tempfile.TemporaryDirectory(prefix="bench-instructions-") as folder:
        with _running(messages, settings, Path(folder), routes=routes) as (program, port):
            _push(messages, port)
            os.kill(program.pid, signal.SIGTERM)  # valgrind writes its counts when a process ends by itself
            _wait(lambda: program.ended, _END_SECONDS, "the relay did not end")
        return sum(int(_SUMMARY.findall(counts.read_text())[-1]) for counts in Path(folder, "counts").iterdir())


@contextmanager
def _running(
    messages: int, settings: Mapping[str, str], folder: Path, *, routes: bool
) -> Iterator[tuple[Program, int]]:
    """The relay under valgrind, ready, and its port."""
    with ExitStack() as parts:
        options = {"slots": _SCENARIO.slots, "messages": messages, "mean": _SCENARIO.mean_seconds}
        model = parts.enter_context(StandIn("model", **options, status=200))
        sink = parts.enter_context(StandIn("sink"))
        port = free_port()
        command, environment = SYSTEMS["relay"].started(port, model.port, sink.port, _SCENARIO.pushes)
        environment = {**environment, **(_routes(folder, environment) if routes else {}), **settings}
        counts = folder / "counts"
        counts.mkdir()
        command = [*_VALGRIND, f"--cachegrind-out-file={counts}/%p", *command]
        program = parts.enter_context(Program("instructions", command, environment))
        _wait(lambda: program.ended or _is_ready(port), _START_SECONDS, "the relay did not start in time")
        if program.ended:
            raise BenchError(f"the relay did not start\n{program.tail()}")
        yield program, port


def _routes(folder: Path, environment: Mapping[str, str]) -> Mapping[str, str]:
    """The settings with a file of one route and one stream, which say the same as the environment."""
    file = folder / "routes.yaml"
    route = {"name": "only", "models": ["m"], "url": environment["MODEL_URL"], "slots": _SCENARIO.pushes}
    stream = {"subscription": "push", "response_topic": environment["RESPONSE_TOPIC"]}
    file.write_text(json.dumps({"routes": [route], "streams": [stream]}))
    return {"ROUTES_FILE": str(file), "MODEL_URL": "", "MODEL_SLOTS": ""}


def _push(messages: int, port: int) -> None:
    options = {"port": port, "in_flight": _SCENARIO.pushes, "messages": messages, "prompt_bytes": KB}
    with StandIn("pushes", **options) as pushes:
        pushes.go()
        if not pushes.speaks(_RUN_SECONDS):
            raise BenchError(f"{messages} messages took more than {_RUN_SECONDS:.0f} s")
        pushes.hear()
        seen = pushes.finish()
    if seen["statuses"] or None in seen["answered"]:
        raise BenchError(f"not every push got a 204, but some: {seen['statuses']}")


def _is_ready(port: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/health/ready", timeout=60).ok
    except requests.RequestException:
        return False


def _wait(holds: Callable[[], bool], seconds: float, otherwise: str) -> None:
    ends = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > ends:
            raise BenchError(otherwise)
        time.sleep(0.1)


if __name__ == "__main__":
    main()

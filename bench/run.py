"""One run: starts the model, the sink and a system, pushes, and takes down what was seen."""

import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from bench.figures import Call, Figures, Seen, Usage, figures
from bench.message import Mold, index_of
from bench.processes import (
    BenchError,
    Memory,
    Program,
    StandIn,
    cpu_seconds,
    free_port,
    memory_bytes,
    threads_cpu_seconds,
)
from bench.scenarios import BY_NAME, KB, Kind, Scenario
from bench.systems import DIRECT, SYSTEMS, System

_START_SECONDS = 60.0  # until the first 204
_FIRST_PUSH_SECONDS = 20.0  # for an answer to it
_TRY_SECONDS = 0.005  # between attempts at the first push
_IDLE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class _World:
    """Everything of one run, up and waiting for its first push; `program` is None where pushes go to the model."""

    scenario: Scenario
    messages: int
    model: StandIn
    sink: StandIn
    program: Program | None
    port: int  # where to push to

    @property
    def pid(self) -> int:
        """The first process of what is measured."""
        return self.program.pid if self.program else self.model.pid


@contextmanager
def _world(scenario: Scenario, system: System, messages: int) -> Iterator[_World]:
    is_direct = system is DIRECT
    options = {"slots": scenario.slots, "messages": messages, "mean": scenario.mean_seconds}
    with ExitStack() as parts:
        model = parts.enter_context(StandIn("model", **options, status=204 if is_direct else 200))
        sink = parts.enter_context(StandIn("sink"))
        for stand_in in (model, sink):
            stand_in.ready()
        if is_direct:
            yield _World(scenario, messages, model, sink, None, model.port)
            return
        port = free_port()
        command, environment = system.started(port, model.port, sink.port, scenario.pushes)
        program = parts.enter_context(Program(system.name, command, environment))
        yield _World(scenario, messages, model, sink, program, port)


def _start(world: _World) -> float:
    """Push one small message until it gets its 204; the seconds since the program was started.

    Its index is beyond those of the run, so that the model answers at once.
    """
    push = b"".join(Mold(world.port, KB).push(world.messages))
    begun = world.program.begun if world.program else time.monotonic()
    while (said := _first_push(world.port, push)) != "204":
        if world.program and world.program.ended:
            raise BenchError(f"{world.program.name} did not start\n{world.program.tail()}")
        if time.monotonic() > begun + _START_SECONDS:
            raise BenchError(f"no 204 for a push to port {world.port}, but: {said}\n{_tail(world)}")
        time.sleep(_TRY_SECONDS)
    return time.monotonic() - begun


def _first_push(port: int, push: bytes) -> str:
    """The status that one push gets, or why there is none."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=_FIRST_PUSH_SECONDS) as connection:
            connection.sendall(push)
            return connection.recv(4096)[9:12].decode() or "the connection was closed"
    except OSError as error:
        return str(error)


def _tail(world: _World) -> str:
    return world.program.tail() if world.program else "the pushes went straight to the model"


def _load(world: _World) -> Figures:
    scenario = world.scenario
    options = {"port": world.port, "in_flight": scenario.pushes, "messages": world.messages}
    with StandIn("pushes", **options, prompt_bytes=scenario.prompt_bytes) as pushes:
        _start(world)
        pushes.ready()  # what its own start takes is no part of the run
        usage = _push(world, pushes)
        return figures(_seen(world, pushes, usage), scenario.pushes, scenario.prompt_bytes)


def _push(world: _World, pushes: StandIn) -> Usage:
    """Let the pushes go, and measure meanwhile."""
    with Memory(world.pid) as memory:
        pids = {"program": world.pid} | {one.name: one.pid for one in (world.model, world.sink, pushes)}
        before = {name: cpu_seconds(pid) for name, pid in pids.items()}
        pushes.go()
        while not pushes.speaks(1.0):
            if world.program and world.program.ended:
                raise BenchError(f"{world.program.name} has ended while it got pushes\n{world.program.tail()}")
        pushes.hear()
        spent = {name: cpu_seconds(pid) - before[name] for name, pid in pids.items()}
    return Usage(spent.pop("program"), memory.before, memory.peak, spent)


def _seen(world: _World, pushes: StandIn, usage: Usage) -> Seen:
    """What the stand-ins took down, less the message that was the first."""
    pushed, served, published = pushes.finish(), world.model.finish(), world.sink.finish()
    responses = [[index_of(key) for key in call] for call in published["published"]]
    if not world.program:  # nobody publishes anything
        responses = [[index] for index in range(world.messages)]
    return Seen(
        slots=world.scenario.slots,
        calls=[Call(*call) for call in served["calls"] if 0 <= call[0] < world.messages],
        sent=pushed["sent"],
        answered=pushed["answered"],
        published=[call for call in responses if call != [world.messages]],
        statuses=pushed["statuses"],
        usage=usage,
    )


def _cold(world: _World) -> Figures:
    return Figures(messages=1, start_seconds=_start(world))


def _idle(world: _World) -> Figures:
    _start(world)
    time.sleep(1)  # what the start left to do
    before = threads_cpu_seconds(world.pid)
    time.sleep(_IDLE_SECONDS)
    spent = threads_cpu_seconds(world.pid) - before
    return Figures(messages=1, idle_cpu_ms=1000 * spent / _IDLE_SECONDS, idle_mb=memory_bytes(world.pid) / 1e6)


_RUNS: Mapping[Kind, Callable[[_World], Figures]] = {Kind.LOAD: _load, Kind.COLD: _cold, Kind.IDLE: _idle}


def measure(scenario: Scenario | str, system: System | str, seconds: float | None = None) -> Figures:
    """Start `system` anew, put `scenario` on it for about so many seconds, and say what that came to.

    Raises BenchError, with the end of the system's log, where it does not start.
    """
    scenario = BY_NAME[scenario] if isinstance(scenario, str) else scenario
    system = SYSTEMS[system] if isinstance(system, str) else system
    messages = scenario.messages(scenario.seconds if seconds is None else seconds)
    with _world(scenario, system, messages) as world:
        found = _RUNS[scenario.kind](world)
        if world.program and found.problems:
            return replace(found, log=world.program.tail())
        if world.program:
            world.program.log.unlink()
        return found

"""One run: lets a backlog wait, starts a system, lets Pub/Sub push, and takes down what was seen."""

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

from bench.backlog.figures import Figures, Seen, figures
from bench.backlog.health import Health, is_alive
from bench.backlog.scenarios import SYSTEMS, Backlog, compressed
from bench.backlog.topics import Topics
from bench.figures import Call
from bench.processes import BenchError, Memory, Program, StandIn, free_port

_LARGEST_WINDOW = 3000
_START_SECONDS = 60.0
_LOOK_SECONDS = 0.25
_PULL = "pull"


@dataclass(frozen=True, slots=True)
class _World:
    backlog: Backlog
    model: StandIn
    broker: StandIn
    topics: Topics
    program: Program
    port: int
    is_pushed: bool

    def counts(self) -> Mapping[str, Any]:
        """What Pub/Sub has counted so far."""
        self.broker.go()
        return self.broker.hear()


@dataclass(frozen=True, slots=True)
class _Watched:
    """When a run was broken off, if it was; the most messages that were out at once, and when they were."""

    ended: float | None
    outstanding: int
    outstanding_at: float


def measure(backlog: Backlog, growth: str, system: str, limit: float) -> Figures:
    """Let `system` drain the backlog, for at most `limit` seconds. Raises BenchError where it does not run."""
    with _world(backlog, growth, system) as world:
        health = Health(world.port) if world.is_pushed else None
        with Memory(world.program.pid) as memory, health or nullcontext():
            if world.is_pushed:
                world.topics.push_to(world.port)
            watched = _watch(world, limit)
        found = figures(_seen(world, watched, memory, health))
        return replace(found, memory_above_idle_mb=round(found.memory_above_idle_mb, 1))


@contextmanager
def _world(backlog: Backlog, growth: str, system: str) -> Iterator[_World]:
    with ExitStack() as parts:
        options = {"slots": backlog.slots, "messages": backlog.messages, "mean": backlog.seconds, "sigma": 0.0}
        model = parts.enter_context(StandIn("model", **options))
        broker = parts.enter_context(StandIn("backlog.broker", window_growth=growth, divisor=backlog.divisor))
        topics, port = Topics(broker.port, backlog), free_port()
        topics.publish(backlog)
        command, environment = SYSTEMS[system].started(port, model.port, broker.port, backlog.slots)
        command = compressed(command) if backlog.divisor > 1 else command
        program = parts.enter_context(Program(system, command, {**backlog.environment, **environment}))
        if system != _PULL:
            _await_start(program, port)
        yield _World(backlog, model, broker, topics, program, port, is_pushed=system != _PULL)
        program.log.unlink()


def _await_start(program: Program, port: int) -> None:
    until = time.monotonic() + _START_SECONDS
    while not is_alive(port):
        if program.ended or time.monotonic() > until:
            raise BenchError(f"{program.name} did not start\n{program.tail()}")
        time.sleep(_LOOK_SECONDS)


def _watch(world: _World, limit: float) -> _Watched:
    """Wait until all is answered, or the time is up, or as much as can be has been held for long enough."""
    begun = at = time.monotonic()
    outstanding, held_since = 0, float("inf")
    while True:
        time.sleep(_LOOK_SECONDS)
        now, counts = time.monotonic(), world.counts()
        out = counts["delivered"] - counts["acked"] - counts["nacked"] - counts["expired"]
        if out > outstanding:
            outstanding, at = out, now
        if out >= _LARGEST_WINDOW:
            held_since = min(held_since, now)
        if counts["acked"] == world.backlog.messages:
            return _Watched(None, outstanding, at)
        if now > begun + limit or now > held_since + (world.backlog.hold_seconds or float("inf")):
            return _Watched(now, outstanding, at)
        if world.program.ended:
            raise BenchError(f"{world.program.name} has ended\n{world.program.tail()}")


def _seen(world: _World, watched: _Watched, memory: Memory, health: Health | None) -> Seen:
    counts, backlog = world.counts(), world.backlog
    clocks = time.time() - time.monotonic()
    published = counts["published"] - backlog.messages - counts["dead_lettered"]
    responses = [(index, when - clocks) for index, when in world.topics.responses(published)]
    calls = [Call(*call) for call in world.model.finish()["calls"]]
    return Seen(
        messages=backlog.messages,
        slots=backlog.slots,
        ideal_seconds=backlog.ideal_seconds,
        calls=calls,
        responses=responses,
        answers=counts["answers"],
        deliveries=counts["deliveries"],
        dead_lettered=counts["dead_lettered"],
        outstanding=watched.outstanding,
        outstanding_at=watched.outstanding_at,
        ended=watched.ended,
        health=health.seen if health else (),
        memory_before=memory.before,
        memory_peak=memory.peak,
    )

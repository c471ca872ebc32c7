"""What goes wrong: each scenario is some requests, some manners of the model, and some troubles meanwhile."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial

from balancer import Copies
from model import Manners

# --- troubles: each runs in a thread of its own until everything is published


def model_restarts(world, every=3.0, away=1.0):
    """The model is restarted again and again; what it was answering is cut off."""
    while world.wait(every):
        world.model.stop()
        world.wait(away)
        world.model.start()


def publishing_fails(world, after=2.0, seconds=10.0):
    """The response topic takes nothing for a while."""
    world.wait(after)
    with world.fault(kind="publish-fails", match="responses"):
        world.wait(seconds)


def confirmations_are_lost(world):
    """Every tenth publish to the response topic is taken but not confirmed."""
    with world.outage("accepted, not confirmed"), world.fault(kind="publish-answer-lost", match="responses", every=10):
        world.wait(FOR_EVER)


def confirmations_are_slow(world):
    """The response topic confirms late what it has taken at once."""
    with world.fault(kind="publish-late", match="responses", seconds=0.3):
        world.wait(FOR_EVER)


def broker_repeats_itself(world):
    """A fifth of the pushes comes twice, and late."""
    with ExitStack() as faults:
        for kind in ("push-late", "push-twice"):
            faults.enter_context(world.fault(kind=kind, match="push", every=5, seconds=2.0))
        world.wait(FOR_EVER)


def instances_end(world, every=3.0, kills=(True, False, False, True)):
    """The instances are ended in turn, with SIGKILL where `kills` says so and else with SIGTERM, and restarted."""
    turns = zip(itertools.cycle(world.balancer.instances), itertools.cycle(kills), strict=False)
    while world.wait(every):
        instance, kill = next(turns)
        if kill:
            instance.kill()
        else:
            instance.terminate()
        instance.start()


def instances_drain(world):
    """The instances are ended with SIGTERM in turn, and restarted."""
    instances_end(world, kills=(False,))


def instance_freezes(world, after=3.0, seconds=18.0):
    """One instance stands still for longer than its leases last, and then goes on as if nothing had happened."""
    world.wait(after)
    with world.outage("instance frozen"), world.balancer.instances[0].frozen():
        world.wait(seconds)


def ledger_restarts(world, every=9.0, away=2.0):
    """Redis is killed and restarted, again and again."""
    while world.wait(every):
        _restart_ledger(world, away)


def ledger_restarts_once(world, after=0.5, away=1.0):
    """Redis is killed and restarted once, so that what goes wrong a while later is not explained by that."""
    world.wait(after)
    _restart_ledger(world, away)


def ledger_stalls(world, every=9.0, seconds=2.0):
    """Redis answers nobody for a while, again and again."""
    while world.wait(every):
        _stall_ledger(world, seconds)


def ledger_fills_up(world, every=9.0, seconds=2.0):
    """Redis has no memory for anything more for a while, again and again."""
    while world.wait(every):
        _fill_ledger(world, seconds)


def ledger_in_every_trouble(world, every=12.0, seconds=2.0):
    """Redis is restarted, stalls and is full, one after another."""
    troubles = itertools.cycle((_restart_ledger, _stall_ledger, _fill_ledger))
    while world.wait(every):
        next(troubles)(world, seconds)


def _restart_ledger(world, seconds):
    with world.ledger_outage():
        world.redis.kill()
        world.wait(seconds)
        world.redis.start()


def _stall_ledger(world, seconds):
    with world.ledger_outage():
        world.redis.pause()
        world.wait(seconds)
        world.redis.go_on()


def _fill_ledger(world, seconds):
    with world.ledger_outage():
        world.redis.fill()
        world.wait(seconds)
        world.redis.empty()


def limits_lifted(world, after=20.0):
    """The model stops answering 429."""
    world.wait(after)
    world.misbehave(limited=0.0)


def a_request_vanishes(world):
    """A request is counted as published that never was."""
    world.requester.published.append("never sent")


FOR_EVER = 1e6


# --- scenarios

KIND = Manners()
NO_COPIES = Copies()


@dataclass(frozen=True, slots=True)
class Scenario:
    """One run, and how long it may take to come to an end after the last request is published."""

    name: str
    troubles: Sequence[Callable] = ()
    manners: Manners = KIND
    copies: Copies = NO_COPIES
    messages: int = 300
    rate: float = 20.0
    instances: int = 2
    ledger: bool = True
    ack_deadline: int = 40  # the subscription's
    minimum_backoff: float = 0.2
    settings: Mapping[str, str] = field(default_factory=dict)
    calls_in_8_seconds: int | None = None  # at most, for one request
    patience: float = 120.0


def without_ledger(scenario, **changes):
    """The same with one instance and no ledger."""
    return replace(scenario, name=f"{scenario.name}, no ledger", instances=1, ledger=False, **changes)


QUICK_TIMEOUT = {"MODEL_TIMEOUT_SECONDS": "3"}
LATE_COPIES = Copies(0.2, 1, 5.0)

nothing = Scenario("no trouble")
restarts = Scenario("the model restarts every 4 s", [model_restarts])
overloaded = Scenario("30 % of the calls get 503", manners=Manners(overloaded=0.3))
resets = Scenario("10 % of the calls are reset mid-body", manners=Manners(reset=0.1))
hangs = Scenario("5 % of the calls hang", manners=Manners(hung=0.05), settings=QUICK_TIMEOUT)
unpublished = Scenario("publishing fails for 10 s", [publishing_fails])
unconfirmed = Scenario("10 % of the publishes are taken but not confirmed", [confirmations_are_lost])
copies = Scenario("20 % are pushed twice and late", [broker_repeats_itself], copies=LATE_COPIES)
crowd = Scenario("ten copies at once", copies=Copies(1.0, 9, 0.0), messages=100, rate=5.0)
ends = Scenario("SIGKILL and SIGTERM of instances in turn", [instances_end])
ends_slow = Scenario(
    "SIGKILL and SIGTERM in turn, and confirmations take 0.3 s", [instances_end, confirmations_are_slow]
)
ends_kept = Scenario(
    "SIGKILL in turn, and publishing fails for 10 s",
    [partial(instances_end, kills=(True,)), publishing_fails],
)
drains = Scenario("SIGTERM of instances in turn", [instances_drain])
freezes = Scenario("an instance freezes for 18 s", [instance_freezes], messages=500, ack_deadline=8)
ledger_away = Scenario("the ledger is killed for 2 s", [ledger_restarts], copies=LATE_COPIES, messages=600)
ledger_slow = Scenario("the ledger stalls for 2 s", [ledger_stalls], copies=LATE_COPIES, messages=600)
ledger_full = Scenario("the ledger is full for 2 s", [ledger_fills_up], copies=LATE_COPIES, messages=600)
too_short = Scenario(
    "the ack deadline is 2 s, the model takes 5 s", manners=Manners((5.0, 5.0)), ack_deadline=2, messages=30, rate=4.0
)
limited = Scenario(
    "429 for 20 s",
    [limits_lifted],
    Manners(limited=1.0),
    messages=25,
    rate=1.0,
    minimum_backoff=10.0,
    calls_in_8_seconds=4,
)
everything = Scenario(
    "all of it together",
    [
        partial(model_restarts, every=10.0),
        partial(publishing_fails, after=20.0),
        broker_repeats_itself,
        partial(instances_end, every=6.0),
        ledger_in_every_trouble,
    ],
    Manners(overloaded=0.3, reset=0.1, hung=0.02),
    LATE_COPIES,
    messages=3000,
    rate=50.0,
    minimum_backoff=1.0,
    settings={"MODEL_TIMEOUT_SECONDS": "6"},
    patience=240.0,
)


WITH_LEDGER = (
    nothing,
    restarts,
    overloaded,
    resets,
    hangs,
    limited,
    unpublished,
    unconfirmed,
    copies,
    crowd,
    too_short,
)
WITH_LEDGER += (ends, ends_slow, ends_kept, drains, freezes, ledger_away, ledger_slow, ledger_full)
ALONE = tuple(without_ledger(each) for each in (overloaded, resets, unpublished, copies, too_short, drains))
FULL = (*WITH_LEDGER, *ALONE, everything)


def shortened(scenario, messages, rate=20.0, **changes):
    """The same with fewer messages."""
    return replace(scenario, messages=messages, rate=rate, **changes)


SHORT = (
    shortened(replace(resets, name="a bad model"), 60, manners=Manners(overloaded=0.1, reset=0.2)),
    shortened(unpublished, 60, troubles=[partial(publishing_fails, after=0.5, seconds=4.0)]),
    shortened(replace(crowd, name="copies"), 40, copies=Copies(1.0, 4, 1.0)),
    shortened(replace(ends, name="ends"), 100, 15.0, troubles=[partial(instances_end, every=1.5, kills=(True, False))]),
    shortened(ledger_away, 240, troubles=[ledger_restarts_once]),
)

# The check has to find what goes wrong here: copies of a message at two instances that share no ledger, and a loss.
CONTROL = (
    shortened(replace(crowd, name="two instances without a ledger"), 40, 20.0, ledger=False),
    shortened(replace(nothing, name="a loss"), 10, 20.0, troubles=[a_request_vanishes], patience=2.0),
)
LISTS = {"full": FULL, "short": SHORT, "control": CONTROL}

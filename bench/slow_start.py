"""How soon Pub/Sub's push has a model busy, and what it settles at: a simulation, and a check of it. Times in seconds.

A push subscription opens its window of concurrent pushes on acks and shuts it on failures, and after failures it slows
down as a whole. The relay refuses with 429 what is beyond its room (instances x CONCURRENCY), and that is a failure.
The model works on as many requests at once as it has slots; what it gets beyond them waits inside of it.

    python bench/slow_start.py --slots 64 --latency 2 --room 80                  # predict
    python bench/slow_start.py --slots 64 --latency 0.5 --room 80 --seconds 20 --messages 1500 --check
                                                             # and let the local Pub/Sub push the same, in real time
    python bench/slow_start.py --check --plots docs/benchmarks   # the checked situations, and the plots: two minutes

Google does not say by how much the window grows on an ack. `--growth local` is the local Pub/Sub's rule, `documented`
the other reading of "exponentially". Which is right decides what too little room costs: look at both.
"""

import argparse
import asyncio
import heapq
import itertools
import json
import math
import random
import subprocess
import sys
import time
import urllib.request
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from handler.local.pubsub.push import Pace
from handler.local.pubsub.rules import Rules

FULL = 0.95  # the share of the model's slots from which on it counts as busy
SENDING = 1 / 1800  # seconds: the local Pub/Sub sends 1,800 pushes a second (docs/local-pubsub.md)
QUICK_SECONDS, GOOD_SHARE = 1.0, 0.99  # a window above the largest stays there for such an endpoint only
MEMORY = 1 / 100  # weight of one push in the averages that this goes by; Google does not say over how many


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What is simulated."""

    slots: int
    """Requests that the model works on at once."""
    latency: float
    """Mean seconds of the model's work on one."""
    sigma: float = 0.5
    """Spread of that time, lognormal; 0: always the same."""
    instances: int = 1
    """Instances of the relay."""
    concurrency: int = 80
    """CONCURRENCY: messages that an instance works on at once."""
    routing: str = "least"
    """Which instance gets a push: the one with the least to do, as on Cloud Run and Knative, or any (`random`)."""
    wait: float = 0.0
    """Seconds that a push which finds no room waits for it in the platform, before it is refused."""
    backlog: int = 10_000
    """Messages that wait at the start."""
    rate: float = 0.0
    """Messages a second that come later."""
    overhead: float = 0.01
    """Seconds a message takes besides the model's work: half on the way there, half for its response."""
    sending: float = 0.0
    """Seconds that sending one push keeps the sender from the next: what one process on one machine is bound by."""
    ack_deadline: float = 600.0
    """Seconds after which a push has failed; the relay cuts its call of the model by then."""
    retry: tuple[float, float] = (10.0, 600.0)
    """The retry policy's least and longest wait of a message that failed."""
    growth: str = "local"
    """How the window grows: `local`, as the local Pub/Sub's, or `documented`."""
    largest_window: int = 3000
    """Concurrent pushes at most; with `documented` growth, from which on the window grows slowly."""
    seconds: float = 300.0
    """When the simulation ends, if messages are left."""
    seed: int = 1

    @property
    def room(self) -> int:
        """Messages that all instances together work on at once."""
        return self.instances * self.concurrency

    @property
    def rules(self) -> Rules:
        """The local Pub/Sub's."""
        return Rules(largest_window=self.largest_window)

    @property
    def most(self) -> float:
        """Answers a second with every slot in use."""
        return self.slots / self.latency

    def times(self) -> Iterator[float]:
        """One time of the model's work after the other."""
        draw = random.Random(self.seed)
        middle = math.log(self.latency) - self.sigma**2 / 2  # so that the mean is the latency
        while True:
            yield draw.lognormvariate(middle, self.sigma) if self.sigma else self.latency


@dataclass(slots=True)
class Record:
    """What happened, in seconds since the start: of a simulation, or observed."""

    used: list[tuple[float, int]] = field(default_factory=lambda: [(0.0, 0)])
    """The slots in use from a time on."""
    answers: list[float] = field(default_factory=list)
    nacks: list[float] = field(default_factory=list)
    """Refusals and expired ack deadlines."""
    most_deliveries: int = 0
    """Of one message."""

    def use(self, now: float, change: int) -> None:
        """Count slots that are taken or given back."""
        self.used.append((now, self.used[-1][1] + change))

    def slot_seconds(self, *edges: float) -> Sequence[float]:
        """The slots in use between each two of the times, added up."""
        times = [when for when, _ in self.used]
        pieces = ((later[0] - before[0]) * before[1] for before, later in itertools.pairwise(self.used))
        sums = list(itertools.accumulate(pieces, initial=0.0))
        places = [bisect_right(times, edge) - 1 for edge in edges]
        totals = [sums[at] + (edge - times[at]) * self.used[at][1] for at, edge in zip(places, edges, strict=True)]
        return [later - before for before, later in itertools.pairwise(totals)]


@dataclass(frozen=True, slots=True)
class Summary:
    """A record in figures. The steady ones are means, from when the slots in use first came near their most on.

    They end where less is left than fills the model.
    """

    ramp: float | None
    """Seconds until the slots were in use; None: never."""
    rate: float
    """Answers a second, steady."""
    nacks: float
    """Nacks a second, steady."""
    utilisation: float
    """Share of the slots in use, steady."""
    deliveries: float
    """Deliveries an answer, over all."""
    most_deliveries: int
    """Of one message."""
    answers: int
    finished: float | None
    """Seconds until everything was answered."""


def summarise(record: Record, situation: Situation) -> Summary:
    """Put a record into figures."""
    start, end = _reached(record, FULL * max(used for _, used in record.used)) or 0.0, _drained(record, situation)
    start = start if start < end else 0.0
    within = partial(_count, start=start, end=end)
    done = not situation.rate and len(record.answers) >= situation.backlog
    return Summary(
        ramp=_reached(record, FULL * situation.slots),
        rate=within(record.answers) / (end - start),
        nacks=within(record.nacks) / (end - start),
        utilisation=record.slot_seconds(start, end)[0] / (end - start) / situation.slots,
        deliveries=(len(record.answers) + len(record.nacks)) / max(1, len(record.answers)),
        most_deliveries=record.most_deliveries,
        answers=len(record.answers),
        finished=max(record.answers, default=0.0) if done else None,
    )


def _reached(record: Record, slots: float) -> float | None:
    """When so many slots were in use for the first time."""
    return next((when for when, used in record.used if used >= slots), None)


def _drained(record: Record, situation: Situation) -> float:
    """When less was left than fills the model; its end if that never was."""
    enough = situation.backlog - min(situation.slots, situation.room)
    if situation.rate or not 0 < enough <= len(record.answers):
        return situation.seconds
    return sorted(record.answers)[enough - 1]


def _count(times: Sequence[float], start: float, end: float) -> int:
    return sum(start < when <= end for when in times)


class LocalPace(Pace):
    """The local Pub/Sub's: the window doubles on every ack."""

    def measured(self, acked: bool, seconds: float) -> None:
        """Take note of how long a push took. The local Pub/Sub does not."""


class DocumentedPace(Pace):
    """As in TCP's slow start, which Google names: one more for an ack, which doubles the window each round trip.

    Above the largest window it grows by one a round trip, while the endpoint is quick and acks nearly everything.
    """

    def __init__(self, rules: Rules) -> None:
        super().__init__(replace(rules, largest_window=sys.maxsize))
        self._largest = rules.largest_window
        self._credit = 0
        self._seconds, self._share = 0.0, 1.0

    def settled(self, acked: bool, now: float) -> None:
        """Count an ack, or else a failure."""
        before = self.window
        super().settled(acked, now)
        if acked:
            self.window = before + self._more(before)
        if self._seconds > QUICK_SECONDS or self._share < GOOD_SHARE:
            self.window = min(self.window, self._largest)

    def measured(self, acked: bool, seconds: float) -> None:
        """Take note of how long a push took."""
        self._seconds += (seconds - self._seconds) * MEMORY
        self._share += (acked - self._share) * MEMORY

    def _more(self, window: int) -> int:
        if window < self._largest:
            return 1
        self._credit += 1
        if self._credit < window:
            return 0
        self._credit = 0
        return 1


PACES: dict[str, type[LocalPace] | type[DocumentedPace]] = {"local": LocalPace, "documented": DocumentedPace}


@dataclass(slots=True, eq=False)
class _Push:
    """One delivery of a message that failed `failures` times before. `instance` is -1 where it has no place."""

    failures: int
    begun: float
    instance: int = -1
    working: bool = False
    over: bool = False


class Simulation:
    """One situation, run once: messages wait, are pushed, find room or not, and a slot sooner or later."""

    def __init__(self, situation: Situation) -> None:
        self._situation = situation
        self._rules = situation.rules
        self._pace = PACES[situation.growth](self._rules)
        self._times = situation.times()
        self._draw = random.Random(situation.seed + 1)
        self._now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._wakes = math.inf
        self._ready = deque([0] * situation.backlog)  # the failures of each message that waits to be pushed
        self._out: deque[_Push] = deque()  # pushes by their start; those that are over leave late
        self._outstanding = 0
        self._sent = 0.0  # when the sender is done with the pushes so far
        self._places = [0] * situation.instances
        self._queue: deque[_Push] = deque()  # in the platform, for room
        self._model: deque[_Push] = deque()  # in the model, for a slot
        self._record = Record()

    def run(self) -> Record:
        """Run to the end."""
        if self._situation.rate:
            self._at(self._gap(), self._arrive)
        self._pump()
        while self._step():
            self._pump()
        return self._record

    def _step(self) -> bool:
        """Do what comes next; False at the end."""
        while self._out and self._out[0].over:
            self._out.popleft()
        expires = self._out[0].begun + self._situation.ack_deadline if self._out else math.inf
        when = min(expires, self._events[0][0] if self._events else math.inf)
        if when > self._situation.seconds:
            return False
        self._now = when
        if when == expires:
            self._expire(self._out[0])
        else:
            heapq.heappop(self._events)[2]()
        return True

    def _at(self, seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self._now + seconds, next(self._numbers), action))

    def _gap(self) -> float:
        return self._draw.expovariate(self._situation.rate)

    def _arrive(self) -> None:
        self._ready.append(0)
        self._at(self._gap(), self._arrive)

    # The subscription

    def _pump(self) -> None:
        """Push what the pace allows, as handler.local.pubsub.push.Pusher does."""
        while self._ready and self._outstanding < self._pace.window:
            opens = self._pace.opens()
            if self._now < opens:
                self._wake(opens)
                return
            self._start(_Push(self._ready.popleft(), self._now))

    def _wake(self, when: float) -> None:
        if self._wakes <= self._now or when < self._wakes:
            self._wakes = when
            heapq.heappush(self._events, (when, next(self._numbers), lambda: None))

    def _start(self, push: _Push) -> None:
        self._outstanding += 1
        self._out.append(push)
        self._pace.started(self._now)
        self._record.most_deliveries = max(self._record.most_deliveries, push.failures + 1)
        self._sent = max(self._sent, self._now) + self._situation.sending
        self._at(self._sent - self._now + self._situation.overhead / 2, partial(self._enter, push))

    def _settle(self, push: _Push, acked: bool) -> None:
        push.over = True
        self._outstanding -= 1
        self._pace.measured(acked, self._now - push.begun)
        self._pace.settled(acked, self._now)
        if acked:
            self._record.answers.append(self._now)
        else:
            self._at(self._pause(push.failures), partial(self._ready.append, push.failures + 1))

    def _pause(self, failures: int) -> float:
        low, high = self._situation.retry
        extra = self._pace.backoff if self._rules.combine == "sum" else 0.0
        return min(high, low * self._rules.backoff_growth ** min(failures, 64)) + extra

    def _expire(self, push: _Push) -> None:
        self._record.nacks.append(self._now)
        if push in self._model:
            self._model.remove(push)
        if push in self._queue:
            self._queue.remove(push)
        self._settle(push, acked=False)
        self._end_work(push)
        self._leave(push)

    # The relay

    def _enter(self, push: _Push) -> None:
        if push.over:
            return
        instance = self._instance()
        if instance >= 0:
            self._place(push, instance)
        elif self._situation.wait:
            self._queue.append(push)
            self._at(self._situation.wait, partial(self._give_up, push))
        else:
            self._refuse(push)

    def _place(self, push: _Push, instance: int) -> None:
        push.instance = instance
        self._places[instance] += 1
        self._ask(push)

    def _instance(self) -> int:
        """An instance with room, or -1."""
        if self._situation.routing == "random":
            chosen = self._draw.randrange(len(self._places))
        else:
            chosen = min(range(len(self._places)), key=self._places.__getitem__)
        return chosen if self._places[chosen] < self._situation.concurrency else -1

    def _give_up(self, push: _Push) -> None:
        if push in self._queue:
            self._queue.remove(push)
            self._refuse(push)

    def _refuse(self, push: _Push) -> None:
        self._record.nacks.append(self._now)
        self._at(self._situation.overhead / 2, partial(self._refused, push))

    def _refused(self, push: _Push) -> None:
        if not push.over:
            self._settle(push, acked=False)

    def _respond(self, push: _Push) -> None:
        if not push.over:
            self._settle(push, acked=True)
            self._leave(push)

    def _leave(self, push: _Push) -> None:
        """Give the place back, and let in who waits for one."""
        instance, push.instance = push.instance, -1
        if instance < 0:
            return
        self._places[instance] -= 1
        if self._queue:
            self._place(self._queue.popleft(), instance)

    # The model

    def _ask(self, push: _Push) -> None:
        if self._record.used[-1][1] < self._situation.slots:
            self._work(push)
        else:
            self._model.append(push)

    def _work(self, push: _Push) -> None:
        push.working = True
        self._record.use(self._now, 1)
        self._at(next(self._times), partial(self._finish, push))

    def _finish(self, push: _Push) -> None:
        if push.working:
            self._end_work(push)
            self._at(self._situation.overhead / 2, partial(self._respond, push))

    def _end_work(self, push: _Push) -> None:
        if not push.working:
            return
        push.working = False
        self._record.use(self._now, -1)
        if self._model:
            self._work(self._model.popleft())


def simulate(situation: Situation) -> Record:
    """Run a situation once."""
    return Simulation(situation).run()


def predict(situation: Situation) -> Summary:
    """Simulate a situation, and put it into figures."""
    return summarise(simulate(situation), situation)


# The same against the local Pub/Sub


class Endpoint:
    """The relay and the model as one HTTP endpoint, in a process of its own: /push, and GET / for the record."""

    def __init__(self, situation: Situation) -> None:
        self._room = situation.room
        self._times = situation.times()
        self._slots = asyncio.Semaphore(situation.slots)
        self._held = 0
        self._record = Record(used=[])
        self._record.used.append((time.monotonic(), 0))
        self._deliveries: dict[str, int] = {}

    async def push(self, request: Any) -> Any:
        """Answer after the model's time, or 429 where there is no room."""
        from aiohttp import web

        self._count(json.loads(await request.read())["message"]["messageId"])
        if self._held >= self._room:
            self._record.nacks.append(time.monotonic())
            return web.Response(status=429)
        self._held += 1
        try:
            await self._work()
        finally:
            self._held -= 1
        return web.Response(status=204)

    async def _work(self) -> None:
        async with self._slots:
            self._record.use(time.monotonic(), 1)
            try:
                await asyncio.sleep(next(self._times))
                self._record.answers.append(time.monotonic())
            finally:
                self._record.use(time.monotonic(), -1)

    def _count(self, message: str) -> None:
        self._deliveries[message] = self._deliveries.get(message, 0) + 1

    async def tell(self, _: Any) -> Any:
        """Give the record, in seconds of the machine's monotonic clock."""
        from aiohttp import web

        self._record.most_deliveries = max(self._deliveries.values(), default=0)
        return web.json_response(asdict(self._record))

    async def serve(self) -> None:
        """Serve until the process is ended; print the URL."""
        from aiohttp import web

        app = web.Application()
        app.add_routes([web.post("/push", self.push), web.get("/", self.tell)])
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=4096).start()
        print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
        await asyncio.Event().wait()


@contextmanager
def endpoint(situation: Situation) -> Iterator[str]:
    """Run the endpoint in a process; give its URL."""
    arguments = [sys.executable, __file__, "--serve", json.dumps(asdict(situation))]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout
        try:
            yield running.stdout.readline().strip()
        finally:
            running.terminate()


def observe(situation: Situation) -> Record:
    """Let the project's local Pub/Sub push the situation's backlog to the endpoint."""
    from handler.local.pubsub import LocalPubSub

    if situation.rate or situation.instances > 1 or situation.wait:
        raise SystemExit("--check knows a backlog and one instance without a queue before it: use --room, not --rate")
    with LocalPubSub(rules=situation.rules) as broker, endpoint(situation) as url:
        begun = _push(broker.address, url, situation)
        while time.monotonic() < begun + situation.seconds:
            record = _fetch(url)
            if len(record.answers) >= situation.backlog:
                break
            time.sleep(0.5)
    return _since(begun, record)


def _push(address: str, url: str, situation: Situation) -> float:
    """Publish the backlog, then let it be pushed; return when. Before, the subscription is one for pulling."""
    import grpc
    from google.pubsub_v1 import PublisherClient, SubscriberClient
    from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
    from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

    topic, name = "projects/bench/topics/requests", "projects/bench/subscriptions/push"
    with grpc.insecure_channel(address) as channel:
        publisher = PublisherClient(transport=PublisherGrpcTransport(channel=channel))
        subscriber = SubscriberClient(transport=SubscriberGrpcTransport(channel=channel))
        publisher.create_topic(name=topic)
        low, high = ({"seconds": int(each), "nanos": int(each % 1 * 1e9)} for each in situation.retry)
        subscriber.create_subscription(
            {
                "name": name,
                "topic": topic,
                "ack_deadline_seconds": int(situation.ack_deadline),
                "retry_policy": {"minimum_backoff": low, "maximum_backoff": high},
            }
        )
        for start in range(0, situation.backlog, 500):
            publisher.publish(topic=topic, messages=[{"data": b"x" * 500}] * min(500, situation.backlog - start))
        begun = time.monotonic()
        subscriber.modify_push_config(subscription=name, push_config={"push_endpoint": f"{url}/push"})
    return begun


def _fetch(url: str) -> Record:
    with urllib.request.urlopen(url) as answer:
        return Record(**json.load(answer))


def _since(begun: float, record: Record) -> Record:
    """The record in seconds since the beginning, instead of the machine's clock."""
    return Record(
        used=[(max(0.0, when - begun), used) for when, used in record.used],
        answers=[when - begun for when in record.answers],
        nacks=[when - begun for when in record.nacks],
        most_deliveries=record.most_deliveries,
    )


_64 = Situation(slots=64, latency=0.5, backlog=1500, seconds=18, retry=(1.0, 10.0), sending=SENDING)
CHECKED = (
    replace(_64, slots=16, latency=0.3, concurrency=3000, backlog=640),
    replace(_64, concurrency=3000),
    replace(_64, concurrency=80, largest_window=96),
    replace(_64, concurrency=80),
    replace(_64, concurrency=32),
)
"""What is checked when no situation is given: twice room enough, once a little too little, twice far too little."""


@dataclass(frozen=True, slots=True)
class Checked:
    """A situation, simulated and observed."""

    situation: Situation
    predicted: Record
    observed: Record


def check(situation: Situation) -> Checked:
    """Simulate a situation, and observe it."""
    return Checked(situation, simulate(situation), observe(situation))


# What is printed


def describe(situation: Situation) -> str:
    """Say in a line what is simulated."""
    spread = f"lognormal {situation.sigma:g}" if situation.sigma else "constant"
    arrivals = [f"{situation.backlog:,} waiting"] if situation.backlog else []
    arrivals += [f"{situation.rate:g}/s coming"] if situation.rate else []
    room = f"room {situation.room:,} = {situation.instances} x {situation.concurrency:,}"
    window = f"window to {situation.largest_window:,}, {situation.growth}"
    return ", ".join([f"{situation.slots} slots", f"{situation.latency:g} s ({spread})", room, *arrivals, window])


def rows(summary: Summary, situation: Situation) -> Sequence[tuple[str, str]]:
    """The figures, each with its name."""
    return (
        (f"{FULL:.0%} of the slots in use after", _seconds(summary.ramp)),
        (f"answers a second, of {situation.most:.1f} that the slots can", f"{summary.rate:.1f}"),
        ("slots in use, steady", f"{summary.utilisation:.1%}"),
        ("nacks a second", f"{summary.nacks:.1f}"),
        ("deliveries an answer", f"{summary.deliveries:.2f}"),
        ("most deliveries of one message", f"{summary.most_deliveries}"),
        ("answers", f"{summary.answers:,}"),
        ("everything answered after", _seconds(summary.finished)),
    )


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.2f} s"


def show(situation: Situation, **records: Record) -> None:
    """Print the figures of records of one situation, side by side."""
    columns = [rows(summarise(record, situation), situation) for record in records.values()]
    print(f"\n{describe(situation)}\n{'':<48}" + "".join(f"{name:>12}" for name in records))
    for lines in zip(*columns, strict=True):
        print(f"{lines[0][0]:<48}" + "".join(f"{value:>12}" for _, value in lines))


def show_time(record: Record, lines: int = 12) -> None:
    """Print a record over time."""
    end = max([*record.answers, *record.nacks], default=1.0)
    step = _round_up(end / lines)
    edges = [place * step for place in range(math.ceil(end / step) + 1)]
    used = record.slot_seconds(*edges)
    print(f"\n{'from':>10} {'to':>9} {'slots in use':>14} {'answers/s':>11} {'nacks/s':>9}")
    for (start, end), seconds in zip(itertools.pairwise(edges), used, strict=True):
        counts = [_count(each, start, end) / step for each in (record.answers, record.nacks)]
        print(f"{start:>8g} s {end:>7g} s {seconds / step:>14.1f} {counts[0]:>11.1f} {counts[1]:>9.1f}")


def _round_up(step: float) -> float:
    """Make a step 1, 2 or 5 times a power of ten."""
    power: float = 10.0 ** math.floor(math.log10(step))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= step * (1 - 1e-9))


# The plots

_RAMPS = tuple(
    Situation(slots=slots, latency=latency, concurrency=3000, backlog=20_000, seconds=100)
    for slots, latency in ((64, 0.5), (64, 2), (64, 8), (256, 2), (1024, 8))
)
_ROOMS = (16, 24, 32, 48, 56, 64, 68, 72, 80, 96, 128, 192, 256, 512, 1000, 1500, 2000, 2500, 3000, 4000)
_ROOMY = Situation(slots=64, latency=2, backlog=5000, seconds=3600)
_LINES = {"local": "the window doubles on every ack (local Pub/Sub)", "documented": "it doubles each round trip"}
_PLATFORM = 10.0  # seconds that Cloud Run lets a push wait for room


def plots(folder: Path, checked: Sequence[Checked]) -> None:
    """Write the plots as SVG, the third one only if something was checked. The same input gives the same files."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "slow-start", "svg.fonttype": "none", "axes.grid": True, "grid.alpha": 0.3})
    folder.mkdir(parents=True, exist_ok=True)
    _save(_plot_ramps(), folder / "slow-start-ramp.svg")
    _save(_plot_rooms(), folder / "slow-start-room.svg")
    if checked:
        _save(_plot_checked(checked), folder / "slow-start-check.svg")


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, metadata={"Date": None})
    # matplotlib ends some lines with a space.
    path.write_text("\n".join(line.rstrip() for line in path.read_text().splitlines()) + "\n")
    print(f"wrote {path}")


def _curve(record: Record, end: float, points: int = 150) -> tuple[list[float], list[float]]:
    """The slots in use over time, each a mean over a short while, in steps that plot well on a logarithmic axis."""
    edges = [0.0, *(end * 10 ** (3 * (place / points - 1)) for place in range(points + 1))]
    used = record.slot_seconds(*edges)
    return edges[1:], [
        area / (after - before) for area, (before, after) in zip(used, itertools.pairwise(edges), strict=True)
    ]


def _plot_ramps() -> Any:
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
    for panel, (growth, title) in zip(axes, _LINES.items(), strict=True):
        for situation in _RAMPS:
            times, used = _curve(simulate(replace(situation, growth=growth)), situation.seconds)
            shares = [each / situation.slots for each in used]
            panel.plot(times, shares, label=f"{situation.slots:,} slots, {situation.latency:g} s")
        panel.set(title=title, xscale="log", xlabel="seconds since the first push", xlim=(0.3, 100), ylim=(0, 1.05))
    axes[0].set_ylabel("share of the model's slots in use")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(_RAMPS), fontsize="small")
    return figure


def _plot_rooms() -> Any:
    from matplotlib import pyplot as plt

    figure, (rates, deliveries) = plt.subplots(1, 2, figsize=(10, 4.3), layout="constrained")
    for (growth, label), wait in itertools.product(_LINES.items(), (0.0, _PLATFORM)):
        found = [predict(replace(_ROOMY, concurrency=room, growth=growth, wait=wait)) for room in _ROOMS]
        look = {"linestyle": "--" if wait else "-", "color": "C0" if growth == "local" else "C1", "marker": "."}
        label += f"; a push waits {wait:g} s for room" if wait else ""
        rates.plot(_ROOMS, [each.rate for each in found], label=label, **look)
        deliveries.plot(_ROOMS, [each.deliveries for each in found], **look)
    ideal = [min(room, _ROOMY.slots) / _ROOMY.latency for room in _ROOMS]
    rates.plot(_ROOMS, ideal, color="grey", linestyle=":", label="min(room, slots) / seconds")
    rates.set(xscale="log", xlabel="room (instances x CONCURRENCY)", ylabel="answers a second", ylim=(0, None))
    deliveries.set(xscale="log", yscale="log", xlabel="room (instances x CONCURRENCY)", ylabel="deliveries an answer")
    waiting = f"{_ROOMY.backlog:,} waiting, until they are answered or for {_ROOMY.seconds:,.0f} s"
    figure.suptitle(f"{_ROOMY.slots} slots, {_ROOMY.latency:g} s an answer, {waiting}")
    figure.legend(loc="outside lower center", ncols=2, fontsize="small")
    return figure


def _plot_checked(checked: Sequence[Checked]) -> Any:
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(len(checked), 1, figsize=(8, 1.9 * len(checked)), squeeze=False, layout="constrained")
    for panel, one in zip(axes[:, 0], checked, strict=True):
        for name, record in (("predicted", one.predicted), ("observed", one.observed)):
            edges = [place / 4 for place in range(int(one.situation.seconds * 4) + 1)]
            used = [area * 4 for area in record.slot_seconds(*edges)]
            panel.stairs(used, edges, label=name)
        panel.set(ylabel="slots in use", ylim=(0, one.situation.slots * 1.1))
        panel.set_title(describe(one.situation), fontsize="small")
    axes[0, 0].legend(fontsize="small", loc="lower right")
    axes[-1, 0].set_xlabel("seconds since the first push")
    return figure


# The command line


def main() -> None:
    """Predict, check and plot what the arguments say."""
    arguments = _parser().parse_args()
    if arguments.serve:
        asyncio.run(Endpoint(Situation(**json.loads(arguments.serve))).serve())
        return
    checked = [_run(situation, arguments.check) for situation in _situations(arguments)]
    if arguments.plots:
        plots(arguments.plots, [each for each in checked if each])


def _run(situation: Situation, checks: bool) -> Checked | None:
    """Print what comes of one situation."""
    if checks:
        checked = check(situation)
        show(situation, predicted=checked.predicted, observed=checked.observed)
        return checked
    record = simulate(situation)
    show(situation, predicted=record)
    show_time(record)
    return None


def _situations(arguments: argparse.Namespace) -> Sequence[Situation]:
    """The situation that is asked for, or those that are checked."""
    if arguments.slots is None:
        return CHECKED
    given = {each.name: getattr(arguments, each.name, None) for each in fields(Situation)}
    if arguments.room:
        given["concurrency"] = arguments.room // (arguments.instances or 1)
    if arguments.rate and arguments.backlog is None:
        given["backlog"] = 0
    if arguments.check:
        given["sending"] = arguments.sending or SENDING
    return [Situation(**{name: value for name, value in given.items() if value is not None})]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, unit, meaning in _OPTIONS:
        field_name = "backlog" if name == "messages" else name.replace("-", "_")
        parser.add_argument(f"--{name}", dest=field_name, type=unit, help=meaning)
    parser.add_argument("--retry", type=float, nargs=2, metavar=("LEAST", "LONGEST"), help="the retry policy: 10 600")
    parser.add_argument("--routing", choices=["least", "random"], help="which instance gets a push: the least busy")
    parser.add_argument("--growth", choices=sorted(PACES), help="of the window: local")
    parser.add_argument("--check", action="store_true", help="let the local Pub/Sub push the same, in real time")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="write the plots there")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    return parser


_OPTIONS: Sequence[tuple[str, type, str]] = (
    ("slots", int, "requests that the model works on at once"),
    ("latency", float, "mean seconds of its work on one"),
    ("sigma", float, "their spread, lognormal: 0.5; 0: always the same"),
    ("room", int, "instances x CONCURRENCY, instead of --concurrency"),
    ("instances", int, "instances of the relay: 1"),
    ("concurrency", int, "CONCURRENCY: 80"),
    ("wait", float, "seconds that a push waits for room before it is refused: 0"),
    ("messages", int, "messages that wait at the start: 10000, or none with --rate"),
    ("rate", float, "messages a second that come later: 0"),
    ("overhead", float, "seconds a message takes besides the model's work: 0.01"),
    ("sending", float, "seconds that sending a push keeps the sender from the next: 0"),
    ("ack-deadline", float, "seconds: 600"),
    ("largest-window", int, "concurrent pushes at most: 3000"),
    ("seconds", float, "when to end: 300"),
    ("seed", int, "of the random times: 1"),
)


if __name__ == "__main__":
    main()

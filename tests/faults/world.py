"""All parts of one run: the broker, the instances, their ledger and their model, the requester, and the trouble."""

import os
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from balancer import Balancer
from check import Evidence, Outage, check
from loop import Loop
from model import Model
from processes import Instance, RedisServer
from requester import TOPICS, Requester

from handler.local.pubsub import Fault, LocalPubSub, Rules
from tests.parts.processes import holds

# What the instances are told. A shorter time than in production, so that a run has an end.
SETTINGS = {
    "PUSH_AUTH": "none",
    "ACK_DEADLINE_SECONDS": "40",
    "MODEL_TIMEOUT_SECONDS": "8",
    "PUBLISH_TIMEOUT_SECONDS": "6",
    "MAX_ATTEMPTS": "100",
    "RESPONSE_TOPIC": TOPICS["responses"],
    "LOG_LEVEL": "INFO",
}
# After the ledger is back: 3 s for which it is not asked, and until a renewal has told it what it missed.
LEDGER_CATCHES_UP_SECONDS = 6.0


class World:
    """One run of a scenario. Its methods are the troubles."""

    def __init__(self, scenario, seed, forks):
        self.scenario, self.seed, self._forks = scenario, seed, forks
        self.outages = []
        self._faults = []
        self._over = threading.Event()
        self._parts = ExitStack()

    def __enter__(self):
        with ExitStack() as parts:
            self._build(parts)
            self._parts = parts.pop_all()
        return self

    def __exit__(self, *_):
        self._parts.close()

    def _build(self, parts):
        scenario = self.scenario
        self._folder = Path(parts.enter_context(tempfile.TemporaryDirectory()))
        loop = parts.enter_context(Loop())
        rules = Rules(push_backoff=False, shortest_ack_deadline=1)
        self.broker = parts.enter_context(LocalPubSub(rules=rules))
        os.environ["PUBSUB_EMULATOR_HOST"] = self.broker.address
        self.model = parts.enter_context(Model(loop, self.seed, scenario.manners))
        self.balancer = parts.enter_context(Balancer(loop, self.seed, scenario.copies))
        settings = SETTINGS | {"MODEL_URL": self.model.url} | scenario.settings
        settings |= {"LEDGER_URL": ""}
        if scenario.ledger:
            self.redis = parts.enter_context(RedisServer(self._folder))
            settings |= {"LEDGER_URL": self.redis.url}
        made = [Instance(self._log(number), settings, self._forks) for number in range(scenario.instances)]
        instances = [parts.enter_context(each) for each in made]
        with ThreadPoolExecutor() as pool:
            list(pool.map(Instance.start, instances))
        self.balancer.instances = instances
        self.requester = parts.enter_context(
            Requester(self.balancer.url, scenario.ack_deadline, scenario.minimum_backoff)
        )

    def _log(self, number):
        return self._folder / f"instance-{number}.log"

    # --- the run

    def run(self):
        """Publish, make trouble meanwhile, wait for the responses and for quiet, and check."""
        scenario = self.scenario
        self._begun = time.time()
        with ThreadPoolExecutor() as pool:
            troubles = [pool.submit(trouble, self) for trouble in scenario.troubles]
            try:
                self.requester.publish(f"{scenario.name}-{self.seed}", scenario.messages, scenario.rate)
            finally:
                self._over.set()
            for trouble in troubles:
                trouble.result()
        holds(self.requester.has_all, scenario.patience)
        quiet = holds(self._is_quiet, scenario.patience)
        found = check(self._evidence())
        if not quiet:
            found.faults.append(("", "it does not come to rest"))
        self._look_at_errors(found)
        self._look_at_pace(found)
        found.faults += self._bugs()
        return found

    def _look_at_errors(self, found):
        """Only the model's own success counts as an answer, unless calls may hang."""
        errors = Counter((one.key, one.status) for one in self.requester.responses if one.status != 200)
        timeouts = sum(status == 504 for _, status in errors)
        if timeouts and self.model.manners.hung:
            found.notes.append(f"{timeouts} of the answers are 504: calls hung")
        found.faults += [
            (key, f"answered with {status}") for key, status in errors if status != 504 or not self.model.manners.hung
        ]

    def _look_at_pace(self, found):
        limit = self.scenario.calls_in_8_seconds
        most = self.model.most_calls_within(8.0)
        if limit is not None:
            found.notes.append(f"at most {most} calls of one message in 8 s")
            if most > limit:
                found.faults.append(("", f"{most} calls of one message in 8 s"))

    def _evidence(self):
        return Evidence(
            self.requester.published,
            self.requester.responses,
            self.model.calls,
            self.balancer.pushes,
            self.outages,
            self.balancer.killed_with,
            self.broker.stats().dead_lettered,
        )

    def _is_quiet(self):
        """Whether the broker has nothing left to deliver and no instance anything to work on."""
        stats = self.broker.stats()
        return self.balancer.idle and stats.published - stats.acked - 2 * stats.dead_lettered == 0

    def story(self, key):
        """All that happened to one request, in order; times from the start of the run."""

        def at(when):
            return f"{when - self._begun:7.3f}"

        events = [
            (one.began, f"call {one.outcome} until {at(one.ended)}") for one in self.model.calls if one.key == key
        ]
        events += [
            (one.began, f"push to {one.instance}: {one.status} at {at(one.ended)}")
            for one in self.balancer.pushes
            if one.key == key
        ]
        events += [(one.published, f"response {one.status}") for one in self.requester.responses if one.key == key]
        events += [(one.begin, f"{one.why} until {at(one.end)}") for one in self.outages]
        events += [event for instance in self.balancer.instances for event in instance.events]
        return [f"{at(when)} {what}" for when, what in sorted(events)]

    def reasons(self):
        """How the pushes ended, as the instances logged it."""
        reasons = Counter()
        for number in range(self.scenario.instances):
            reasons.update(_reasons(self._log(number).read_text()))
        return reasons

    def _bugs(self):
        return [("", f"{count} bugs in the log") for reason, count in self.reasons().items() if reason == "bug"]

    # --- the troubles

    def wait(self, seconds):
        """Wait so long; False at once when everything is published."""
        return not self._over.wait(seconds)

    def misbehave(self, **manners):
        """Change the model's manners."""
        self.model.manners = replace(self.model.manners, **manners)

    @contextmanager
    def fault(self, **fault):
        """Have the broker make trouble while the block runs."""
        self._faults.append(Fault(**fault))
        self._put_faults()
        try:
            yield
        finally:
            self._faults = [each for each in self._faults if each != Fault(**fault)]
            self._put_faults()

    def _put_faults(self):
        self.broker.faults.clear()
        for each in self._faults:
            self.broker.faults.add(each)

    @contextmanager
    def outage(self, why, lasting=0.0):
        """Note a time in which a promise cannot be kept; it lasts so much longer than the block."""
        begin = time.time()
        try:
            yield
        finally:
            self.outages.append(Outage(why, begin, time.time() + lasting))

    def ledger_outage(self):
        """Note that the ledger is away."""
        return self.outage("ledger away", LEDGER_CATCHES_UP_SECONDS)


def _reasons(log):
    return [line.split('"reason":')[1].split('"')[1] for line in log.splitlines() if '"reason":' in line]

"""Cancelling and counting: what the ledger in Redis keeps of it, against a real redis-server, and what memory does."""

import itertools
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from handler.ledger import Counts, Stage, State, cancels, scripts
from handler.ledger import redis as ledger_redis
from handler.ledger.memory import MemoryLedger
from handler.ledger.origin import milliseconds, origin_of, target_of
from handler.ledger.redis import RedisLedger
from tests.parts import redisserver
from tests.parts.processes import until
from tests.unit.test_ledger import DAY, LEASE, PATIENT, Clock

TOPIC = "projects/p/topics/responses"
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
NOON_MS = milliseconds(NOON)
WEEK = 7 * DAY


@pytest.fixture
def server(tmp_path):
    redisserver.needed()
    with redisserver.Server(tmp_path) as started:
        yield started


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def instance(server, clock):
    """Makes ledgers as other instances of the service have them."""
    made = []

    def one(**options):
        made.append(RedisLedger(server.url, 3600, DAY, clock=clock, **{"timeout_seconds": PATIENT, **options}))
        return made[-1]

    yield one
    for ledger in made:
        ledger.close()


@pytest.fixture
def a(instance):
    return instance()


@pytest.fixture
def b(instance):
    return instance()


def origin(message_id="1", published=NOON, **attributes):
    return origin_of(TOPIC, message_id, attributes, published)


def batch(batch_id="b", request_id=None, topic=TOPIC):
    return target_of(topic, batch_id, request_id)


MESSAGES = {
    "plain": origin("1"),
    "named": origin("2", custom_id="r"),
    "of a batch": origin("3", batch_id="b"),
    "named, of a batch": origin("4", batch_id="b", custom_id="r"),
    "of another batch": origin("5", batch_id="c", custom_id="r"),
    "without a time": origin("6", batch_id="b", published=None),
    "published later": origin("7", batch_id="b", custom_id="r", published=NOON + timedelta(milliseconds=1)),
}


@pytest.mark.parametrize(
    ("target", "meant"),
    [
        (batch("b"), {"of a batch", "named, of a batch", "without a time"}),
        (batch("b", "r"), {"named, of a batch"}),
        (batch("b", "3"), {"of a batch"}),
        (batch(None, "r"), {"named"}),
        (batch(None, "1"), {"plain"}),
        (batch(None, "4"), {"named, of a batch"}),
        (batch("nobody"), set()),
        (batch("b", topic="projects/p/topics/other"), set()),
        (batch(None, "1", topic="projects/p/topics/other"), set()),
    ],
)
@pytest.mark.parametrize("when", ["before the claim", "after it"])
def test_whom_a_cancel_means(a, b, target, meant, when):
    """Whatever was published before it and has that batch, that id or both, whichever instance has it or gets it."""
    if when == "before the claim":
        a.cancel(target, NOON_MS)
    claims = {name: b.claim(name, "one", one) for name, one in MESSAGES.items()}
    if when == "after it":
        a.cancel(target, NOON_MS)
    assert b._renew()
    assert {claim.state for claim in claims.values()} == {State.MINE}
    known = meant if when == "before the claim" else set()
    assert {name for name, claim in claims.items() if claim.cancelled} == known
    assert {name for name in MESSAGES if not b.grant_call(name, "one")} == meant


def test_nothing_is_cancelled_where_that_is_switched_off(a, b):
    """A message without an origin costs nothing more, and no cancel finds it."""
    a.cancel(batch(), NOON_MS)
    assert not b.claim("key", "one").cancelled
    assert b.grant_call("key", "one")


def test_a_cancel_is_for_what_was_published_before_it(a, b):
    """A later one means more; an earlier one that comes late, or again, takes nothing back."""
    for published in (NOON_MS, NOON_MS + 5, NOON_MS - 5):
        found = a.cancel(batch(), published)
    assert found.cancelled_before == NOON_MS + 5
    assert a.counts(batch()).cancelled_before == NOON_MS + 5
    assert b.claim("key", "one", origin(batch_id="b", published=NOON + timedelta(milliseconds=5))).cancelled
    assert not b.claim("later", "one", origin(batch_id="b", published=NOON + timedelta(milliseconds=6))).cancelled


def test_where_the_messages_of_a_batch_stand(a, b):
    """Each in one place, and there once, whatever is said twice, by another instance, or after the end."""
    of = {name: origin(name, batch_id="b", custom_id=name) for name in ("waits", "works", "back", "done", "bad", "off")}
    for name, one in of.items():
        a.claim(name, "one", one)
        b.claim(name, "two", one)  # which is taken
    for name in ("works", "back", "done", "bad"):
        assert a.grant_call(name, "one")
        assert a.grant_call(name, "one")
    a.release("back", "one", failed=True)
    for name, stage in (("done", Stage.ANSWERED), ("bad", Stage.FAILED), ("off", Stage.CANCELLED)):
        a.answered(name, "one", stage)
        b.claim(name, "two", of[name])
        a.release(name, "one", failed=True)  # of one who is late
    assert a.counts(batch()) == b.counts(batch()) == Counts(waiting=2, working=1, answered=1, failed=1, cancelled=1)
    assert a.counts(batch("other")) == Counts()


def test_who_lost_a_message_does_not_count_it(server, a, b):
    """The place is where its owner has it."""
    one = origin(batch_id="b")
    a.claim("key", "one", one)
    server.admin.delete("inference-relay:1:{key}:lease")
    b.claim("key", "two", one)
    b.grant_call("key", "two")
    a.release("key", "one", failed=False)
    assert a.counts(batch()) == Counts(working=1)


def test_where_one_request_stands(server, a, monkeypatch):
    """By its message's id or its own, among many; a request that was published twice has two messages."""
    monkeypatch.setattr(ledger_redis, "_PAGE", 10)
    server.admin.config_set("hash-max-ziplist-entries", 0)  # Redis gives a small hash in one page, whatever is asked
    for number in range(60):
        a.claim(f"{number}", "one", origin(f"{number}", batch_id="b", custom_id=f"r{number}"))
    a.grant_call("7", "one")
    a.claim("again", "one", origin("again", batch_id="b", custom_id="r7"))
    a.answered("again", "one", Stage.FAILED)
    assert a.stages(batch("b", "7")) == [Stage.WORKING]
    assert sorted(a.stages(batch("b", "r7"))) == [Stage.FAILED, Stage.WORKING]
    assert a.stages(batch("b", "r8")) == [Stage.WAITING]
    assert a.stages(batch("b", "nobody")) == a.stages(batch("c", "r7")) == a.stages(batch(None, "r7")) == []


@pytest.mark.parametrize("of_a_batch", [True, False])
def test_the_counts_at_the_moment_of_a_cancel(a, b, of_a_batch):
    """What it says is with the model or done is all that the model is ever called for."""
    of = {f"{n}": origin(f"{n}", **({"batch_id": "b"} if of_a_batch else {})) for n in range(20)}
    for name, one in of.items():
        (a, b)[int(name) % 2].claim(name, "one", one)
    begun = [name for name in of if int(name) < 7 and (a, b)[int(name) % 2].grant_call(name, "one")]
    if of_a_batch:
        found = b.cancel(batch(), NOON_MS)
        assert (found.working, found.waiting) == (7, 13)
        assert not any((a, b)[int(name) % 2].grant_call(name, "one") for name in of)
    else:
        assert b.cancel(batch(None, "19"), NOON_MS).working == 0
    assert len(begun) == 7


class Batch:
    """A batch of four messages in two instances, and where each has to be counted by all that was done to it."""

    _numbers = itertools.count()
    final = frozenset({Stage.ANSWERED, Stage.FAILED, Stage.CANCELLED})

    def __init__(self, server, ledgers):
        self.name = f"batch-{next(self._numbers)}"
        self.server, self.ledgers = server, ledgers
        self.keys = [f"{self.name}-{number}" for number in range(4)]
        self.stands, self.holders, self.is_off = {}, {}, False

    def put(self, message, stage):
        if self.stands.get(message) not in self.final:
            self.stands[message] = stage

    def claim(self, message, instance):
        one = origin(self.keys[message], batch_id=self.name)
        if self.ledgers[instance].claim(self.keys[message], f"owner {instance}", one).state is State.MINE:
            self.holders[message] = instance
            self.put(message, Stage.WAITING)

    def grant_call(self, message, instance):
        if self.holders.get(message) == instance:
            assert self.ledgers[instance].grant_call(self.keys[message], f"owner {instance}") is not self.is_off
            self.put(message, self.stands[message] if self.is_off else Stage.WORKING)

    def release(self, message, instance):
        if self.holders.get(message) == instance:
            self.ledgers[instance].release(self.keys[message], f"owner {instance}", failed=True)
            self.put(message, Stage.WAITING)
            del self.holders[message]

    def answer(self, message, instance, stage):
        if self.holders.get(message) == instance:
            self.ledgers[instance].answered(self.keys[message], f"owner {instance}", stage)
            self.put(message, stage)
            del self.holders[message]

    def cancel(self, _message, instance):
        found = self.ledgers[instance].cancel(target_of(TOPIC, self.name, None), NOON_MS)
        self.is_off = True
        assert found.working == sum(stage is Stage.WORKING for stage in self.stands.values())

    def lose(self, message, _instance):
        self.server.admin.delete(f"inference-relay:1:{{{self.keys[message]}}}:lease")
        self.holders.pop(message, None)


STEPS = {
    **{name: getattr(Batch, name) for name in ("claim", "grant_call", "release", "cancel", "lose")},
    **{stage.name: partial(Batch.answer, stage=stage) for stage in Batch.final},
}
steps = st.lists(st.tuples(st.sampled_from(sorted(STEPS)), st.integers(0, 3), st.integers(0, 1)), max_size=40)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=steps)
def test_the_counts_are_exact_whatever_happens(server, a, b, steps):
    """In any order, by two instances, with leases that are lost: as many as there are messages, each in its place."""
    made = Batch(server, (a, b))
    for step, message, instance in steps:
        STEPS[step](made, message, instance)
    found, expected = a.counts(target_of(TOPIC, made.name, None)), Counter(made.stands.values())
    assert {stage: getattr(found, stage.name.lower()) for stage in Stage} == {stage: expected[stage] for stage in Stage}


# --- what is in Redis


def test_what_is_in_redis(server, a):
    """Two keys more, each with an end, and no word of a requester's in them."""
    a.claim("key", "one", origin("secret id", batch_id="secret batch", custom_id="secret request"))
    a.cancel(batch("secret batch"), NOON_MS)
    more = server.names() - {"inference-relay:1:{key}:lease"}
    assert {key.rsplit(":", 1)[0] for key in more} == {"inference-relay:1", "inference-relay:1:batch"}
    assert all(WEEK - 60 < server.admin.ttl(key) <= WEEK for key in more)
    contents = [server.admin.zrange("inference-relay:1:cancelled", 0, -1, withscores=True)]
    contents += [server.admin.hgetall(key) for key in more if ":batch:" in key]
    assert "secret" not in f"{more} {contents}"


def test_an_old_cancel_is_forgotten_with_the_next(server, a):
    """Pub/Sub has no message any more that it meant."""
    long_ago = milliseconds(datetime.now(UTC)) - WEEK * 1000 - 60_000
    a.cancel(batch("old"), long_ago)
    a.cancel(batch("new"), NOON_MS)
    assert server.admin.zcard("inference-relay:1:cancelled") == 2  # the new one, and when
    assert a.counts(batch("old")).cancelled_before == 0


def test_there_are_not_more_cancels_than_there_is_room_for(a, b, monkeypatch):
    """One too many is refused, and nothing that was confirmed is taken back; this instance alone knows it."""
    monkeypatch.setattr(scripts, "MAX_CANCELS", 3)
    assert [a.cancel(batch(f"{n}"), NOON_MS) is None for n in range(4)] == [False, False, True, True]
    assert b.claim("confirmed", "one", origin(batch_id="0")).cancelled
    assert not b.claim("refused", "one", origin(batch_id="3")).cancelled
    assert a.claim("refused here", "one", origin(batch_id="3")).cancelled
    assert a.troubles == 0


def test_a_batch_with_more_messages_than_are_counted(a, monkeypatch):
    """The counts say that they are not all; what is counted goes on to be."""
    monkeypatch.setattr(scripts, "MAX_COUNTED", 4)  # with the fields that count
    for number in range(5):
        a.claim(f"{number}", "one", origin(f"{number}", batch_id="b"))
    a.grant_call("0", "one")
    found = a.counts(batch())
    assert (found.complete, found.waiting + found.working, found.working) == (False, 3, 1)
    assert a.cancel(batch(), NOON_MS)
    assert not a.grant_call("4", "one")  # which can be cancelled all the same


# --- who asks when


def test_a_message_of_no_batch_is_asked_for_only_after_a_cancel(a, b, monkeypatch):
    """Until this process hears that something was cancelled since the claim."""
    sent = []
    monkeypatch.setattr(
        a, "_ask", lambda question, *rest: sent.append(question) or RedisLedger._ask(a, question, *rest)
    )
    a.claim("key", "one", origin("1"))
    sent.clear()
    assert a.grant_call("key", "one")
    assert sent == []
    b.cancel(batch("another"), NOON_MS)
    assert a.grant_call("key", "one")
    assert sent == []
    assert a._renew()
    sent.clear()
    assert a.grant_call("key", "one")
    assert len(sent) == 1
    b.cancel(batch(None, "1"), NOON_MS)
    assert not a.grant_call("key", "one")
    a.claim("next", "one", origin("2"))
    sent.clear()
    assert a.grant_call("next", "one")
    assert sent == []


def test_who_waits_hears_of_a_cancel_in_time(instance, b):
    """Before `spread_seconds` are over the renewal has told every instance."""
    a = instance(lease_seconds=LEASE)
    assert a.spread_seconds >= LEASE / 3
    a.claim("key", "one", origin("1"))
    b.cancel(batch(None, "1"), NOON_MS)
    until(lambda: not a.grant_call("key", "one"))


def test_two_cancels_at_once_are_two(a, b):
    """The last one is later than the one before, even within the same microsecond or after a clock that went back."""
    a.claim("key", "one", origin("1"))
    for number in range(50):
        b.cancel(batch(f"{number}"), NOON_MS)
        a._renew()
        assert a._cancels.is_to_be_asked(cancels.Pair("key", "one"))
        heard = a._cancels._last
        a.claim("key", "one", origin("1"))
        assert a._cancels._last == heard


# --- trouble


def test_without_redis_nobody_is_held_up(server, a, clock):
    """A cancel is not confirmed, and is kept where it came; calls go on; counts are not known."""
    a.claim("before", "one", origin("1", batch_id="b"))
    server.kill()
    assert a.grant_call("before", "one")
    assert a.cancel(batch(), NOON_MS) is None
    assert a.counts(batch()) is None
    assert a.stages(batch("b", "1")) is None
    assert not a.grant_call("before", "one")
    assert a.claim("after", "one", origin("2", batch_id="b")).cancelled
    assert a.grant_call("other", "one")
    assert a.troubles == 1


def test_the_counts_are_made_good_after_an_outage(server, a, b, clock):
    """What Redis has missed is told later, with the place of each message."""
    of = {name: origin(name, batch_id="b") for name in ("done", "back", "held")}
    for name, one in of.items():
        a.claim(name, "one", one)
    server.pause()
    a.answered("done", "one", Stage.ANSWERED)
    a.release("back", "one", failed=False)
    a.grant_call("held", "one")
    server.go_on()
    clock.now += ledger_redis.BYPASS_SECONDS
    assert a._renew()
    assert b.counts(batch()) == Counts(waiting=2, answered=1)


def test_redis_is_full(server, a):
    """Nothing new is counted; what is done is, and a cancel is noted: both make room first."""
    a.claim("key", "one", origin(batch_id="b"))
    server.admin.config_set("maxmemory", 1)
    a.answered("key", "one", Stage.ANSWERED)
    assert a.cancel(batch(), NOON_MS) == Counts(answered=1, cancelled_before=NOON_MS)
    assert a.troubles == 0
    assert a.claim("new", "one", origin("2", batch_id="b", published=NOON + timedelta(seconds=1))).state is State.MINE
    assert a.troubles == 1


def test_in_memory_nothing_is_cancelled():
    """It would hold for one instance alone, and says so by confirming nothing."""
    ledger = MemoryLedger(3600)
    assert ledger.cancel(batch(), NOON_MS) is None
    assert ledger.counts(batch()) is None
    assert ledger.stages(batch("b", "1")) == []
    assert not ledger.claim("key", "one", origin(batch_id="b")).cancelled
    assert ledger.grant_call("key", "one")
    ledger.answered("key", "one", Stage.CANCELLED)
    assert ledger.claim("key", "one", origin(batch_id="b")).state is State.ANSWERED


# --- names


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5)


@given(first=st.tuples(texts, texts), second=st.tuples(texts, texts))
def test_names_are_not_mistaken_for_each_other(first, second):
    """A request's name within a batch says which batch, however the two are cut."""
    one, other = (target_of(TOPIC, *pair) for pair in (first, second))
    assert (one == other) is (first == second)
    assert (
        origin_of(TOPIC, "1", dict(zip(("batch_id", "custom_id"), first, strict=True)), NOON).names[1] == one.names[1]
    )


@pytest.mark.parametrize(
    ("time", "expected"), [(None, 0), (NOON, 1893499200000), (datetime.min.replace(tzinfo=UTC), 0)]
)
def test_milliseconds(time, expected):
    """Of what can be no time of publication nothing is known."""
    assert milliseconds(time) == expected

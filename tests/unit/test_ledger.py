"""The ledger: what both kinds promise, and that of Redis under faults, against a real redis-server."""

import socket
import socketserver
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import pytest
import redis
import trustme
from redis.exceptions import RedisError

from handler.config.settings import Settings
from handler.ledger import Claim, State, leases, scripts
from handler.ledger import redis as ledger_redis
from handler.ledger.connect import connect
from handler.ledger.memory import MemoryLedger
from handler.ledger.redis import RedisLedger
from tests.parts import redisserver
from tests.parts.garbage import uncollected
from tests.parts.processes import free_port, until
from tests.parts.redisserver import Server

PASSWORD = "hunter2"
DAY = 86_400
LEASE = 0.4  # seconds; short, where a test has to see one end
PATIENT = 2.0  # seconds for a reply: a Redis beside busy tests takes longer than one in trouble may


class Clock:
    """A clock that only goes when it is told to."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def start(tmp_path) -> Iterator[Callable[..., Server]]:
    """Starts servers; they end with the test."""
    redisserver.needed()
    with ExitStack() as servers:
        yield lambda *options: servers.enter_context(Server(tmp_path, *options, password=PASSWORD))


@pytest.fixture
def server(start) -> Server:
    return start()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def instance() -> Iterator[Callable[..., RedisLedger]]:
    """Makes ledgers as other instances of the service have them; they are closed with the test."""
    ledgers = []

    def one(url: str, answered_seconds: float = 3600, kept_seconds: float = DAY, **options) -> RedisLedger:
        ledgers.append(RedisLedger(url, answered_seconds, kept_seconds, **options))
        return ledgers[-1]

    yield one
    for ledger in ledgers:
        ledger.close()


@pytest.fixture
def a(server, instance, clock) -> RedisLedger:
    return instance(server.url, clock=clock, timeout_seconds=PATIENT)


@pytest.fixture
def quick(server, instance, clock) -> RedisLedger:
    """One that waits no longer than the service does."""
    return instance(server.url, clock=clock)


@pytest.fixture
def b(server, instance, clock) -> RedisLedger:
    return instance(server.url, clock=clock, timeout_seconds=PATIENT)


def lease_of(key: str) -> str:
    return f"inference-relay:1:{{{key}}}:lease"


def use_all(ledger):
    """Every method, once."""
    ledger.claim("all", "one")
    ledger.holds("all", "one")
    ledger.keep("all", "one", b"small")
    ledger.keep("all", "one", b"large" * ledger_redis.LARGE_BYTES)
    ledger.release("all", "one", failed=True)
    ledger.claim("all", "two")
    ledger.answered("all", "two")


# What both promise


@pytest.fixture(params=["memory", "redis"])
def make(request) -> Callable[..., MemoryLedger | RedisLedger]:
    if request.param == "memory":
        return MemoryLedger
    url, instance = request.getfixturevalue("server").url, request.getfixturevalue("instance")
    return lambda *arguments: instance(url, *arguments)


@pytest.fixture
def ledger(make) -> MemoryLedger | RedisLedger:
    return make(3600, DAY)


def test_a_new_message_is_granted(ledger):
    """The first claim of a message is granted, and nothing was kept of it."""
    claim = ledger.claim("key", "one")
    assert (claim.state, claim.kept) == (State.MINE, None)
    assert ledger.holds("key", "one")


def test_a_claim_may_be_repeated(ledger):
    """The same attempt may ask again."""
    ledger.claim("key", "one")
    assert ledger.claim("key", "one").state is State.MINE


def test_an_answered_message_is_answered_for_all(ledger):
    """Whoever claims an answered message learns it, and no more."""
    ledger.claim("key", "one")
    ledger.keep("key", "one", b"response")
    ledger.answered("key", "one")
    assert [ledger.claim("key", owner) for owner in ("one", "two")] == [Claim(State.ANSWERED)] * 2
    assert ledger.claim("other", "one").state is State.MINE


def test_an_answer_is_remembered_for_its_time_and_what_was_kept_is_not(make):
    """When ANSWERED_TTL_SECONDS have passed, nothing is known of the message."""
    ledger = make(0.2, DAY)
    ledger.claim("key", "one")
    ledger.keep("key", "one", b"response")
    ledger.answered("key", "one")
    ledger.keep("key", "one", b"late")
    until(lambda: ledger.claim("key", "two").state is State.MINE)
    assert ledger.claim("key", "two").kept is None


def test_a_kept_response_waits_for_the_redelivery(ledger):
    """It comes back with the next claim, as it was, the last one of several; and again until it is answered."""
    ledger.claim("key", "one")
    ledger.keep("key", "one", b"first")
    ledger.keep("key", "one", b"\x00\xff" * 5_000_000)
    ledger.release("key", "one", failed=False)
    for owner in ("two", "three"):
        assert ledger.claim("key", owner).kept == b"\x00\xff" * 5_000_000
        ledger.release("key", owner, failed=False)


def test_a_kept_response_is_not_kept_for_ever(make):
    """When its time has passed, the model is called again."""
    ledger = make(3600, 0.2)
    ledger.claim("key", "one")
    ledger.keep("key", "one", b"response")
    until(lambda: ledger.claim("key", "one").kept is None)


@pytest.mark.parametrize(
    "end",
    [
        lambda ledger: ledger.release("key", "one", failed=False),
        lambda ledger: ledger.release("key", "one", failed=True),
        lambda ledger: ledger.answered("key", "one"),
    ],
)
def test_what_ended_is_held_no_more(ledger, end):
    """Neither the one whose claim has ended nor one who never had it holds the message."""
    ledger.claim("key", "one")
    assert not ledger.holds("key", "stranger")
    end(ledger)
    assert not ledger.holds("key", "one")
    assert not ledger.keep("key", "one", b"late")


def test_nothing_is_held_that_somebody_has_answered(ledger):
    """An answer takes the message from whoever works on it."""
    ledger.claim("key", "one")
    ledger.answered("key", "two")
    assert not ledger.holds("key", "one")


def test_many_threads(ledger):
    """Any thread may ask at any time; with 200 of them every message is as its own thread left it."""

    def work(number):
        ledger.claim(f"key {number}", "one")
        ledger.keep(f"key {number}", "one", str(number).encode())
        ledger.release(f"key {number}", "one", failed=False)
        return ledger.claim(f"key {number}", "two").kept

    with ThreadPoolExecutor(200) as pool:
        assert list(pool.map(work, range(200))) == [str(number).encode() for number in range(200)]
    assert ledger.troubles == 0


def test_a_closed_ledger_still_answers(ledger):
    """Closing is safe at any time, and twice."""
    ledger.claim("key", "one")
    ledger.close()
    ledger.close()
    use_all(ledger)
    assert ledger.troubles == 0


# Making one

SETTINGS = {"MODEL_URL": "http://model", "RESPONSE_TOPIC": "projects/p/topics/topic", "PUSH_AUTH": "platform"}


def test_the_ledger_is_in_memory_without_a_url():
    """Nothing else is needed to start."""
    assert isinstance(connect(Settings.from_environment(SETTINGS)), MemoryLedger)


def test_the_ledger_is_in_redis_with_a_url(server):
    """Responses are kept as long as Pub/Sub keeps a message by default, however short a time it is tried for."""
    given = {"LEDGER_URL": server.url, "MAX_AGE_SECONDS": "300", "ANSWERED_TTL_SECONDS": "100"}
    ledger = connect(Settings.from_environment(SETTINGS | given))
    assert PASSWORD not in repr(ledger)
    ledger.claim("key", "one")
    ledger.keep("key", "one", b"response")
    ledger.answered("other", "one")
    ledger.close()
    assert 7 * DAY - 60 < server.admin.ttl("inference-relay:1:{key}:kept") <= 7 * DAY
    assert 40 < server.admin.ttl("inference-relay:1:{other}:answered") <= 100


def test_nothing_runs_before_the_first_claim(server, instance):
    """A process that forks must not have started a thread or a connection; one that has closed has none left."""
    threads, clients = set(threading.enumerate()), len(server.admin.client_list())
    ledger = instance(server.url)
    assert (set(threading.enumerate()), len(server.admin.client_list())) == (threads, clients)
    for owner in ("one", "two"):
        ledger.claim("key", owner)
    ledger.claim("other", "three")
    assert len(set(threading.enumerate()) - threads) == 1
    ledger.close()
    assert set(threading.enumerate()) == threads
    until(lambda: len(server.admin.client_list()) == clients)


def test_no_operation_waits_long_or_is_retried(quick):
    """redis-py would wait for seconds and try again and again; an installed version may not change that."""
    connections = [client.connection_pool.make_connection() for client in (quick._client, quick._large_client)]
    assert [(one.socket_timeout, one.socket_connect_timeout) for one in connections] == [(0.3, 0.3), (2.0, 2.0)]
    assert [(one.retry._retries, one.health_check_interval) for one in connections] == [(0, 0)] * 2


# Two instances


def test_only_one_of_many_gets_a_message(server, instance):
    """Of 200 copies at once in two instances one is granted."""
    a, b = (instance(server.url, timeout_seconds=10.0) for _ in range(2))  # 200 threads take turns
    barrier = threading.Barrier(200)

    def claim(number):
        barrier.wait()
        return (a, b)[number % 2].claim("key", f"owner {number}").state

    with ThreadPoolExecutor(200) as pool:
        states = Counter(pool.map(claim, range(200)))
    assert states == {State.MINE: 1, State.TAKEN: 199}
    assert (a.troubles, b.troubles) == (0, 0)


def test_a_message_goes_on_to_the_next_when_it_is_given_back(a, b):
    """With the response that was kept, from whichever instance."""
    a.claim("key", "one")
    assert b.claim("key", "two") == Claim(State.TAKEN, failures=0)
    assert not b.holds("key", "two")
    assert a.keep("key", "one", b"response")
    a.release("key", "one", failed=False)
    assert b.claim("key", "two") == Claim(State.MINE, kept=b"response", failures=0)
    b.answered("key", "two")
    assert a.claim("key", "three") == Claim(State.ANSWERED)


def test_failures_are_counted_across_instances(a, b):
    """One for each attempt that failed, even if its release is sent twice; they are forgotten with the answer."""
    for number, ledger in enumerate((a, b, a)):
        owner = f"owner {number}"
        assert ledger.claim("key", owner).failures == number
        ledger.release("key", owner, failed=True)
        ledger.release("key", owner, failed=True)
    a.claim("key", "last")
    a.release("key", "last", failed=False)
    assert b.claim("key", "last").failures == 3


def test_what_is_in_redis(server, a):
    """Keys with a version and a hash tag, each with an end; and after the answer nothing but the mark."""
    a.claim("key", "one")
    a.keep("key", "one", b"response")
    a.release("key", "one", failed=True)
    a.claim("key", "two")
    names = {f"inference-relay:1:{{key}}:{name}": name for name in ("lease", "kept", "failed")}
    assert server.names() == set(names)
    ends = {name: server.admin.pttl(key) / 1000 for key, name in names.items()}
    assert 10 < ends["lease"] <= 15
    assert DAY - 60 < ends["kept"] <= DAY
    assert DAY - 60 < ends["failed"] <= DAY
    a.answered("key", "two")
    a.release("key", "one", failed=True)  # of one who is late
    assert server.names() == {"inference-relay:1:{key}:answered"}


def test_a_lease_is_renewed_while_it_is_held(server, instance, b):
    """Long after its first end the message is still taken, and its owner's."""
    seconds = 4 * LEASE  # so that a busy machine has time to renew it
    a = instance(server.url, lease_seconds=seconds)
    a.claim("key", "one")
    end = time.monotonic() + 2.5 * seconds
    while time.monotonic() < end:
        assert b.claim("key", "two").state is State.TAKEN
        time.sleep(0.01)
    assert a.holds("key", "one")


def test_the_lease_of_a_dead_instance_ends(server, instance, b):
    """Another instance takes the message over; what the first one kept is there."""
    a = instance(server.url, lease_seconds=LEASE)
    a.claim("key", "one")
    a.keep("key", "one", b"response")
    a.close()
    until(lambda: b.claim("key", "two").state is State.MINE)
    assert b.claim("key", "two").kept == b"response"


def test_one_who_lost_a_message_neither_publishes_nor_disturbs(server, a, b):
    """An instance that was asleep for longer than its lease must not touch what another one has now."""
    a.claim("key", "one")
    server.admin.delete(lease_of("key"))
    b.claim("key", "two")
    assert not a.holds("key", "one")
    assert not a.keep("key", "one", b"response")
    a.release("key", "one", failed=False)
    assert b.holds("key", "two")
    assert server.admin.get(lease_of("key")) == b"two"
    assert server.names() == {lease_of("key")}


def test_an_answer_counts_whoever_gave_it(server, a, b):
    """One who published although the message was taken over meanwhile says so, and the other one must not publish."""
    a.claim("key", "one")
    server.admin.delete(lease_of("key"))
    b.claim("key", "two")
    a.answered("key", "one")
    assert server.admin.get(lease_of("key")) == b"two"
    assert not b.holds("key", "two")
    assert not b.keep("key", "two", b"response")
    b.answered("key", "two")
    assert server.names() == {"inference-relay:1:{key}:answered"}


def test_a_renewal_finds_a_lost_lease(server, instance, clock):
    """It is known even when Redis is away at the moment of publishing."""
    a = instance(server.url, lease_seconds=LEASE, clock=clock)
    a.claim("key", "one")
    server.admin.set(lease_of("key"), "two")
    until(lambda: not a._leases.is_ours(leases.Pair("key", "one")))
    server.kill()
    assert not a.holds("key", "one")


def test_a_lost_message_that_nobody_wanted_is_taken_back(server, instance):
    """The other one gave it back without an answer: the response that has been paid for may be published."""
    a = instance(server.url, lease_seconds=LEASE)
    a.claim("key", "one")
    server.admin.set(lease_of("key"), "two")
    until(lambda: not a._leases.is_ours(leases.Pair("key", "one")))
    server.admin.delete(lease_of("key"))
    assert a.holds("key", "one")
    assert server.admin.get(lease_of("key")) == b"one"


def test_nothing_is_sent_without_a_claim(a):
    """An idle instance leaves Redis alone."""
    assert a._renew()
    assert a._client.connection_pool._available_connections == []


def test_a_release_that_its_renewal_overtakes(server, a):
    """The lease that the renewal brought back is given back with the next one."""
    a.claim("key", "one")
    pairs = a._leases.held()
    a.release("key", "one", failed=False)
    a._leases.held = lambda: pairs
    assert not a._renew()
    assert server.names() == {lease_of("key")}
    a._leases.held = list
    assert a._renew()
    assert server.names() == set()


def test_a_flush_takes_nothing_away(server, a, b):
    """A lease that is gone is nobody's: its owner takes it back, unless another one was there first."""
    a.claim("key", "one")
    a.claim("other", "one")
    server.admin.flushall()
    b.claim("other", "two")
    assert a.holds("key", "one")
    assert b.claim("key", "two").state is State.TAKEN
    assert not a.holds("other", "one")


def test_keeping_takes_back_what_is_nobodys(server, a, b):
    """As asking whether it is held does: whoever keeps a response is about to publish it."""
    a.claim("key", "one")
    server.admin.flushall()
    assert a.keep("key", "one", b"response")
    assert b.claim("key", "two").state is State.TAKEN


def test_renewals_bring_leases_back(server, instance):
    """A Redis that lost everything has the leases again before anybody asks for them."""
    a = instance(server.url, lease_seconds=LEASE)
    a.claim("key", "one")
    server.admin.flushall()
    until(lambda: server.names() == {lease_of("key")})


# Trouble


def test_without_redis_an_instance_goes_on_alone(server, a, clock):
    """It grants what it does not know to be answered, and remembers what it does itself."""
    a.claim("answered before", "one")
    a.answered("answered before", "one")
    a.claim("kept before", "one")
    a.keep("kept before", "one", b"before")
    server.kill()
    a.claim("answered after", "one")
    a.answered("answered after", "one")
    a.keep("kept after", "one", b"after")
    claims = [a.claim(f"{what} {then}", "two") for what in ("answered", "kept") for then in ("before", "after")]
    kept = [Claim(State.MINE, kept=one) for one in (b"before", b"after")]
    assert claims == [Claim(State.ANSWERED)] * 2 + kept
    assert a.claim("new", "one") == Claim(State.MINE)
    assert a.holds("new", "one")
    assert a.troubles == 1


def test_what_was_known_survives_a_redis_that_forgets(server, a, clock):
    """After a restart Redis is empty; the instance that did the work still has its own memory."""
    a.claim("answered", "one")
    a.answered("answered", "one")
    a.claim("kept", "one")
    a.keep("kept", "one", b"response")
    a.release("kept", "one", failed=False)
    server.kill()
    server.start()
    assert a.claim("answered", "two") == Claim(State.ANSWERED)
    assert a.claim("kept", "two") == Claim(State.MINE, kept=b"response", failures=0)


@pytest.mark.parametrize("size", [1, ledger_redis.LARGE_BYTES])
def test_what_was_kept_without_redis_reaches_it_with_the_redelivery(server, a, b, clock, size):
    """The next redelivery may come to another instance, which would call the model again."""
    response = b"x" * size
    a.claim("key", "one")
    server.kill()
    a.keep("key", "one", response)
    a.release("key", "one", failed=False)
    server.start()
    clock.now += ledger_redis.BYPASS_SECONDS
    assert a.claim("key", "two").kept == response
    a.release("key", "two", failed=False)
    assert b.fetch("key") == response
    assert b.claim("key", "three").is_made


def test_a_large_response_is_fetched_apart(server, a, b):
    """A claim has no time for it: it would fail, and the model be called for what is there."""
    response = b"x" * ledger_redis.LARGE_BYTES
    a.claim("key", "one")
    a.keep("key", "one", response)
    a.release("key", "one", failed=False)
    claim = b.claim("key", "two")
    assert (claim.kept, claim.kept_bytes, claim.is_made) == (None, len(response), True)
    assert b.fetch("key") == response
    b.release("key", "two", failed=False)
    assert a.claim("key", "three").kept == response  # which it has had in its memory all the time
    server.admin.client_pause(1_000)  # as a link does that is slow for its size
    assert b.fetch("key") == response
    server.admin.client_pause(10_000)
    assert b.fetch("key") is None
    assert b.is_up  # others' claims are asked for as before
    server.kill()
    assert b.fetch("key") is None


@pytest.mark.parametrize("size", [100, ledger_redis.LARGE_BYTES])
def test_what_redis_has_kept_is_not_sent_again(server, a, size):
    """It may be large."""
    a.claim("key", "one")
    a.keep("key", "one", b"x" * size)
    a.release("key", "one", failed=False)
    server.admin.config_resetstat()
    a.claim("key", "two")
    assert server.admin.info("commandstats")["cmdstat_eval"]["calls"] == 1


def test_redis_is_told_what_it_has_missed(server, instance, clock, b):
    """Killed and started again in the middle: the next renewal writes leases, answers and failures."""
    a = instance(server.url, lease_seconds=LEASE, clock=clock)
    for key in ("answered", "failed", "held"):
        a.claim(key, "one")
    server.kill()
    a.answered("answered", "one")
    a.release("failed", "one", failed=True)
    server.start()
    assert server.names() == set()
    clock.now += ledger_redis.BYPASS_SECONDS
    until(lambda: len(server.names()) == 3)
    assert b.claim("answered", "two") == Claim(State.ANSWERED)
    assert b.claim("failed", "two") == Claim(State.MINE, failures=1)
    assert b.claim("held", "two") == Claim(State.TAKEN, failures=0)
    assert a._leases.take_owed() == []


def test_what_redis_has_missed_is_bounded(server, a, monkeypatch):
    """Of an outage that lasts the latest news are told."""
    monkeypatch.setattr(leases, "MAX_OWED", 3)
    server.kill()
    for number in range(5):
        a.answered(f"key {number}", "one")
    assert not a._renew()
    assert [call.key for call in a._leases.take_owed()] == ["key 2", "key 3", "key 4"]


def test_what_redis_has_missed_is_told_in_parts(server, a, clock, monkeypatch):
    """An outage of an hour must not end in one call that takes longer than its timeout, and so never ends."""
    monkeypatch.setattr(leases, "OWED_AT_ONCE", 2)
    server.kill()
    for number in range(5):
        a.answered(f"key {number}", "one")
    server.start()
    clock.now += ledger_redis.BYPASS_SECONDS
    told = [(a._renew(), len(server.names())) for _ in range(3)]
    assert told == [(False, 2), (False, 4), (True, 5)]


def test_leases_are_renewed_in_parts(server, a, monkeypatch):
    """However many an instance holds, no call takes longer than its timeout; all are renewed."""
    monkeypatch.setattr(leases, "RENEWED_AT_ONCE", 2)
    send, lengths = a._send, []
    monkeypatch.setattr(a, "_send", lambda calls: lengths.append(len(calls)) or send(calls))
    for number in range(5):
        a._leases.grant(leases.Pair(f"key {number}", "one"))
    a._leases.owe([scripts.Call(scripts.ANSWERED, "done", ("one", 60_000))])
    assert a._renew()
    assert (lengths, len(server.names())) == ([3, 2, 1], 6)


def test_a_renewal_ends_with_the_first_part_that_fails(a, monkeypatch):
    """What Redis was told before stays told, and what it was not told is owed."""
    monkeypatch.setattr(leases, "RENEWED_AT_ONCE", 1)
    for number in range(3):
        a._leases.grant(leases.Pair(f"key {number}", "one"))
    owed = scripts.Call(scripts.ANSWERED, "done", ("one", 60_000))
    for replies, left in (([None], [owed]), ([[1, 1], None], [])):
        a._leases.owe([owed])
        monkeypatch.setattr(a, "_send", lambda _, replies=replies: replies.pop(0))
        assert not a._renew()
        assert (replies, a._leases.take_owed()) == ([], left)


def test_a_thousand_leases_and_a_full_part_are_told_in_time(server, a):
    """Well within one timeout."""
    for number in range(1000):
        a._leases.grant(leases.Pair(f"key {number}", "one"))
    a._leases.owe([scripts.Call(scripts.ANSWERED, f"done {n}", ("one", 60_000)) for n in range(500)])
    assert a._renew()
    assert a.troubles == 0
    assert len(server.names()) == 1500


def test_who_waits_for_another_goes_on_waiting_without_redis(server, a, b, clock):
    """It does not start beside the other one for a short outage; after a lease's time the other one counts as gone."""
    b.claim("key", "two")
    assert a.claim("key", "one").state is State.TAKEN
    server.kill()
    assert a.claim("key", "one").state is State.TAKEN
    clock.now += ledger_redis.LEASE_SECONDS
    assert a.claim("key", "one") == Claim(State.MINE)


def test_what_was_seen_of_another_is_forgotten_with_its_claim(server, a, b):
    """A message that was given back and granted here is not taken for another's."""
    b.claim("key", "two")
    a.claim("key", "one")
    b.release("key", "two", failed=False)
    a.claim("key", "one")
    server.kill()
    assert a.claim("key", "one") == Claim(State.MINE)


def test_redis_is_not_asked_for_some_seconds_after_a_failure(server, a, clock):
    """Nothing is sent in that time; then it is asked again, over fresh connections, and used as before."""
    a.claim("key", "one")
    server.kill()
    assert a.holds("key", "one")
    server.start()
    clock.now += ledger_redis.BYPASS_SECONDS - 0.01
    assert a.claim("other", "one").failures is None
    assert server.names() == set()
    clock.now += 0.01
    assert a.claim("other", "one").failures == 0
    assert a.claim("third", "one").failures == 0
    assert a.troubles == 1


def test_a_failure_that_lasts_costs_one_thread_its_time(server, instance, clock):
    """When the bypass ends one thread finds out; the others neither wait nor fail."""
    a = instance(server.url, clock=clock, timeout_seconds=3.0)
    server.pause()
    a.claim("key", "one")
    clock.now += ledger_redis.BYPASS_SECONDS
    with ThreadPoolExecutor(50) as pool:
        claims = [pool.submit(a.claim, f"key {number}", "one") for number in range(50)]
        until(lambda: sum(claim.done() for claim in claims) == 49)
        assert a.troubles == 1
    assert a.troubles == 2
    server.go_on()


def test_a_crowd_at_a_dead_redis(server, quick):
    """Those who wait for a connection are told as soon as the first has failed; they do not fail one after another."""
    server.pause()
    with ThreadPoolExecutor(200) as pool:
        states = {claim.state for claim in pool.map(lambda number: quick.claim(f"key {number}", "one"), range(200))}
    server.go_on()
    assert states == {State.MINE}
    assert 1 <= quick.troubles <= ledger_redis.MAX_CONNECTIONS


def timed(action: Callable[[], object]) -> float:
    start = time.monotonic()
    action()
    return time.monotonic() - start


def test_a_slow_redis_holds_nobody_up(server, instance, clock):
    """An operation takes its timeout and no more; later ones nothing at all. What Redis does late does no harm."""
    ledger = instance(server.url, clock=clock, timeout_seconds=1.0)  # a machine that is busy takes the service's 0.3 s
    ledger.claim("key", "one")
    server.pause()
    assert timed(lambda: ledger.claim("other", "one")) < 1.0 + 1.2
    use_all(ledger)
    assert ledger.troubles == 1  # whoever asks it now would have another
    server.go_on()
    clock.now += ledger_redis.BYPASS_SECONDS
    until(lambda: ledger.holds("key", "one") and lease_of("key") in server.names())
    assert ledger.claim("other", "one") == Claim(State.MINE, failures=0)
    assert ledger.troubles == 1


def test_a_busy_redis_holds_nobody_up(server, quick):
    """The same for one that is at work for another."""
    busy = "repeat local now = redis.call('TIME') until now[1] + now[2] / 1000000 > ARGV[1] + 0"
    sleeper = threading.Thread(target=lambda: server.admin.eval(busy, 0, time.time() + 1))
    quick.claim("key", "one")
    sleeper.start()
    until(lambda: quick.claim("key", "one").failures is None)
    sleeper.join()
    assert quick.troubles == 1


def test_an_operation_that_redis_refuses_is_given_up(server, a, clock, caplog):
    """It would be refused for ever, and keep everything else from Redis."""
    a.claim("key", "one")
    server.admin.set("inference-relay:1:{key}:failed", "no set")
    a.release("key", "one", failed=True)
    clock.now += ledger_redis.BYPASS_SECONDS
    assert a._renew()
    assert "given up" in caplog.records[-1].getMessage()
    assert a._leases.take_owed() == []
    assert a.claim("other", "two").failures == 0


def test_redis_is_full(server, a, clock, caplog):
    """No new claim fits: that is trouble. What makes room works, so that a full Redis can empty itself."""
    for owner, key in (("one", "held"), ("one", "failed"), ("one", "answered")):
        a.claim(key, owner)
        a.keep(key, owner, b"response")
    server.admin.config_set("maxmemory", 1)
    assert a.holds("held", "one")
    a.answered("answered", "one")
    a.release("failed", "one", failed=True)
    assert a.troubles == 0
    assert a.claim("new", "one") == Claim(State.MINE)
    assert a.troubles == 1
    assert caplog.records[-1].error.startswith(("OutOfMemoryError", "ResponseError OOM"))  # Redis 7, 6
    server.admin.config_set("maxmemory", 0)
    clock.now += ledger_redis.BYPASS_SECONDS
    assert a.claim("new", "one") == Claim(State.MINE, failures=0)
    assert a.claim("failed", "two") == Claim(State.MINE, kept=b"response", failures=1, failed_here=1)


def test_redis_is_read_only(server, a, clock, caplog):
    """After a failover the old primary refuses to write; the next try goes to wherever the name leads by then."""
    a.claim("key", "one")
    before = {one["id"] for one in server.admin.client_list()}
    server.admin.replicaof("127.0.0.1", "1")
    assert a.claim("new", "one") == Claim(State.MINE)
    assert caplog.records[-1].error.startswith(("ReadOnlyError", "ResponseError READONLY"))  # Redis 7, 6
    server.admin.replicaof("NO", "ONE")
    clock.now += ledger_redis.BYPASS_SECONDS
    assert a.claim("new", "one") == Claim(State.MINE, failures=0)
    assert {one["id"] for one in server.admin.client_list()} - before


def test_the_password_is_wrong(server, instance, caplog):
    """That is trouble and a word in the log; neither password is."""
    a = instance(server.url.replace(PASSWORD, "letmein"))
    use_all(a)
    assert a.troubles == 1
    assert caplog.records[-1].error.startswith("AuthenticationError")
    assert not any(word in str(vars(record)) for record in caplog.records for word in ("letmein", PASSWORD))


def test_trouble_is_logged_once_a_minute(server, a, clock, caplog):
    """A warning, with what went wrong and how often; all that is between two of them is counted."""
    server.kill()
    for _ in range(3 * 60):
        clock.now += 1
        use_all(a)
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 3
    assert caplog.records[0].error == "ConnectionError ConnectionRefusedError"
    assert [record.troubles for record in caplog.records] == [1, 21, 41]
    assert a.troubles == 60


def test_a_thread_that_is_killed_while_it_probes_closes_nothing_for_good(server, a, clock, monkeypatch):
    """Another one tries a few seconds later."""
    server.kill()
    a.claim("key", "one")
    server.start()
    clock.now += ledger_redis.BYPASS_SECONDS
    with monkeypatch.context() as patch:
        patch.setattr(a, "_disconnect", sys.exit)
        with pytest.raises(SystemExit):
            a.claim("key", "one")
    assert a.claim("key", "one").failures is None
    clock.now += ledger_redis.BYPASS_SECONDS
    assert a.claim("key", "one").failures == 0


def test_a_failure_that_comes_late_does_not_open_a_closed_ledger(a):
    """Once it is closed nothing is asked any more, whatever was under way."""
    a.close()
    a._breaker.failed(RedisError())
    a._breaker.worked()
    assert a.claim("key", "one") == Claim(State.MINE)


def exceptions() -> list[type[Exception]]:
    own = [one for one in vars(redis.exceptions).values() if isinstance(one, type) and issubclass(one, Exception)]
    return [*own, OSError, TimeoutError, socket.gaierror, UnicodeError, ValueError, AttributeError, TypeError]


@pytest.mark.parametrize("kind", exceptions(), ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_whatever_is_raised_is_trouble(instance, clock, monkeypatch, kind):
    """No error of redis-py or below gets out, of any method or the renewal."""
    a = instance("redis://127.0.0.1:1", clock=clock, bypass_seconds=0)

    def fail(*arguments, **options):
        raise kind.__new__(kind)

    for client in (a._client, a._large_client):
        monkeypatch.setattr(client, "eval", fail)
        monkeypatch.setattr(client, "pipeline", fail)
    use_all(a)
    a.claim("key", "one")
    assert not a._renew()
    assert a.troubles == 9


def test_trouble_holds_nothing(instance, clock):
    """No cycle of references keeps a response that could not be told to Redis; where it is kept is in memory."""
    a, response = instance("redis://127.0.0.1:1", clock=clock, bypass_seconds=0), b"r" * 1_000_000
    a.claim("key", "one")
    before = sys.getrefcount(response)
    with uncollected():
        a.keep("key", "one", response)
        assert sys.getrefcount(response) - before == 1  # in memory


class Chatter(socketserver.BaseRequestHandler):
    """Something that is no Redis, and quotes what it is sent."""

    def handle(self):
        with suppress(OSError):
            received = self.request.recv(4096)
            self.request.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n-ERR " + received)


def test_what_answers_is_no_redis(instance, caplog):
    """LEDGER_URL may lead anywhere; what comes from there is not logged, since it may quote the password."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Chatter) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        a = instance(f"redis://:{PASSWORD}@127.0.0.1:{other.server_address[1]}")
        use_all(a)
        other.shutdown()
    assert a.troubles == 1
    assert PASSWORD not in str(vars(caplog.records[-1]))


def test_a_host_that_cannot_be(instance, caplog):
    """Nor does a name that has no spelling in the DNS get out as an error."""
    a = instance("redis://a..b:6379")
    use_all(a)
    assert a.troubles == 1
    assert "UnicodeE" in caplog.records[-1].error  # UnicodeEncodeError from Python 3.13 on


def test_encrypted(start, instance, tmp_path, caplog):
    """rediss:// trusts the public authorities, or those of the file that the URL names."""
    redisserver.needed(tls=True)
    authority, files = trustme.CA(), {name: str(tmp_path / name) for name in ("ca", "certificate", "key")}
    authority.cert_pem.write_to_path(files["ca"])
    issued = authority.issue_cert("127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(files["certificate"])
    issued.private_key_pem.write_to_path(files["key"])
    port = free_port()
    options = [f"--tls-port {port}", "--tls-auth-clients no", f"--tls-ca-cert-file {files['ca']}"]
    options += [f"--tls-cert-file {files['certificate']}", f"--tls-key-file {files['key']}"]
    start(*" ".join(options).split())
    url = f"rediss://:{PASSWORD}@127.0.0.1:{port}"
    assert instance(f"{url}?ssl_ca_certs={files['ca']}").claim("key", "one").failures == 0
    assert instance(url).claim("key", "one").failures is None
    assert "SSLCertVerificationError" in caplog.records[-1].error

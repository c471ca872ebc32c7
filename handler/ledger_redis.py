"""The ledger in Redis, shared by all instances; the only module that talks to Redis.

Of each message Redis has at most four keys, `inference-relay:1:{KEY}:` and then

- `lease`: the owner who works on it. Short, and renewed while it is held: a process that died blocks nobody for long.
- `kept`: the response that is made but not published. **Whoever can read Redis can read these responses**; nothing else
  in it says anything of a request or a response.
- `failed`: the owners whose model call failed. A set, so that a release that is sent twice counts once.
- `answered`: that its response is published. It outranks a lease.

Every operation is one script, so one round trip, and takes effect as a whole. `{KEY}` keeps the four in one slot.

An answer twice is better than none. When Redis is down, slow or full, the process goes on with its own memory for some
seconds before it asks again, and then tells Redis what it has missed. A lease that is absent was not taken by anybody:
it ran out, or Redis was emptied. Its owner takes it back. Only the lease or the answer of somebody else takes a message
away from its owner.
"""

import logging
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, TypeVar
from urllib.parse import urlsplit

import certifi
from redis import ConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from handler import eventloop
from handler.ledger import MAX_KEPT_SECONDS, Claim, State
from handler.ledger_memory import MemoryLedger, Shelf

# For connecting, and for each reply. Redis answers in less than a millisecond or is in trouble.
TIMEOUT_SECONDS = 0.3
# Responses from this size on are sent with more time: what bounds it is the network then.
LARGE_BYTES = 256 * 2**10
LARGE_TIMEOUT_SECONDS = 2.0
# How long the lease of a process that died keeps others from its message.
LEASE_SECONDS = 15.0
# For how long Redis is not asked after a failure. It costs one thread one timeout to learn that it still fails.
BYPASS_SECONDS = 3.0
LOG_SECONDS = 60.0
# An operation needs its connection for a millisecond; a thousand threads share these.
MAX_CONNECTIONS = 32
JOIN_SECONDS = 2.0
# What Redis has missed while it was bypassed: the latest so many.
MAX_OWED = 10_000
# Of these so many are sent at once, so that they neither take a timeout's time nor hold Redis up.
OWED_AT_ONCE = 500
# Messages of others that are remembered, for as long as a lease, in case Redis cannot be asked again.
MAX_TAKEN = 10_000

_FOR_EVER = float("inf")
_PREFIX = "inference-relay:1"
_KEYS = "local lease, kept, failed, answered = unpack(KEYS)\n"
# Deleting comes first: it is possible where memory is full, and Redis then lets the script finish.
_CLAIM = """
if redis.call('EXISTS', answered) == 1 then return {'answered'} end
local holder = redis.call('GET', lease)
if holder and holder ~= ARGV[1] then return {'taken'} end
redis.call('SET', lease, ARGV[1], 'PX', ARGV[2])
return {'mine', redis.call('GET', kept), redis.call('SCARD', failed)}
"""
_EXTEND = """
if redis.call('EXISTS', answered) == 1 then return 0 end
local holder = redis.call('GET', lease)
if holder == ARGV[1] then return redis.call('PEXPIRE', lease, ARGV[2]) end
if holder then return 0 end
redis.call('SET', lease, ARGV[1], 'PX', ARGV[2])
return 1
"""
_KEEP = """
local holder = redis.call('GET', lease)
if redis.call('EXISTS', answered) == 1 or holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', kept, ARGV[2], 'PX', ARGV[3])
return 1
"""
_ANSWERED = """
if redis.call('GET', lease) == ARGV[1] then redis.call('DEL', lease) end
redis.call('DEL', kept, failed)
redis.call('SET', answered, 1, 'PX', ARGV[2])
return 1
"""
_RELEASE = """
if redis.call('GET', lease) == ARGV[1] then redis.call('DEL', lease) end
if ARGV[2] == '1' and redis.call('EXISTS', answered) == 0 then
  redis.call('SADD', failed, ARGV[1])
  redis.call('PEXPIRE', failed, ARGV[3])
end
return 1
"""
# What Redis and those in front of it call their troubles. No more of a reply is logged: it may quote what was sent.
_TROUBLE = re.compile(
    r"\b(OOM|READONLY|LOADING|BUSY|MASTERDOWN|MISCONF|NOREPLICAS|NOAUTH|WRONGPASS|NOPERM|MOVED|CLUSTERDOWN)\b"
)

_log = logging.getLogger(__name__)
_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class _Pair:
    """A message and the owner who was granted it."""

    key: str
    owner: str


@dataclass(frozen=True, slots=True)
class _Call:
    """One script for one message, ready to be sent: now, or later."""

    script: str
    key: str
    arguments: tuple[str | bytes | int, ...]

    def send(self, client: Redis) -> Any:
        """The reply; of a pipeline, nothing to look at yet."""
        keys = [f"{_PREFIX}:{{{self.key}}}:{name}" for name in ("lease", "kept", "failed", "answered")]
        # Not by its digest: a script has 300 bytes, and a Redis that was restarted knows no digest.
        return client.eval(_KEYS + self.script, len(keys), *keys, *self.arguments)


class RedisLedger:
    """Claims, kept responses, failures and answers that all instances share. Thread-safe; connects when first asked.

    The thread that renews the leases starts with the first claim, so make it before or after a fork, but ask it after.
    """

    def __init__(
        self,
        url: str,
        answered_seconds: float,
        kept_seconds: float = MAX_KEPT_SECONDS,
        *,
        lease_seconds: float = LEASE_SECONDS,
        bypass_seconds: float = BYPASS_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`url` is redis:// or rediss://; `clock`, in seconds, is what the bypass and this process' memory go by."""
        self._client = _client(url, TIMEOUT_SECONDS)
        self._large_client = _client(url, LARGE_TIMEOUT_SECONDS)
        self._answered_ms, self._kept_ms = _milliseconds(answered_seconds), _milliseconds(kept_seconds)
        self._lease_ms = _milliseconds(lease_seconds)
        self._memory = MemoryLedger(answered_seconds, kept_seconds, clock=clock)
        self._gate = _Gate(bypass_seconds, clock)
        # Those who wait here look at the gate again; in redis-py's own queue each would wait for its own timeout.
        self._connections = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._book = _Book(Shelf(MAX_TAKEN, lease_seconds, clock))
        self._renewal = _Renewal(self._renew, lease_seconds / 3)

    @property
    def troubles(self) -> int:
        """How many operations have failed so far, renewals included; those bypassed do not count."""
        return self._gate.troubles

    def claim(self, key: str, owner: str) -> Claim:
        """Take the message's lease.

        While Redis is bypassed it is granted, unless this process has answered the message or has seen another's lease
        on it a lease's time ago at most: who waits for another instance does not start beside it for a short outage.
        """
        known = self._memory.claim(key, owner)
        if known.state is State.ANSWERED:  # perhaps while Redis was bypassed
            return known
        claim = self._claim(key, owner, known)
        if claim.state is State.MINE:
            self._book.grant(_Pair(key, owner))
            self._renewal.start()
        else:
            self._memory.release(key, owner, failed=False)
        return claim

    def _claim(self, key: str, owner: str, known: Claim) -> Claim:
        call = _Call(_CLAIM, key, (owner, self._lease_ms))
        claim = self._ask(lambda: _as_claim(call.send(self._client), known.kept))
        if claim is None:
            return Claim(State.TAKEN) if self._book.is_taken(key) else known
        if claim.state is State.TAKEN:
            self._book.note_taken(key)
        return claim

    def holds(self, key: str, owner: str) -> bool:
        """Ask Redis. A lease that is absent is taken back: it ran out, or Redis was emptied, and nobody else has it.

        While Redis is bypassed: whether neither this process has answered it nor a renewal has found it lost.
        """
        if not self._memory.holds(key, owner):
            return False
        pair = _Pair(key, owner)
        answer = self._ask(lambda: int(self._extend(pair).send(self._client)))
        if answer is not None:
            self._book.note(pair, ours=answer == 1)
        return self._book.is_ours(pair)

    def keep(self, key: str, owner: str, response: bytes) -> None:
        """Keep the response here and, unless somebody else has taken the message over, in Redis."""
        self._memory.keep(key, owner, response)
        client = self._client if len(response) < LARGE_BYTES else self._large_client
        call = _Call(_KEEP, key, (owner, response, self._kept_ms))
        self._ask(lambda: call.send(client))

    def answered(self, key: str, owner: str) -> None:
        """Mark the message as answered, whoever has its lease; later where Redis is bypassed."""
        self._memory.answered(key, owner)
        self._end(_Pair(key, owner), _Call(_ANSWERED, key, (owner, self._answered_ms)))

    def release(self, key: str, owner: str, *, failed: bool) -> None:
        """Give back the lease if it is the owner's, and count a failure in any case; later where Redis is bypassed."""
        self._memory.release(key, owner, failed=failed)
        self._end(_Pair(key, owner), _Call(_RELEASE, key, (owner, int(failed), self._kept_ms)))

    def close(self) -> None:
        """Stop the renewals and disconnect. Whoever asks afterwards is answered from memory."""
        self._renewal.stop()
        self._gate.close()
        self._disconnect()

    def _end(self, pair: _Pair, call: _Call) -> None:
        self._book.drop(pair)  # first: see _renew
        if self._ask(lambda: call.send(self._client)) is None:
            self._book.owe([call])

    def _extend(self, pair: _Pair) -> _Call:
        return _Call(_EXTEND, pair.key, (pair.owner, self._lease_ms))

    def _ask(self, question: Callable[[], _Answer]) -> _Answer | None:
        """The answer to the question, or None where it was not asked or failed. Counts and logs the failure."""
        if self._gate.is_closed():
            return None
        return eventloop.get().blocking(lambda: self._ask_in_turn(question))

    def _ask_in_turn(self, question: Callable[[], _Answer]) -> _Answer | None:
        with self._connections:
            way = self._gate.way()
            return None if way is _Way.CLOSED else self._ask_now(question, way)

    def _ask_now(self, question: Callable[[], _Answer], way: "_Way") -> _Answer | None:
        try:
            if way is _Way.PROBE:  # perhaps the address has moved on to another server
                self._disconnect()
            answer = question()
        except Exception as error:  # noqa: BLE001 - whatever the ledger's trouble is, it must not cost an answer
            self._gate.failed(error)
            return None
        if way is _Way.PROBE:
            self._gate.worked()
        return answer

    def _disconnect(self) -> None:
        for client in (self._client, self._large_client):
            client.connection_pool.disconnect()

    def _renew(self) -> bool:
        """Tell Redis what it has missed and renew the leases, in one round trip; whether nothing is left to be told."""
        owed, pairs = self._book.take_owed(), self._book.held()
        if not (owed or pairs):
            return True
        calls = [*owed, *(self._extend(pair) for pair in pairs)]
        replies = self._ask(lambda: self._send(calls))
        if replies is None:
            self._book.owe(owed, first=True)
            return False
        for pair, reply in zip(pairs, replies[len(owed) :], strict=True):
            self._note_renewal(pair, ours=reply == 1)
        return not self._book.owes()

    def _note_renewal(self, pair: _Pair, *, ours: bool) -> None:
        # A release that was overtaken by its renewal: the lease was taken "back", and nobody would ever end it.
        if not self._book.note(pair, ours=ours) and ours:
            self._book.owe([_Call(_RELEASE, pair.key, (pair.owner, 0, self._kept_ms))])

    def _send(self, calls: Sequence[_Call]) -> Sequence[Any]:
        with self._client.pipeline(transaction=False) as pipeline:
            for call in calls:
                call.send(pipeline)
            replies: list[Any] = pipeline.execute()
        return replies


def _client(url: str, seconds: float) -> Redis:
    # By default redis-py waits for seconds and tries thrice more: retrying in place would hold up every message.
    pool = ConnectionPool.from_url(
        url,
        socket_timeout=seconds,
        socket_connect_timeout=seconds,
        socket_keepalive=True,
        retry=Retry(NoBackoff(), 0),
        health_check_interval=0,
        protocol=2,
        **_authorities(url),
    )
    return Redis(connection_pool=pool)


def _authorities(url: str) -> dict[str, str]:
    # The public ones that come with the program, unless the URL names others, which then win.
    return {"ssl_ca_certs": certifi.where()} if urlsplit(url).scheme == "rediss" else {}


def _milliseconds(seconds: float) -> int:
    return max(int(seconds * 1000), 1)


def _as_claim(reply: Sequence[Any], kept: bytes | None) -> Claim:
    """Redis' reply in our words; `kept` is what this process has kept of the message itself."""
    state = State(reply[0].decode())
    return Claim(state, kept=reply[1] or kept, failures=int(reply[2])) if state is State.MINE else Claim(state)


class _Way(Enum):
    OPEN = auto()
    PROBE = auto()  # the one question that finds out whether Redis is back
    CLOSED = auto()


class _Gate:
    """Whether Redis is asked. Closed for some seconds after each failure; then one thread probes, the others wait."""

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self.troubles = 0
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._closed_until: float | None = None  # None: open
        self._silent_until = -_FOR_EVER

    def is_closed(self) -> bool:
        with self._lock:
            return self._closed_until is not None and self._clock() < self._closed_until

    def way(self) -> _Way:
        """How to ask now. Whoever is told PROBE must do so, and say whether it worked or failed."""
        with self._lock:
            if self._closed_until is None:
                return _Way.OPEN
            now = self._clock()
            if now < self._closed_until:
                return _Way.CLOSED
            # For the others it stays closed meanwhile; should this thread be killed, another probes after that time.
            self._closed_until = now + self._seconds
            return _Way.PROBE

    def worked(self) -> None:
        with self._lock:
            if self._closed_until != _FOR_EVER:  # else closed for good
                self._closed_until = None

    def failed(self, error: Exception) -> None:
        now = self._clock()
        with self._lock:
            self.troubles += 1
            self._closed_until = max(now + self._seconds, self._closed_until or now)
            silent = now < self._silent_until
            if not silent:
                self._silent_until = now + LOG_SECONDS
        if not silent:
            _log.warning(
                "the ledger at LEDGER_URL is in trouble and bypassed: messages may be answered twice",
                extra={"error": _describe(error), "troubles": self.troubles},
            )

    def close(self) -> None:
        with self._lock:
            self._closed_until = _FOR_EVER


def _describe(error: Exception) -> str:
    """The kinds of the error and its cause, and Redis' own word; not the text, which may quote what was sent."""
    cause = error.__cause__ or error.__context__
    words = [type(error).__name__, type(cause).__name__ if cause else "", *_TROUBLE.findall(str(error))]
    return " ".join(word for word in words if word)


class _Book:
    """What this process holds, and what it owes Redis since that was bypassed. Thread-safe."""

    def __init__(self, taken: Shelf) -> None:
        self._lock = threading.Lock()
        self._taken = taken
        self._held: dict[_Pair, bool] = {}  # False: a renewal found it lost
        self._owed: list[_Call] = []

    def grant(self, pair: _Pair) -> None:
        with self._lock:
            self._taken.drop(pair.key)
            self._held[pair] = True

    def note_taken(self, key: str) -> None:
        with self._lock:
            self._taken.put(key, b"", size=1)

    def is_taken(self, key: str) -> bool:
        """Whether the message was somebody else's when Redis was asked last, not longer ago than a lease lasts."""
        with self._lock:
            return self._taken.get(key) is not None

    def note(self, pair: _Pair, *, ours: bool) -> bool:
        """Remember what Redis says of a claim. Returns False, and does nothing, if it has ended meanwhile."""
        with self._lock:
            if pair not in self._held:
                return False
            self._held[pair] = ours
            return True

    def drop(self, pair: _Pair) -> None:
        with self._lock:
            self._held.pop(pair, None)

    def is_ours(self, pair: _Pair) -> bool:
        with self._lock:
            return self._held.get(pair, False)

    def held(self) -> Sequence[_Pair]:
        with self._lock:
            return [pair for pair, ours in self._held.items() if ours]

    def owe(self, calls: Sequence[_Call], *, first: bool = False) -> None:
        """Add calls, in front of the others if they are `first`. The oldest are given up when there are too many."""
        with self._lock:
            both = [*calls, *self._owed] if first else [*self._owed, *calls]
            self._owed = both[-MAX_OWED:]

    def take_owed(self) -> Sequence[_Call]:
        """Take the oldest calls off the book, as many as are sent at once."""
        with self._lock:
            owed, self._owed = self._owed[:OWED_AT_ONCE], self._owed[OWED_AT_ONCE:]
            return owed

    def owes(self) -> bool:
        with self._lock:
            return bool(self._owed)


class _Renewal:
    """A thread that does its work every few seconds, and sooner after it has failed."""

    def __init__(self, work: Callable[[], bool], seconds: float) -> None:
        self._work = work
        self._seconds = seconds
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread unless it runs; in a process that was forked from one where it ran it does not."""
        with self._lock:
            if self._stopped.is_set() or (self._thread and self._thread.is_alive()):
                return
            self._thread = threading.Thread(target=self._run, name="ledger-renewal", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread; waits for what it is doing, a few timeouts at most."""
        with self._lock:
            self._stopped.set()
            if self._thread:
                self._thread.join(JOIN_SECONDS)

    def _run(self) -> None:
        pause = self._seconds
        while not self._stopped.wait(pause):
            pause = self._seconds if self._work() else self._seconds / 5

"""The ledger in Redis, shared by all instances; the only module that talks to Redis.

An answer twice is better than none. When Redis is down, slow or full, the process goes on with its own memory for some
seconds before it asks again, and then tells Redis what it has missed. A lease that is absent was not taken by anybody:
it ran out, or Redis was emptied. Its owner takes it back. Only the lease or the answer of somebody else takes a message
away from its owner.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlsplit

import certifi
from cachetools import TTLCache
from redis import ConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError
from redis.retry import Retry

from handler.frames import let_go
from handler.greenlets import Deadline
from handler.ledger import MAX_KEPT_SECONDS, Claim, Counts, Stage, State, scripts
from handler.ledger.breaker import TROUBLE, CircuitBreaker, Way, describe
from handler.ledger.cancels import NEVER, Cancels
from handler.ledger.leases import Leases, Pair, Renewal
from handler.ledger.memory import MemoryLedger
from handler.ledger.origin import Origin, Target
from handler.ledger.scripts import Ask, Call, Look, as_claim, as_counts, batch_key

# For connecting, and for each reply. Redis answers in less than a millisecond or is in trouble.
TIMEOUT_SECONDS = 0.3
# Responses from this size on are sent with more time: what bounds it is the network then.
LARGE_BYTES = 256 * 2**10
LARGE_TIMEOUT_SECONDS = 2.0
# How long the lease of a process that died keeps others from its message.
LEASE_SECONDS = 15.0
# For how long Redis is not asked after a failure. It costs one greenlet one timeout to learn that it still fails.
BYPASS_SECONDS = 3.0
# An operation needs its connection for a millisecond; a thousand greenlets share these.
MAX_CONNECTIONS = 32
# Messages of others that are remembered, for as long as a lease, in case Redis cannot be asked again.
MAX_TAKEN = 10_000
# How long it is remembered what was cancelled, and how many messages of a batch stand where: as long as Pub/Sub keeps a
# message by default.
_COUNTED_MS = int(MAX_KEPT_SECONDS * 1000)
_PAGE = 1_000  # of a batch's messages, for who looks for one of them

_log = logging.getLogger(__name__)
_Answer = TypeVar("_Answer")


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
        timeout_seconds: float = TIMEOUT_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`url` is redis:// or rediss://; `clock`, in seconds, is what the bypass and this process' memory go by."""
        self._seconds = timeout_seconds
        self._client = _client(url, timeout_seconds)
        self._large_client = _client(url, LARGE_TIMEOUT_SECONDS)
        self._answered_ms, self._kept_ms = _milliseconds(answered_seconds), _milliseconds(kept_seconds)
        self._lease_ms = _milliseconds(lease_seconds)
        self._memory = MemoryLedger(answered_seconds, kept_seconds, clock=clock)
        self._breaker = CircuitBreaker(bypass_seconds, clock)
        # Those who wait here look at the breaker again; in redis-py's own queue each would wait for its own timeout.
        self._connections = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._leases = Leases(TTLCache(MAX_TAKEN, lease_seconds, clock))
        self._cancels = Cancels(MAX_KEPT_SECONDS, clock)
        self._renewal = Renewal(self._renew, lease_seconds / 3)
        # A renewal may have begun just before, and the next one take its time.
        self.spread_seconds = lease_seconds / 3 + 4 * timeout_seconds

    @property
    def troubles(self) -> int:
        """How many operations have failed so far, renewals included; those bypassed do not count."""
        return self._breaker.troubles

    @property
    def is_up(self) -> bool:
        """Whether Redis answered when it was last asked."""
        return self._breaker.is_closed

    def claim(self, key: str, owner: str, origin: Origin | None = None) -> Claim:
        """Take the message's lease.

        While Redis is bypassed it is granted, unless this process has answered the message or has seen another's lease
        on it a lease's time ago at most: who waits for another instance does not start beside it for a short outage.
        """
        known = self._memory.claim(key, owner)
        if known.state is State.ANSWERED:  # perhaps while Redis was bypassed
            return known
        claim = self._claim(Pair(key, owner), known, origin)
        if claim.state is State.MINE:
            self._leases.grant(Pair(key, owner))
            self._renewal.start()
            if origin and self._cancels.means(origin):
                claim = replace(claim, cancelled=True)
        else:
            self._memory.release(key, owner, failed=False)
        return claim

    def _claim(self, pair: Pair, known: Claim, origin: Origin | None) -> Claim:
        call = Call(scripts.CLAIM, pair.key, (pair.owner, self._lease_ms, LARGE_BYTES), origin, _COUNTED_MS)
        answer = self._ask(lambda: as_claim(call.send(self._client), known))
        if answer is None and self._leases.is_taken(pair.key):
            return Claim(State.TAKEN)
        claim, last_cancel = answer or (known, 0)
        if claim.state is State.TAKEN:
            self._leases.note_taken(pair.key)
        if answer and claim.kept is not None and claim.kept is known.kept and not claim.kept_bytes:
            self._keep(pair, claim.kept)  # Redis was away then, or has lost it
        if origin and claim.state is State.MINE:
            self._cancels.follow(pair, origin, NEVER if claim.cancelled else last_cancel)
        return claim

    def grant_call(self, key: str, owner: str) -> bool:
        """Ask Redis, of a message of a batch, or if something was cancelled since the claim. Yes, while it is bypassed.

        What was cancelled by way of this process is known here, too.
        """
        pair = Pair(key, owner)
        origin = self._cancels.origin(pair)
        if origin is None:
            return True
        if self._cancels.means(origin):
            return False
        call = Call(scripts.GRANT_CALL, key, (), origin, _COUNTED_MS)
        return not self._cancels.is_to_be_asked(pair) or self._ask(lambda: call.send(self._client)) != 0

    def holds(self, key: str, owner: str) -> bool:
        """Ask Redis. A lease that is absent is taken back: it ran out, or Redis was emptied, and nobody else has it.

        While Redis is bypassed: whether neither this process has answered it nor a renewal has found it lost.
        """
        pair = Pair(key, owner)
        if not self._memory.holds(key, owner):
            return False
        return self._is_ours(pair, self._ask(lambda: int(self._extend(pair).send(self._client))))

    def keep(self, key: str, owner: str, response: bytes) -> bool:
        """Keep the response here and, unless somebody else has the message now, in Redis. Asks as `holds` does."""
        pair = Pair(key, owner)
        return self._memory.keep(key, owner, response) and self._is_ours(pair, self._keep(pair, response))

    def fetch(self, key: str) -> bytes | None:
        """Ask Redis, with the time that large ones need. None where that fails, is bypassed, or has it no more.

        A link that is too slow for it is no trouble of Redis': claims go on asking, or others' calls would be repeated.
        """
        if not self._breaker.is_closed:
            return None
        try:
            with self._connections, Deadline(2 * LARGE_TIMEOUT_SECONDS):
                kept: bytes | None = Call(scripts.FETCH, key, ()).send(self._large_client)
                return kept
        except Exception as error:  # noqa: BLE001 - as in _ask_now
            _log.debug("a kept response was not handed over: %s", describe(error))
            let_go(error)
            return None

    def _keep(self, pair: Pair, response: bytes) -> int | None:
        call = Call(scripts.KEEP, pair.key, (pair.owner, response, self._kept_ms, self._lease_ms))
        if len(response) < LARGE_BYTES:
            return self._ask(lambda: int(call.send(self._client)))
        return self._ask(lambda: int(call.send(self._large_client)), LARGE_TIMEOUT_SECONDS)

    def _is_ours(self, pair: Pair, answer: int | None) -> bool:
        """Whether the claim is still held: by what Redis has answered, if it has, or else by what is known here."""
        if answer is not None:
            self._leases.note(pair, ours=answer == 1)
        return self._leases.is_ours(pair)

    def answered(self, key: str, owner: str, stage: Stage = Stage.ANSWERED) -> None:
        """Mark the message as answered, whoever has its lease; later where Redis is bypassed."""
        self._memory.answered(key, owner)
        self._end(Pair(key, owner), scripts.ANSWERED, owner, self._answered_ms, stage)

    def release(self, key: str, owner: str, *, failed: bool, detail: str = "") -> None:
        """Give back the lease if it is the owner's, and count a failure in any case; later where Redis is bypassed."""
        self._memory.release(key, owner, failed=failed, detail=detail)
        self._end(Pair(key, owner), scripts.RELEASE, owner, int(failed), self._kept_ms)

    def no_attempt(self, key: str) -> None:
        """Count, in this process alone: what all instances count are failures."""
        self._memory.no_attempt(key)

    def cancel(self, target: Target, published: int) -> Counts | None:
        """Note it in Redis, and here in case that is bypassed. None where it is, or takes no more of them."""
        self._cancels.note(target, published)
        look = Look(scripts.CANCEL, target, (published, _COUNTED_MS, scripts.MAX_CANCELS))
        return self._ask(lambda: as_counts(look.send(self._client)))

    def counts(self, target: Target) -> Counts | None:
        """Ask Redis. None while it is bypassed."""
        look = Look(scripts.COUNTS, target)
        return self._ask(lambda: as_counts(look.send(self._client)))

    def stages(self, target: Target) -> list[Stage] | None:
        """Look through the batch, a page at a time, which takes a second for a million messages."""
        key, found = batch_key(target.batch), list[Stage]()
        for pattern in target.patterns if key else ():
            stages = self._search(key, pattern)
            if stages is None:
                return None
            found += stages
        return found

    def _search(self, key: str, pattern: str) -> list[Stage] | None:
        cursor, found = 0, list[Stage]()
        while page := self._ask(partial(self._page, key, cursor, pattern)):
            cursor, stages = page
            found += stages
            if cursor == 0:
                return found
        return None

    def _page(self, key: str, cursor: int, pattern: str) -> tuple[int, list[Stage]]:
        client: Any = self._client  # whose type allows for an asynchronous one
        following, found = client.hscan(key, cursor, pattern, _PAGE)
        return int(following), [Stage(stage.decode()) for stage in found.values()]

    def close(self) -> None:
        """Stop the renewals and disconnect. Whoever asks afterwards is answered from memory."""
        self._renewal.stop()
        self._breaker.close()
        self._disconnect()

    def _end(self, pair: Pair, script: str, *arguments: str | int) -> None:
        self._leases.drop(pair)  # first: see _renew
        call = Call(script, pair.key, arguments, self._cancels.unfollow(pair), _COUNTED_MS)
        if self._ask(lambda: call.send(self._client)) is None:
            self._leases.owe([call])

    def _extend(self, pair: Pair) -> Call:
        return Call(scripts.EXTEND, pair.key, (pair.owner, self._lease_ms))

    def _ask(self, question: Callable[[], _Answer], seconds: float | None = None) -> _Answer | None:
        """The answer to the question, or None where it was not asked or failed. Counts and logs the failure."""
        if self._breaker.is_open():
            return None
        with self._connections:
            way = self._breaker.way()
            return None if way is Way.AROUND else self._ask_now(question, way, seconds or self._seconds)

    def _ask_now(self, question: Callable[[], _Answer], way: "Way", seconds: float) -> _Answer | None:
        try:
            if way is Way.PROBE:  # perhaps the address has moved on to another server
                self._disconnect()
            # One bound for connecting and one for the reply are not all: a name may be looked up for many seconds.
            with Deadline(2 * seconds):
                answer = question()
        except Exception as error:  # noqa: BLE001 - whatever the ledger's trouble is, it must not cost an answer
            self._breaker.failed(error)
            let_go(error)
            return None
        if way is Way.PROBE:
            self._breaker.worked()
        return answer

    def _disconnect(self) -> None:
        for client in (self._client, self._large_client):
            client.connection_pool.disconnect()

    def _renew(self) -> bool:
        """Tell Redis what it has missed and renew the leases, part by part; whether nothing is left to be told."""
        owed, first, *rest = self._leases.take_owed(), *self._leases.parts()
        if not (owed or first):
            return True
        if not self._tell(owed, first):
            self._leases.owe(owed, first=True)
            return False
        return all(self._tell([], pairs) for pairs in rest) and not self._leases.owes()

    def _tell(self, owed: Sequence[Call], pairs: Sequence[Pair]) -> bool:
        """Send what is owed and renew these leases, in one round trip; whether Redis has answered."""
        news = [scripts.LAST_CANCEL] if self._cancels.follows else []
        calls: list[Call | Ask] = [*owed, *(self._extend(pair) for pair in pairs), *news]
        replies = self._ask(lambda: self._send(calls))
        if replies is None:
            return False
        for pair, reply in zip(pairs, replies[len(owed) :], strict=False):  # the news come last
            self._note_renewal(pair, ours=reply == 1)
        if news:
            self._cancels.hear(replies[-1])
        return True

    def _note_renewal(self, pair: Pair, *, ours: bool) -> None:
        # A release that was overtaken by its renewal: the lease was taken "back", and nobody would ever end it.
        if not self._leases.note(pair, ours=ours) and ours:
            self._leases.owe([Call(scripts.RELEASE, pair.key, (pair.owner, 0, self._kept_ms))])

    def _send(self, calls: Sequence[Call | Ask]) -> Sequence[Any]:
        """The replies. Raises what keeps Redis from working; what it says of one call alone is among the replies."""
        with self._client.pipeline(transaction=False) as pipeline:
            for call in calls:
                call.send(pipeline)
            replies: list[Any] = pipeline.execute(raise_on_error=False)
        for refused in (reply for reply in replies if isinstance(reply, Exception)):
            if not isinstance(refused, ResponseError) or TROUBLE.search(str(refused)):
                raise refused
            # It will never be taken: to send it again and again would keep all the others from Redis.
            _log.error("the ledger refuses an operation, which is given up", extra={"error": describe(refused)})
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


def _authorities(url: str) -> dict[str, Any]:
    # The public ones that come with the program, unless the URL names others, which then win. Not every version of
    # redis-py checks the host's name without being told.
    is_tls = urlsplit(url).scheme == "rediss"
    return {"ssl_ca_certs": certifi.where(), "ssl_check_hostname": True} if is_tls else {}


def _milliseconds(seconds: float) -> int:
    return max(int(seconds * 1000), 1)

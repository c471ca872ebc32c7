"""What Redis is told: one script for each operation, so that it takes one round trip and takes effect as a whole.

Of each message Redis has at most four keys, `inference-relay:1:{KEY}:` and then

- `lease`: the owner who works on it. Short, and renewed while it is held: a process that died blocks nobody for long.
- `kept`: the response that is made but not published. **Whoever can read Redis can read these responses**; nothing else
  in it says anything of a request or a response.
- `failed`: the owners whose attempt failed. A set, so that a release that is sent twice counts once.
- `answered`: that its response is published. It outranks a lease.

`{KEY}` keeps the four in one slot of a cluster. Where messages can be cancelled there are two more kinds of keys, which
want a Redis that is none:

- `inference-relay:1:cancelled`: a sorted set, which names of messages are cancelled (hashes), and until which time of
  publication; its member `#` has when something was cancelled last, below zero.
- `inference-relay:1:batch:BATCH`: a hash, where each message of a batch stands, and how many stand where (`#` and the
  place). A message that was counted in one place and goes to another is moved by the same script, so the counts are
  exact whatever is delivered or sent twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from handler.ledger import Claim, Counts, State
from handler.ledger.origin import Origin, Target

_PREFIX = "inference-relay:1"
MAX_COUNTED = 1_000_000  # messages of one batch; about 100 bytes each
MAX_CANCELS = 100_000  # names that are cancelled
_PLAIN = """
local lease, kept, failed, answered = unpack(KEYS)
local function move() end
local function news() return 0 end
local function is_cancelled() return 0 end
"""
_CONTROLLED = """
local lease, kept, failed, answered, cancelled, batch = unpack(KEYS)
local member, published, names, most, ttl = unpack(ARGV, #ARGV - 4)
local function move(stage)
  local old = batch ~= '' and redis.call('HGET', batch, member)
  if batch == '' or old == stage or old == 'a' or old == 'f' or old == 'c' then return end
  if not old and redis.call('HLEN', batch) >= tonumber(most) then return redis.call('HSET', batch, '#over', 1) end
  redis.call('HSET', batch, member, stage)
  if old then redis.call('HINCRBY', batch, '#' .. old, -1) end
  redis.call('HINCRBY', batch, '#' .. stage, 1)
  redis.call('PEXPIRE', batch, ttl)
end
local function news() return -(redis.call('ZSCORE', cancelled, '#') or 0) end
local function is_cancelled()
  for name in string.gmatch(news() > 0 and names or '', '%x+') do
    local before = redis.call('ZSCORE', cancelled, name)
    if before and tonumber(before) >= tonumber(published) then return 1 end
  end
  return 0
end
"""
_TARGET = """
local cancelled, batch = unpack(KEYS)
local function counts()
  local found = batch ~= '' and redis.call('HMGET', batch, '#w', '#m', '#a', '#f', '#c', '#over') or {}
  for i = 1, 6 do found[i] = tonumber(found[i] or 0) end
  found[7] = 0
  for name in string.gmatch(ARGV[1], '%x+') do
    found[7] = math.max(found[7], tonumber(redis.call('ZSCORE', cancelled, name) or 0))
  end
  return found
end
"""
# Deleting comes first: it is possible where memory is full, and Redis then lets the script finish.
CLAIM = """
if redis.call('EXISTS', answered) == 1 then return {'answered'} end
local holder = redis.call('GET', lease)
if holder and holder ~= ARGV[1] then return {'taken', false, redis.call('SCARD', failed)} end
redis.call('SET', lease, ARGV[1], 'PX', ARGV[2])
move('w')
local size = redis.call('STRLEN', kept)
local small = size < tonumber(ARGV[3]) and redis.call('GET', kept)
return {'mine', small, redis.call('SCARD', failed), is_cancelled(), news(), size}
"""
GRANT_CALL = """
if is_cancelled() == 1 then return 0 end
move('m')
return 1
"""
EXTEND = """
if redis.call('EXISTS', answered) == 1 then return 0 end
local holder = redis.call('GET', lease)
if holder == ARGV[1] then return redis.call('PEXPIRE', lease, ARGV[2]) end
if holder then return 0 end
redis.call('SET', lease, ARGV[1], 'PX', ARGV[2])
return 1
"""
KEEP = """
local holder = redis.call('GET', lease)
if redis.call('EXISTS', answered) == 1 or holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', lease, ARGV[1], 'PX', ARGV[4])
redis.call('SET', kept, ARGV[2], 'PX', ARGV[3])
return 1
"""
ANSWERED = """
if redis.call('GET', lease) == ARGV[1] then redis.call('DEL', lease) end
redis.call('DEL', kept, failed)
redis.call('SET', answered, 1, 'PX', ARGV[2])
move(ARGV[3])
return 1
"""
RELEASE = """
if redis.call('GET', lease) == ARGV[1] then
  redis.call('DEL', lease)
  move('w')
end
if ARGV[2] == '1' and redis.call('EXISTS', answered) == 0 then
  redis.call('SADD', failed, ARGV[1])
  redis.call('PEXPIRE', failed, ARGV[3])
end
return 1
"""


# Names, the time of publication that they are cancelled until, how long that is remembered, how many there may be.
CANCEL = """
local time = redis.call('TIME')
redis.call('ZREMRANGEBYSCORE', cancelled, 0, time[1] * 1000 - ARGV[3])
if redis.call('ZCARD', cancelled) >= tonumber(ARGV[4]) then return {} end
for name in string.gmatch(ARGV[1], '%x+') do
  local before = tonumber(redis.call('ZSCORE', cancelled, name) or 0)
  redis.call('ZADD', cancelled, string.format('%.0f', math.max(before, tonumber(ARGV[2]))), name)
end
local last = -(redis.call('ZSCORE', cancelled, '#') or 0)
redis.call('ZADD', cancelled, string.format('-%.0f', math.max(last + 1, time[1] * 1000000 + time[2])), '#')
redis.call('PEXPIRE', cancelled, ARGV[3])
return counts()
"""
COUNTS = "return counts()"
FETCH = "return redis.call('GET', kept)"


@dataclass(frozen=True, slots=True)
class Call:
    """One script for one message, ready to be sent: now, or later.

    With the message's `origin` it may be cancelled, and is counted for `counted_ms` from its last change.
    """

    script: str
    key: str
    arguments: tuple[str | bytes | int, ...] = field(repr=False)
    origin: Origin | None = None
    counted_ms: int = 1

    def send(self, client: Any) -> Any:
        """The reply; of a pipeline, nothing to look at yet."""
        keys = [f"{_PREFIX}:{{{self.key}}}:{name}" for name in ("lease", "kept", "failed", "answered")]
        # Not by its digest: a script has 2 KB at most, and a Redis that was restarted knows no digest.
        if self.origin is None:
            return client.eval(_PLAIN + self.script, len(keys), *keys, *self.arguments)
        one = self.origin
        keys += [_CANCELLED, batch_key(one.batch)]
        counting = (one.member, one.published, " ".join(one.names), MAX_COUNTED, self.counted_ms)
        return client.eval(_CONTROLLED + self.script, len(keys), *keys, *self.arguments, *counting)


@dataclass(frozen=True, slots=True)
class Look:
    """One script for what a requester means, and not for one message."""

    script: str
    target: Target
    arguments: tuple[int, ...] = ()

    def send(self, client: Any) -> Any:
        """The reply."""
        names = " ".join(self.target.names)
        keys = (_CANCELLED, batch_key(self.target.batch))
        return client.eval(_TARGET + self.script, len(keys), *keys, names, *self.arguments)


@dataclass(frozen=True, slots=True)
class Ask:
    """One script that asks about no message in particular."""

    script: str

    def send(self, client: Any) -> Any:
        """The reply; of a pipeline, nothing to look at yet."""
        return client.eval(self.script, 1, _CANCELLED)


# When something was cancelled last: in microseconds since 1970, 0 for not as far as Redis remembers.
LAST_CANCEL = Ask("return -(redis.call('ZSCORE', KEYS[1], '#') or 0)")
_CANCELLED = f"{_PREFIX}:cancelled"


def batch_key(batch: str) -> str:
    """The key of a batch's counts; "" for no batch."""
    return f"{_PREFIX}:batch:{batch}" if batch else ""


def as_claim(reply: Sequence[Any], known: Claim) -> tuple[Claim, int]:
    """Redis' reply to CLAIM, and its last cancel; `known` is what this process remembers of the message itself."""
    state = State(reply[0].decode())
    if state is State.ANSWERED:
        return Claim(state), 0
    if state is State.TAKEN:
        return replace(known, state=state, kept=None, failures=int(reply[2])), 0
    kept, cancelled = reply[1] or known.kept, reply[3] == 1
    claim = replace(known, state=state, kept=kept, failures=int(reply[2]), cancelled=cancelled)
    return replace(claim, kept_bytes=0 if reply[1] is not None else int(reply[5])), int(reply[4])


def as_counts(reply: Sequence[Any]) -> Counts | None:
    """Redis' reply to CANCEL and COUNTS; None where it takes no more to be cancelled."""
    if not reply:
        return None
    waiting, working, answered, failed, cancelled, over, before = map(int, reply)
    return Counts(waiting, working, answered, failed, cancelled, not over, before)

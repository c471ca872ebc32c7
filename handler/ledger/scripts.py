"""What Redis is told: one script for each operation, so that it takes one round trip and takes effect as a whole.

Of each message Redis has at most four keys, `inference-relay:1:{KEY}:` and then

- `lease`: the owner who works on it. Short, and renewed while it is held: a process that died blocks nobody for long.
- `kept`: the response that is made but not published. **Whoever can read Redis can read these responses**; nothing else
  in it says anything of a request or a response.
- `failed`: the owners whose model call failed. A set, so that a release that is sent twice counts once.
- `answered`: that its response is published. It outranks a lease.

`{KEY}` keeps the four in one slot of a cluster.
"""

from dataclasses import dataclass, field
from typing import Any

_PREFIX = "inference-relay:1"
_KEYS = "local lease, kept, failed, answered = unpack(KEYS)\n"
# Deleting comes first: it is possible where memory is full, and Redis then lets the script finish.
CLAIM = """
if redis.call('EXISTS', answered) == 1 then return {'answered'} end
local holder = redis.call('GET', lease)
if holder and holder ~= ARGV[1] then return {'taken', false, redis.call('SCARD', failed)} end
redis.call('SET', lease, ARGV[1], 'PX', ARGV[2])
return {'mine', redis.call('GET', kept), redis.call('SCARD', failed)}
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
redis.call('SET', kept, ARGV[2], 'PX', ARGV[3])
return 1
"""
ANSWERED = """
if redis.call('GET', lease) == ARGV[1] then redis.call('DEL', lease) end
redis.call('DEL', kept, failed)
redis.call('SET', answered, 1, 'PX', ARGV[2])
return 1
"""
RELEASE = """
if redis.call('GET', lease) == ARGV[1] then redis.call('DEL', lease) end
if ARGV[2] == '1' and redis.call('EXISTS', answered) == 0 then
  redis.call('SADD', failed, ARGV[1])
  redis.call('PEXPIRE', failed, ARGV[3])
end
return 1
"""


@dataclass(frozen=True, slots=True)
class Call:
    """One script for one message, ready to be sent: now, or later."""

    script: str
    key: str
    arguments: tuple[str | bytes | int, ...] = field(repr=False)

    def send(self, client: Any) -> Any:
        """The reply; of a pipeline, nothing to look at yet."""
        keys = [f"{_PREFIX}:{{{self.key}}}:{name}" for name in ("lease", "kept", "failed", "answered")]
        # Not by its digest: a script has 300 bytes, and a Redis that was restarted knows no digest.
        return client.eval(_KEYS + self.script, len(keys), *keys, *self.arguments)

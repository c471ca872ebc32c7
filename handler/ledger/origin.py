"""By what names a message can be cancelled, and under which it is counted. Pure.

Names are hashes, so that the ledger holds no word of a requester's; each has the response topic in it: who gets the
answers of other topics has nothing to say here.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from handler.rules import strictjson

# The attributes by which requesters know their messages.
BATCH_ATTRIBUTE, REQUEST_ATTRIBUTE = "batch_id", "custom_id"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a message comes from: `names` of the cancels that mean it, `batch` and `member` for counting it.

    `batch` is "" where it is of none. `published` is when Pub/Sub took it, in milliseconds since 1970; 0 if unknown.
    """

    names: tuple[str, ...]
    batch: str
    member: str
    published: int


@dataclass(frozen=True, slots=True)
class Target:
    """What a cancel or a look means: `names` of the messages, their `batch` ("" for none), a pattern for each member.

    No patterns: the whole batch.
    """

    names: tuple[str, ...]
    batch: str
    patterns: tuple[str, ...] = ()


def origin_of(scope: str, message_id: str, attributes: Mapping[str, str], published: datetime | None) -> Origin:
    """The origin of a message; `scope` is the topic that its answer goes to."""
    batch_id, custom_id = attributes.get(BATCH_ATTRIBUTE, ""), attributes.get(REQUEST_ATTRIBUTE, "")
    names = [_message(scope, message_id)]
    names += [_request(scope, batch_id, custom_id)] if custom_id else []
    names += [_batch(scope, batch_id)] if batch_id else []
    member = f"{_short(custom_id)}:{_long(message_id)}" if batch_id else ""
    return Origin(tuple(names), _batch(scope, batch_id) if batch_id else "", member, milliseconds(published))


def target_of(scope: str, batch_id: str | None, request_id: str | None) -> Target:
    """What is meant by a batch's id, by a request's (its message's, or its attribute `custom_id`), or by both."""
    batch = _batch(scope, batch_id) if batch_id else ""
    if request_id is None:
        return Target((batch,), batch)
    names = (_message(scope, request_id), _request(scope, batch_id or "", request_id))
    return Target(names, batch, (f"{_short(request_id)}:*", f"*:{_long(request_id)}"))


def milliseconds(time: datetime | None) -> int:
    """Milliseconds since 1970; 0 for no time."""
    return max(0, int((time - _EPOCH).total_seconds() * 1000)) if time else 0


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _message(scope: str, message_id: str) -> str:
    return _digest(12, scope, "message", message_id)


def _request(scope: str, batch_id: str, custom_id: str) -> str:
    return _digest(12, scope, "request", batch_id, custom_id)


def _batch(scope: str, batch_id: str) -> str:
    return _digest(12, scope, "batch", batch_id)


def _short(custom_id: str) -> str:
    return _digest(6, custom_id)


def _long(message_id: str) -> str:
    return _digest(8, message_id)


def _digest(size: int, *words: str) -> str:
    return hashlib.blake2b(strictjson.dumps(words), digest_size=size).hexdigest()

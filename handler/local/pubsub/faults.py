"""Trouble on demand: publishes that fail or take long, pushes that come twice, late or cut off."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal, get_args

from grpc import StatusCode

from handler.local.pubsub.core.limits import RefusedError
from handler.local.pubsub.core.pb import Message
from handler.local.pubsub.push.loop import Send

Kind = Literal["publish-fails", "publish-answer-lost", "publish-late", "push-twice", "push-late", "push-cut"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One kind of trouble, and when it strikes.

    - `publish-fails`: the publish is refused with `status`; nothing is taken.
    - `publish-answer-lost`: the publish is taken, and refused with `status`: a retry makes a second message.
    - `publish-late`: the publish is answered `seconds` later.
    - `push-twice`: two copies are pushed at the same time; either's ack counts.
    - `push-late`: the push is sent `seconds` later.
    - `push-cut`: the connection is cut `seconds` after the push was begun: a nack.
    """

    kind: Kind
    every: int = 1
    """Strikes at every nth of the publishes (requests) or pushes that match."""
    times: int | None = None
    """Strikes so often at most."""
    match: str = ""
    """Only where this is part of the topic's or subscription's name."""
    seconds: float = 1.0
    status: str = "UNAVAILABLE"
    """A gRPC status code's name."""
    _chances: "itertools.count[int]" = field(
        default_factory=lambda: itertools.count(1), init=False, repr=False, compare=False
    )
    _strikes: "itertools.count[int]" = field(
        default_factory=lambda: itertools.count(1), init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        """Refuse what could never work: ValueError."""
        if self.kind not in get_args(Kind):
            raise ValueError(f"{self.kind!r} is none of {', '.join(get_args(Kind))}")
        if self.status not in StatusCode.__members__ or self.status == "OK":
            raise ValueError(f"{self.status!r} is no gRPC error status")
        if self.every < 1 or self.seconds < 0:
            raise ValueError("every is at least 1, seconds at least 0")

    @classmethod
    def parse(cls, text: str) -> "Fault":
        """Read `KIND,every=N,times=N,match=TEXT,seconds=S,status=NAME`. ValueError when it is not of that form."""
        kind, *rest = text.split(",")
        types = {"every": int, "times": int, "match": str, "seconds": float, "status": str}
        options = dict(option.split("=", 1) for option in rest if "=" in option)
        if len(options) < len(rest) or not options.keys() <= types.keys():
            raise ValueError(f"{text!r} is not KIND followed by any of ,{'= ,'.join(types)}=")
        return cls(kind=kind, **{name: types[name](value) for name, value in options.items()})  # type: ignore[arg-type]

    def strikes(self, kind: Kind, name: str) -> bool:
        """Tell whether it strikes now, at one more publish to, or push of, `name`."""
        if kind != self.kind or self.match not in name or next(self._chances) % self.every:
            return False
        return self.times is None or next(self._strikes) <= self.times

    def refusal(self) -> RefusedError:
        """Make the refusal of a publish."""
        return RefusedError(StatusCode[self.status], f"fault on demand: {self.kind}")


class Faults:
    """The faults in force. Safe to change from any thread."""

    def __init__(self) -> None:
        self._faults: tuple[Fault, ...] = ()

    def add(self, fault: Fault) -> None:
        """Put one more in force."""
        self._faults = (*self._faults, fault)

    def clear(self) -> None:
        """End all of them."""
        self._faults = ()

    @asynccontextmanager
    async def publishing(self, topic: str) -> AsyncIterator[None]:
        """Surround the publish of one request."""
        for fault in self._striking("publish-fails", topic):
            raise fault.refusal()
        yield
        for fault in self._striking("publish-late", topic):
            await asyncio.sleep(fault.seconds)
        for fault in self._striking("publish-answer-lost", topic):
            raise fault.refusal()

    def pushing(self, send: Send) -> Send:
        """Surround the sending of pushes."""

        async def push(received: Message, subscription: Message) -> bool:
            for fault in self._striking("push-late", subscription.name):
                await asyncio.sleep(fault.seconds)
            copies = 1 + any(self._striking("push-twice", subscription.name))
            cuts = [fault.seconds for fault in self._striking("push-cut", subscription.name)]
            try:
                async with asyncio.timeout(min(cuts, default=None)):
                    return any(await asyncio.gather(*(send(received, subscription) for _ in range(copies))))
            except TimeoutError:
                return False

        return push

    def _striking(self, kind: Kind, name: str) -> Iterator[Fault]:
        return (fault for fault in self._faults if fault.strikes(kind, name))

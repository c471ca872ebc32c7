"""What happens to messages, for those who want to watch: one event for each thing that the broker does.

Nothing is made while nobody listens. Listeners are called in the broker's loop: they must be quick, and never fail.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ParamSpec


@dataclass(frozen=True, slots=True)
class Published:
    """A topic has taken a message."""

    topic: str
    message_id: str
    data: bytes
    attributes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Delivered:
    """A subscription has handed a message out, for the `attempt`th time, counted from 1."""

    subscription: str
    message_id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class PushAnswered:
    """What a push got: an HTTP status, or 0 and the trouble in words."""

    subscription: str
    message_id: str
    status: int
    trouble: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The `attempt`th delivery was not acked. The next is due in `wait` seconds; None: it became a dead letter."""

    subscription: str
    message_id: str
    attempt: int
    wait: float | None


@dataclass(frozen=True, slots=True)
class Acked:
    """A message is done with."""

    subscription: str
    message_id: str


@dataclass(frozen=True, slots=True)
class Paced:
    """A push ended: from now on so many at once, and `backoff` seconds from one to the next."""

    subscription: str
    window: int
    backoff: float


Event = Published | Delivered | PushAnswered | Failed | Acked | Paced
Listener = Callable[[Event], None]
P = ParamSpec("P")


class Watch:
    """Those who listen. Safe to change from any thread."""

    def __init__(self) -> None:
        self._listeners: tuple[Listener, ...] = ()

    def add(self, listener: Listener) -> None:
        """Tell one more from now on."""
        self._listeners = (*self._listeners, listener)

    def tell(self, kind: Callable[P, Event], *values: P.args, **named: P.kwargs) -> None:
        """Make an event of this kind and tell it, if anybody listens."""
        if self._listeners:
            event = kind(*values, **named)
            for listener in self._listeners:
                listener(event)

"""The push loop of one subscription, and its pace: the window of concurrent pushes and the push backoff.

The window grows on an ack and halves on a failure: cloud.google.com/pubsub/docs/push. Of the backoff Google
documents the range, 100 ms to 60 s, and two figures: of five messages a second, one nacked means a push about
every 500 ms, all nacked one every 30 to 60 s. A score reproduces them: a nack adds one, an ack takes a share off,
and the wait between pushes is 100 ms * 2 ** (score - 1). Times in seconds.
"""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable

from handler.local.pubsub.core.pb import Message
from handler.local.pubsub.core.rules import Rules
from handler.local.pubsub.core.subscription import Subscription
from handler.local.pubsub.core.watch import Paced

_logger = logging.getLogger(__name__)

Send = Callable[[Message, Message], Awaitable[bool]]
"""Sends a ReceivedMessage as a configuration says, and tells, within its ack deadline, whether it was acked."""

_FORGIVEN = 0.927  # what an ack leaves of the score: with four acks to a nack the wait settles at about 500 ms


class Pace:
    """Says when one more push may start. Pure."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._shortest, self._longest = rules.push_backoff_range
        self._worst = 1 + math.log2(self._longest / self._shortest)
        self._score = 0.0
        self._last = -math.inf
        self.window = rules.first_window

    @property
    def backoff(self) -> float:
        """Seconds between pushes now; 0 when nothing failed lately."""
        slow = self._score >= 1 and self._rules.push_backoff
        return float(min(self._longest, self._shortest * 2 ** (self._score - 1))) if slow else 0.0

    def opens(self) -> float:
        """Tell when the backoff lets the next push start."""
        return self._last + self.backoff

    def started(self, now: float) -> None:
        """Count a push that went out."""
        self._last = now

    def settled(self, acked: bool, now: float) -> None:
        """Count an ack, or else a failure: a nack, a timeout, no connection."""
        if acked:
            more = self.window if self._rules.window_growth == "ack" else 1
            self.window = min(self._rules.largest_window, self.window + more)
            self._score *= _FORGIVEN
        else:
            self.window = max(1, self.window // 2)
            self._score = min(self._worst, self._score + 1)
            self._last = now


class Pusher:
    """Pushes one subscription's messages."""

    def __init__(self, subscription: Subscription, send: Send, rules: Rules) -> None:
        self._subscription = subscription
        self._send = send
        self._sum = rules.combine == "sum"
        self._out: set[asyncio.Task[None]] = set()
        self.pace = Pace(rules)

    async def run(self) -> None:
        """Push until cancelled, which cuts the pushes that are out."""
        clock = self._subscription.clock
        try:
            while True:
                while clock() >= self.pace.opens() and len(self._out) < self.pace.window and self._start():
                    pass
                opens = self.pace.opens()
                await self._subscription.change(opens if opens > clock() else math.inf)
        finally:
            for task in self._out:
                task.cancel()

    def _start(self) -> bool:
        # A new holder for each push, so that no ordering key has two messages out.
        taken = self._subscription.take(object(), 1)
        for received in taken:
            self.pace.started(self._subscription.clock())
            task = asyncio.create_task(self._push(received))
            self._out.add(task)
            task.add_done_callback(self._done)
        return bool(taken)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._out.discard(task)
        self._subscription.ring()

    async def _push(self, received: Message) -> None:
        self._subscription.counts["pushed"] += 1
        try:
            acked = await self._send(received, self._subscription.config)
        except Exception:
            _logger.exception("a bug: the push of message %s failed", received.message.message_id)
            acked = False
        self.pace.settled(acked, self._subscription.clock())
        self._subscription.watch.tell(Paced, self._subscription.config.name, self.pace.window, self.pace.backoff)
        if acked:
            self._subscription.ack([received.ack_id])
        else:
            self._subscription.nack(received.ack_id, self.pace.backoff if self._sum else 0.0)

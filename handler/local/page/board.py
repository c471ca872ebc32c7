"""The state of everything that the page shows, made from what Pub/Sub, the model's proxy and the service's log tell.

Used in one event loop. Memory is bounded: the last KEPT messages are known one by one, all are counted.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import singledispatchmethod
from typing import Any

from handler.local.page.message import OVER, Attempt, Message, Stage
from handler.local.page.reading import LogLine, request_of, response_of, sent_key
from handler.local.page.slots import Slots
from handler.local.proxy import CallBegan, CallEnded
from handler.local.pubsub.core.watch import Acked, Delivered, Failed, Paced, Published, PushAnswered

KEPT = 1000
_BRIEF = {0, 429, 503}  # after these the service may call again in place, in the same slot


@dataclass(frozen=True, slots=True)
class Names:
    """The topics and the subscription that are looked at."""

    requests: str
    responses: str
    push: str


class Board:
    """What is known. `version` grows with every change."""

    def __init__(self, names: Names, slots: int | None, clock: Callable[[], float]) -> None:
        """`slots` is the service's limit; None where it finds that itself."""
        self.version = 0
        self._names, self._clock = names, clock
        self._slots = Slots(slots)
        self._messages: OrderedDict[str, Message] = OrderedDict()  # the one that changed last comes last
        self._numbered: OrderedDict[int, Message] = OrderedDict()
        self._by_body: dict[bytes, list[Message]] = {}
        self._calls: dict[int, tuple[int, Message | None]] = {}
        self._totals: Counter[str] = Counter()
        self._stages: Counter[Stage] = Counter()
        self._pace = {"window": 0, "backoff": 0.0}

    def changes(self, since: int) -> dict[str, Any]:
        """What has changed after a version, and what is told every time; everything since version 0."""
        changed = []
        for message in reversed(self._messages.values()):
            if message.changed <= since:
                break
            changed.append(message.view(self._clock()))
        return {"messages": changed[::-1], "first": next(iter(self._numbered), 1), **self._summary()}

    def _summary(self) -> dict[str, Any]:
        totals = {name: self._totals[name] for name in ("published", "redelivered", "errors", "twice")}
        known = sum(self._stages[stage] for stage in Stage if stage not in OVER)
        over = {stage.value: self._totals[stage] for stage in OVER}
        beyond = totals["published"] - sum(over.values()) - known
        return {
            "totals": totals | over,
            "stages": {stage.value: self._stages[stage] for stage in Stage if stage not in OVER},
            "beyond": max(0, beyond),
            "slots": self._slots.view(),
            "pace": self._pace,
        }

    @singledispatchmethod
    def apply(self, event: object) -> None:
        """Take in what happened."""
        raise TypeError(f"not an event: {event!r}")

    @apply.register
    def _(self, event: Published) -> None:
        if event.topic == self._names.requests:
            self._add(event)
        elif event.topic == self._names.responses and (message := self._known(event.attributes)):
            self._totals["twice"] += message.responses > 0
            message.responses += 1
            message.response = message.response or response_of(event.data)
            self._touch(message)

    @apply.register
    def _(self, event: Delivered) -> None:
        if message := self._find(event):
            self._totals["redelivered"] += event.attempt > 1
            message.attempts.append(Attempt(event.attempt, self._clock()))
            self._move(message, Stage.LINE)

    @apply.register
    def _(self, event: PushAnswered) -> None:
        message = self._find(event)
        if message and message.attempts:
            attempt = message.attempts[-1]
            attempt.status, attempt.trouble = event.status, event.trouble
            attempt.seconds = self._clock() - attempt.began
            self._touch(message)

    @apply.register
    def _(self, event: Failed) -> None:
        if message := self._find(event):
            self._release(message)
            message.wait = event.wait or 0.0
            message.due = self._clock() + message.wait
            self._move(message, Stage.DEAD if event.wait is None else Stage.AGAIN)
        elif event.subscription == self._names.push and event.wait is None:
            self._count_unknown(Stage.DEAD)

    @apply.register
    def _(self, event: Acked) -> None:
        if message := self._find(event):
            self._release(message)
            self._totals["errors"] += message.response is not None and message.response.status >= 400
            self._move(message, Stage.ANSWERED if message.responses else Stage.LOST)
        elif event.subscription == self._names.push:
            self._count_unknown(Stage.ANSWERED)

    @apply.register
    def _(self, event: Paced) -> None:
        if event.subscription == self._names.push:
            self._pace = {"window": event.window, "backoff": round(event.backoff, 2)}
            self._changed()

    @apply.register
    def _(self, event: CallBegan) -> None:
        message = self._asked(sent_key(event.body))
        slot = self._slots.take(message.slot if message else None, message.number if message else 0)
        self._calls[event.call] = slot, message
        if message:
            message.slot, message.call = slot, event.call
            self._move(message, Stage.MODEL)
        self._changed()

    @apply.register
    def _(self, event: CallEnded) -> None:
        slot, message = self._calls.pop(event.call)
        if message is None or message.call != event.call:  # of nobody's, or of a push that has ended before
            self._slots.free(slot)
            self._changed()
            return
        message.call = None
        if message.attempts:
            message.attempts[-1].calls.append(event.status)
        if event.status not in _BRIEF:
            self._release(message)
        self._move(message, Stage.PAUSE if event.status in _BRIEF else Stage.PUBLISHING)

    @apply.register
    def _(self, event: LogLine) -> None:
        message = self._messages.get(event.message_id) if event.subscription == self._names.push else None
        attempt = message and message.attempt(event.attempt)
        if message and attempt:
            attempt.reason, attempt.detail = event.reason, event.detail
            self._touch(message)

    def _add(self, event: Published) -> None:
        self._totals["published"] += 1
        number = self._totals["published"]
        message = Message(number, event.message_id, request_of(event.data, event.attributes), self._clock())
        self._messages[message.message_id] = self._numbered[number] = message
        self._by_body.setdefault(message.request.body_key, []).append(message)
        self._stages[message.stage] += 1
        if len(self._numbered) > KEPT:
            self._forget(self._numbered.popitem(last=False)[1])
        self._touch(message)

    def _forget(self, message: Message) -> None:
        del self._messages[message.message_id]
        self._stages[message.stage] -= 1
        self._unlist(message)
        if message.call is None:
            self._release(message)
        message.call = None  # its slot is freed when the call ends

    def _unlist(self, message: Message) -> None:
        alike = self._by_body.get(message.request.body_key, [])
        if message in alike:
            alike.remove(message)
        if not alike:
            self._by_body.pop(message.request.body_key, None)

    def _count_unknown(self, stage: Stage) -> None:
        """Count one of so many messages that it is not known one by one."""
        self._totals[stage] += 1
        self._changed()

    def _asked(self, key: bytes) -> Message | None:
        """Whose call this is. Of several with the same body any will do: nobody can tell them apart."""
        alike = self._by_body.get(key, [])
        return next((each for each in alike if each.stage in (Stage.PAUSE, Stage.LINE)), None)

    def _find(self, event: Delivered | PushAnswered | Failed | Acked) -> Message | None:
        return self._messages.get(event.message_id) if event.subscription == self._names.push else None

    def _known(self, attributes: Any) -> Message | None:
        return self._messages.get(attributes.get("request_message_id", ""))

    def _release(self, message: Message) -> None:
        """Let the message's slot go; that of a call that goes on is freed when the call ends."""
        if message.slot is not None and message.call is None:
            self._slots.free(message.slot)
        message.slot = message.call = None

    def _move(self, message: Message, stage: Stage) -> None:
        self._stages[message.stage] -= 1
        message.stage = stage
        self._stages[stage] += 1
        if stage in OVER:
            self._totals[stage] += 1
            message.over = self._clock()
            self._unlist(message)
        self._touch(message)

    def _touch(self, message: Message) -> None:
        self._changed()
        if message.message_id in self._messages:
            message.changed = self.version
            self._messages.move_to_end(message.message_id)

    def _changed(self) -> None:
        self.version += 1

"""Answers control messages: notes in the ledger what is cancelled, and says where requests stand."""

import time
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import Any

from handler.config.settings import Settings
from handler.delivery import Delivery
from handler.ledger import Counts, Ledger, Stage
from handler.ledger.origin import Origin, Target, milliseconds, origin_of, target_of
from handler.push.envelope import PubsubMessage
from handler.rules import strictjson
from handler.rules.message.contract import Answer, ErrorCode, RequestError, error
from handler.rules.message.control import ControlMessage, Verb, is_control, parse_control
from handler.rules.verdict.outcome import Reason, Verdict

_WORDS = {
    Stage.ANSWERED: "answered",
    Stage.FAILED: "failed",
    Stage.CANCELLED: "cancelled",
    Stage.WORKING: "working",
    Stage.WAITING: "waiting",
}


class Control:
    """What requesters may have done, and learn, about their requests: those whose answers go to the same topic."""

    def __init__(self, settings: Settings, ledger: Ledger, pause: Callable[[float], bool]) -> None:
        """`pause` sleeps for some seconds, and returns True at once when the process is about to end."""
        self._is_on = settings.control_messages
        self._ledger = ledger
        self._pause = pause

    def origin(self, message: PubsubMessage, topic: str) -> Origin | None:
        """What the ledger needs to find a message cancelled, and to count it; None where nothing can be cancelled.

        `topic` is where its answer goes.
        """
        if not self._is_on or is_control(message.attributes):
            return None
        return origin_of(topic, message.message_id, message.attributes, message.publish_time)

    def answer(self, delivery: Delivery) -> Verdict:
        """Do what a control message asks; the verdict on it. Its metadata is the delivery's from here on."""
        message = delivery.message
        try:
            asked = parse_control(delivery.take_data(), message.attributes)
        except RequestError as refused:
            delivery.metadata = strictjson.dumps(refused.metadata)
            return Verdict(Reason.REQUEST_REFUSED, refused.answer, refused.code)
        delivery.metadata = strictjson.dumps(asked.metadata)
        return self._done(asked, milliseconds(message.publish_time), delivery.topic)

    def _done(self, asked: ControlMessage, published: int, topic: str) -> Verdict:
        if not self._is_on:
            return Verdict(Reason.REQUEST_REFUSED, _disabled(), ErrorCode.CONTROL_DISABLED)
        target = target_of(topic, asked.meant.batch_id, asked.meant.request_id)
        if asked.verb is Verb.STATUS:
            counts = self._ledger.counts(target)
        else:
            counts = self._ledger.cancel(target, published or int(time.time() * 1000))
        if counts is None:
            return Verdict(Reason.CONTROL, _unavailable(asked.verb), ErrorCode.LEDGER_UNAVAILABLE)
        if asked.verb is Verb.CANCEL and target.patterns and self._pause(self._ledger.spread_seconds):
            return Verdict(Reason.DRAINING)  # not every instance knows yet: the redelivery confirms it
        stages = self._ledger.stages(target) if target.patterns else []
        if stages is None:
            return Verdict(Reason.CONTROL, _unavailable(Verb.STATUS), ErrorCode.LEDGER_UNAVAILABLE)
        return Verdict(Reason.CONTROL, _response(asked, target, counts, stages), asked.verb)


def _response(asked: ControlMessage, target: Target, counts: Counts, stages: Collection[Stage]) -> Answer:
    body: dict[str, Any] = {
        asked.verb.value: asked.meant.model_dump(exclude_none=True),
        "cancelled_before": _time(counts.cancelled_before),
    }
    if target.patterns:
        body["state"] = _state(stages, counts)
    else:
        body |= {"counts": {word: getattr(counts, word) for word in _WORDS.values()}, "complete": counts.complete}
    return Answer(200, strictjson.dumps(body))


def _state(stages: Collection[Stage], counts: Counts) -> str:
    """Where one request stands: by the message that came furthest, if its batch was published more than once."""
    word = next((word for stage, word in _WORDS.items() if stage in stages), None)
    return word or ("cancelled" if counts.cancelled_before else "unknown")


def _time(since_1970: int) -> str | None:
    """RFC 3339, to the millisecond."""
    if not since_1970:
        return None
    return datetime.fromtimestamp(since_1970 / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _disabled() -> Answer:
    return error(
        ErrorCode.CONTROL_DISABLED,
        "This service takes no control messages. Its operator can switch them on: CONTROL_MESSAGES=true, with a ledger "
        "(LEDGER_URL).",
    )


def _unavailable(verb: Verb) -> Answer:
    noted = {
        Verb.CANCEL: "The cancel is noted at most at one instance of the service: publish it again in a while.",
        Verb.STATUS: "Ask again in a while.",
    }
    return error(ErrorCode.LEDGER_UNAVAILABLE, f"The service's ledger (Redis) is slow, full or away now. {noted[verb]}")

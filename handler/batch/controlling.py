"""Asks the relay itself: to cancel requests, or where they stand, by control messages on the topic of requests."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from handler.batch.asking import NoAnswer, Where, exchange, text_of
from handler.batch.pubsub import Outgoing
from handler.rules import strictjson
from handler.rules.message.control import ATTRIBUTE, Meant, Verb

REPLY_SECONDS = 60.0


class NotDone(Exception):
    """The relay has answered that it did not do it. The message is its own."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the relay says of a batch (`counts`) or of one request (`state`).

    What was published before `cancelled_before`, RFC 3339, is cancelled; None where nothing is. `counts` are messages
    that are answered, failed, cancelled, working and waiting; with `complete` False, not all of the batch's.
    """

    cancelled_before: str | None
    counts: Mapping[str, int] | None
    complete: bool
    state: str | None
    body: Mapping[str, Any]


def cancel_requests(
    batch_id: str | None = None,
    request_id: str | None = None,
    where: Where | None = None,
    *,
    seconds: float = REPLY_SECONDS,
) -> Reply:
    """Have a batch cancelled, or one request: by its message id, or its attribute `custom_id` (of that batch).

    When it returns, the model is not called any more for what was published before.
    Raises CannotRun, NoAnswer, NotDone.
    """
    return _asked(Verb.CANCEL, batch_id, request_id, where, seconds)


def requests_status(
    batch_id: str | None = None,
    request_id: str | None = None,
    where: Where | None = None,
    *,
    seconds: float = REPLY_SECONDS,
) -> Reply:
    """Where a batch stands at the relay, or one request of it. Raises CannotRun, NoAnswer, NotDone."""
    return _asked(Verb.STATUS, batch_id, request_id, where, seconds)


def cancelling(batch_id: str, attributes: Mapping[str, str]) -> Outgoing:
    """The message that cancels a batch; its response comes with these attributes."""
    data = {Verb.CANCEL.value: {"batch_id": batch_id}}
    return Outgoing(strictjson.dumps(data), {**attributes, ATTRIBUTE: Verb.CANCEL.value})


def _asked(verb: Verb, batch_id: str | None, request_id: str | None, where: Where | None, seconds: float) -> Reply:
    meant = Meant(batch_id=batch_id, request_id=request_id).model_dump(exclude_none=True)
    answer = exchange("control", {verb.value: meant}, {ATTRIBUTE: verb.value}, where or Where(), seconds)
    if answer is None:
        raise NoAnswer(
            f"no response within {seconds:g} s. The message waits behind the requests before it, unless the relay has "
            "a subscription for control messages alone (Terraform: control_messages), or Pub/Sub does not reach the "
            "relay. It will be done when it is delivered."
        )
    if answer.code:
        raise NotDone(text_of(answer.body) or answer.code)
    body = strictjson.loads(answer.body)
    return Reply(body.get("cancelled_before"), body.get("counts"), body.get("complete", True), body.get("state"), body)

"""One request, its answer: the smallest batch there is."""

import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from handler.batch.errors import CannotRun, NotAcked, NotTaken, OutcomeUnknown
from handler.batch.lines.answers import NotAResponse, ParsedResponse, parse
from handler.batch.names import full_name, project_of, request_topic, response_topic
from handler.batch.pubsub import Messages, Outgoing, Subscription, Topic, batch_filter
from handler.rules import strictjson

_ID = "1"
_LOOK_SECONDS = 1.0


class NoAnswer(Exception):
    """None came in time. The message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """The topics, and a subscription if one is given; full names or short ones in `project`."""

    topic: str | None = None
    responses: str | None = None
    subscription: str | None = None
    project: str | None = None


def ask(path: str, body: dict[str, Any], where: Where | None = None, *, seconds: float = 600.0) -> ParsedResponse:
    """Send one request and wait for its answer, whatever its status. Raises CannotRun and NoAnswer."""
    where = where or Where()
    answer = exchange("ask", {"path": path, "body": body}, {}, where, seconds)
    if answer is None:
        late = f"stays in {where.subscription}" if where.subscription else "will be dropped"
        raise NoAnswer(
            f"no answer within {seconds:g} s: the model may be starting, or Pub/Sub does not reach the relay. The "
            f"request stays with Pub/Sub; its answer {late}."
        )
    return answer


def exchange(
    kind: str, document: Mapping[str, Any], attributes: Mapping[str, str], where: Where, seconds: float
) -> ParsedResponse | None:
    """Publish one message, with metadata that names it, and wait for its response. None where none came in time.

    Raises CannotRun.
    """
    batch_id = f"{kind}-{uuid.uuid4().hex[:20]}"
    name = request_topic(where.topic, where.project)
    project = where.project or project_of(name)
    own = full_name("subscriptions", where.subscription or f"relay-{batch_id}", project)
    with Subscription(own) as subscription, Topic(name) as topic:
        if where.subscription is None:
            _create(subscription, response_topic(where.responses, project), batch_id)
        else:
            subscription.see(_LOOK_SECONDS)
        try:
            with subscription.messages() as messages:
                metadata = {"custom_id": _ID, "batch_id": batch_id}
                _publish(topic, {**document, "metadata": metadata}, {**attributes, **metadata})
                return _answer(messages, batch_id, seconds)
        finally:
            if where.subscription is None:
                subscription.delete()


def _create(subscription: Subscription, topic: str, batch_id: str) -> None:
    try:
        subscription.create(topic, batch_filter(batch_id))
    except CannotRun:
        raise
    except BaseException:  # who interrupts that may leave it behind
        subscription.delete()
        raise


def _publish(topic: Topic, document: Mapping[str, Any], attributes: Mapping[str, str]) -> None:
    try:
        topic.publish([Outgoing(strictjson.dumps(document), attributes)])
    except (NotTaken, OutcomeUnknown) as error:
        raise CannotRun(f"{topic.name} did not take the message: {error}") from None


def _answer(messages: Messages, batch_id: str, seconds: float) -> ParsedResponse | None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for received in messages.next_ones(1, _LOOK_SECONDS):
            if received.attributes.get("batch_id") != batch_id:
                continue
            with suppress(NotAcked):  # nobody waits for a second one
                messages.ack([received])
            try:
                return parse(received.data, received.attributes, _ID)
            except NotAResponse:
                raise CannotRun("what came back is no response of the relay's") from None
    return None


def text_of(body: bytes) -> str | None:
    """What a model said, of an answer to a completion, a chat or a response; None where it is something else.

    Such as the call of a tool, whose text is null.
    """
    document = strictjson.loads(body, finite=False)
    for read in (_chat, _completion, _response, _error):
        with suppress(LookupError, TypeError):
            if isinstance(text := read(document), str):
                return text
    return None


def _chat(document: Any) -> Any:
    return document["choices"][0]["message"]["content"]


def _completion(document: Any) -> Any:
    return document["choices"][0]["text"]


def _response(document: Any) -> str:
    parts = [part for item in document["output"] if item["type"] == "message" for part in item["content"]]
    return "".join(part["text"] for part in parts)


def _error(document: Any) -> Any:
    return document["error"]["message"]

"""The way of one message: read the request, call the model, decide, publish, and only then say what Pub/Sub gets."""

import hashlib
import itertools
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Protocol

from handler import outcome
from handler.budget import Budget, Limit, call_budget
from handler.config import MARGIN_SECONDS, Settings
from handler.contract import (
    OWN_ATTRIBUTES,
    Answer,
    InferenceRequest,
    Options,
    RequestError,
    encode_response,
    parse_request,
    response_attributes,
)
from handler.envelope import PubsubMessage
from handler.ledger import Claim, Ledger, State
from handler.outcome import ModelFailure, ModelReply, Reason, Situation, Verdict
from handler.patience import pause as pause_before_next
from handler.publisher import OutgoingMessage, PublishFailed, PublishRefused, ResponseTooLarge

POLL_SECONDS = 0.5  # between looks at a message that another instance works on
# Of all places, one in so many may be held by such waiting. When an instance dies, all of its messages are delivered to
# the others at once, and until its leases have run out there would be room for nothing else.
PLACES_PER_WAITER = 10


class Model(Protocol):
    """What the relay needs of the model service."""

    def call(self, path: str, body: bytes, seconds: float) -> ModelReply | ModelFailure:
        """POST `body` to `path` within `seconds`."""
        ...


class Publishes(Protocol):
    """What the relay needs of the response topic."""

    def fits(self, message: OutgoingMessage) -> bool:
        """Whether it can be published at all."""
        ...

    def publish(self, message: OutgoingMessage) -> str:
        """Publish, wait for the confirmation and return the message's id."""
        ...


@dataclass(slots=True)
class Delivery:
    """One delivery of a message, which came at `arrived` and is given up by Pub/Sub at `until`, on the monotonic clock.

    `key` names the message here and in the ledger, and is the same for its copies and redeliveries; `owner` names this
    attempt at it.
    """

    message: PubsubMessage
    arrived: float
    until: float
    key: str
    owner: str

    def take_data(self) -> bytes:
        """The message's data, once: it may be large, and is not to be held while the model works."""
        data = self.message.data
        self.message = replace(self.message, data=b"")
        return data


@dataclass(frozen=True, slots=True)
class _Inference:
    """What is left of a request while the model works on it: its body as bytes, not as the objects it is made of."""

    path: str
    body: bytes
    options: Options
    metadata: Mapping[str, Any]
    model: str | None


def _inference(request: InferenceRequest) -> _Inference:
    return _Inference(request.path, request.model_body(), request.options, request.metadata, request.model)


class Relay:
    """Answers messages, each in its caller's thread."""

    def __init__(
        self, settings: Settings, model: Model, publisher: Publishes, ledger: Ledger, pause: Callable[[float], bool]
    ) -> None:
        """`pause` sleeps for some seconds, and returns True at once when the process is about to end."""
        self._settings = settings
        self._model = model
        self._publisher = publisher
        self._ledger = ledger
        self._pause = pause
        self._waiters = threading.BoundedSemaphore(max(1, settings.concurrency // PLACES_PER_WAITER))
        self._typical_seconds = 0.0  # of a call that the model answered

    def delivery(self, message: PubsubMessage, arrived: float) -> Delivery:
        """Take in a message, whose push arrived at `arrived` on the monotonic clock."""
        until = arrived + self._settings.ack_deadline_seconds - MARGIN_SECONDS
        return Delivery(message, arrived, until, self._key(message), secrets.token_hex(16))

    def _key(self, message: PubsubMessage) -> str:
        parts = (message.subscription, message.message_id, str(message.publish_time), self._settings.response_topic)
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]

    def answer(self, delivery: Delivery) -> Verdict:
        """Work on one message.

        Where the returned verdict acknowledges, the message's response is published and confirmed, now or before.
        """
        claim = self._claim(delivery)
        if claim.state is State.ANSWERED:
            return Verdict(Reason.ALREADY_ANSWERED)
        if claim.state is State.TAKEN:
            return Verdict(Reason.IN_PROGRESS, detail="another instance works on it")
        verdict = Verdict(Reason.BUG)
        try:
            verdict = self._work(delivery, claim)
        finally:
            self._settle(delivery, verdict)
        return verdict

    def _claim(self, delivery: Delivery) -> Claim:
        """Claim the message; while another instance works on it, wait for what comes of that if there is room to."""
        claim = self._ledger.claim(delivery.key, delivery.owner)
        if claim.state is not State.TAKEN or not self._waiters.acquire(blocking=False):
            return claim
        try:
            return self._wait(delivery, claim)
        finally:
            self._waiters.release()

    def _wait(self, delivery: Delivery, claim: Claim) -> Claim:
        while claim.state is State.TAKEN and self._left(delivery) > POLL_SECONDS and not self._pause(POLL_SECONDS):
            claim = self._ledger.claim(delivery.key, delivery.owner)
            if claim.state is State.MINE and claim.kept is None and self._left(delivery) < self._typical_seconds:
                # The other one is gone, but what is left is too short to do its work again.
                self._ledger.release(delivery.key, delivery.owner, failed=False)
                return Claim(State.TAKEN)
        return claim

    def _left(self, delivery: Delivery) -> float:
        return delivery.until - time.monotonic()

    def _settle(self, delivery: Delivery, verdict: Verdict) -> None:
        if verdict.status == 204:
            self._ledger.answered(delivery.key, delivery.owner)
        else:
            failed = verdict.reason in (Reason.MODEL_FAILED, Reason.MODEL_MISCONFIGURED)
            self._ledger.release(delivery.key, delivery.owner, failed=failed)

    def _work(self, delivery: Delivery, claim: Claim) -> Verdict:
        if claim.kept is not None:
            kept = OutgoingMessage.from_bytes(claim.kept)
            return self._publish(delivery, Verdict(Reason.ANSWERED, detail="kept"), kept)
        try:
            inference = _inference(parse_request(delivery.take_data(), self._settings.allowed_paths))
        except RequestError as error:
            refused = Verdict(Reason.REQUEST_REFUSED, error.answer, error.code)
            return self._respond(delivery, refused, error.metadata)
        verdict = self._infer(delivery, inference, claim.failures)
        return self._respond(delivery, verdict, inference.metadata, inference.model)

    def _infer(self, delivery: Delivery, inference: _Inference, failures: int | None) -> Verdict:
        budget = self._budget(delivery, inference)
        if budget.limit is Limit.REQUEST_DEADLINE and budget.seconds <= 0:
            return Verdict(Reason.REQUEST_REFUSED, outcome.past_deadline(), "past its deadline")
        result, limit = self._call(delivery, inference, budget)
        if result is None:
            return Verdict(Reason.IN_PROGRESS, detail="another instance took over")
        return outcome.decide(result, self._situation(delivery.message, failures, limit))

    def _budget(self, delivery: Delivery, inference: _Inference) -> Budget:
        spent = time.monotonic() - delivery.arrived
        return call_budget(self._settings, inference.options, spent=spent, now=datetime.now(UTC))

    def _call(
        self, delivery: Delivery, inference: _Inference, budget: Budget
    ) -> tuple[ModelReply | ModelFailure | None, Limit]:
        """Call the model, again in place after brief trouble; the result, and what bounded the last call.

        No result where another instance has taken the message over meanwhile.
        """
        patience = self._settings.patience_seconds
        for tries in itertools.count(1):
            result = self._timed_call(inference.path, inference.body, budget.seconds)
            if isinstance(result, ModelReply) and result.status == 200:
                break
            seconds = pause_before_next(result, tries, min(patience, self._budget(delivery, inference).seconds))
            if seconds is None or self._pause(seconds):
                break
            if not self._ledger.holds(delivery.key, delivery.owner):
                return None, budget.limit
            patience -= seconds
            budget = self._budget(delivery, inference)
        return result, budget.limit

    def _timed_call(self, path: str, body: bytes, seconds: float) -> ModelReply | ModelFailure:
        begun = time.monotonic()
        result = self._model.call(path, body, seconds)
        if isinstance(result, ModelReply) and result.status == 200:
            self._typical_seconds += ((time.monotonic() - begun) - self._typical_seconds) / 8
        return result

    def _situation(self, message: PubsubMessage, failures: int | None, limit: Limit) -> Situation:
        now = datetime.now(UTC)
        return outcome.situation(
            attempt=message.delivery_attempt if failures is None else failures + 1,
            max_attempts=self._settings.max_attempts,
            age=(now - (message.publish_time or now)).total_seconds(),
            max_age=self._settings.max_age_seconds,
            limit=limit,
        )

    def _respond(
        self, delivery: Delivery, verdict: Verdict, metadata: Mapping[str, Any], model: str | None = None
    ) -> Verdict:
        """Publish the verdict's answer, if it has one."""
        if verdict.answer is None:
            return verdict
        try:
            return self._publish(delivery, verdict, _response(verdict.answer, delivery.message, metadata, model))
        except ResponseTooLarge:
            return self._respond(delivery, outcome.too_large(), metadata, model)

    def _publish(self, delivery: Delivery, verdict: Verdict, response: OutgoingMessage) -> Verdict:
        if not self._publisher.fits(response):  # found before it is kept, or its redelivery would stumble over it
            raise ResponseTooLarge
        if verdict.reason is not Reason.REQUEST_REFUSED:  # which cost nothing to make
            self._ledger.keep(delivery.key, delivery.owner, response.to_bytes())
        if not self._ledger.holds(delivery.key, delivery.owner):
            return Verdict(Reason.IN_PROGRESS, detail="another instance took over")
        try:
            self._confirm(response)
        except (PublishFailed, PublishRefused) as error:
            return Verdict(Reason.PUBLISH_FAILED, detail=str(error))
        return verdict

    def _confirm(self, response: OutgoingMessage) -> None:
        """Publish; where Pub/Sub will never take the echoed attributes, the response goes without them."""
        try:
            self._publisher.publish(response)
        except PublishRefused:
            own = {key: value for key, value in response.attributes.items() if key in OWN_ATTRIBUTES}
            self._publisher.publish(replace(response, attributes=own))


def _response(
    answer: Answer, message: PubsubMessage, metadata: Mapping[str, Any], model: str | None
) -> OutgoingMessage:
    attributes = response_attributes(
        message.attributes, message_id=message.message_id, status_code=answer.status_code, model=model
    )
    return OutgoingMessage(encode_response(answer, metadata), attributes, message.ordering_key)

"""The way of one message: read the request, call the model, decide, publish, and only then say what Pub/Sub gets."""

import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Protocol

from handler import outcome
from handler.budget import Budget, Limit, call_budget
from handler.config import Settings
from handler.contract import (
    OWN_ATTRIBUTES,
    Answer,
    InferenceRequest,
    RequestError,
    encode_response,
    parse_request,
    response_attributes,
)
from handler.envelope import PubsubMessage
from handler.outcome import ModelFailure, ModelReply, Reason, Situation, Verdict
from handler.publisher import OutgoingMessage, PublishFailed, PublishRefused, ResponseTooLarge


class Model(Protocol):
    """What the relay needs of the model service."""

    def call(self, path: str, body: bytes, seconds: float) -> ModelReply | ModelFailure:
        """POST `body` to `path` within `seconds`."""
        ...


class Publishes(Protocol):
    """What the relay needs of the response topic."""

    def publish(self, message: OutgoingMessage) -> str:
        """Publish, wait for the confirmation and return the message's id."""
        ...


class Relay:
    """Answers messages, each in its caller's thread."""

    def __init__(self, settings: Settings, model: Model, publisher: Publishes) -> None:
        self._settings = settings
        self._model = model
        self._publisher = publisher

    def answer(self, message: PubsubMessage, arrived: float) -> Verdict:
        """Work on one message, whose push arrived at `arrived` on the monotonic clock.

        Where the returned verdict acknowledges, its answer is published and confirmed.
        """
        try:
            request = parse_request(message.data, self._settings.allowed_paths)
        except RequestError as error:
            refused = Verdict(Reason.REQUEST_REFUSED, error.answer, error.code)
            return self._publish(refused, message, error.metadata)
        verdict = self._infer(request, message, arrived)
        return self._publish(verdict, message, request.metadata, request.model)

    def _infer(self, request: InferenceRequest, message: PubsubMessage, arrived: float) -> Verdict:
        now = datetime.now(UTC)
        budget = call_budget(self._settings, request.options, spent=time.monotonic() - arrived, now=now)
        if budget.limit is Limit.REQUEST_DEADLINE and budget.seconds <= 0:
            return Verdict(Reason.REQUEST_REFUSED, outcome.past_deadline(), "past its deadline")
        result = self._model.call(request.path, request.model_body(), budget.seconds)
        return outcome.decide(result, self._situation(message, budget, now))

    def _situation(self, message: PubsubMessage, budget: Budget, now: datetime) -> Situation:
        published = message.publish_time or now
        return outcome.situation(
            attempt=message.delivery_attempt,
            max_attempts=self._settings.max_attempts,
            age=(now - published).total_seconds(),
            max_age=self._settings.max_age_seconds,
            limit=budget.limit,
        )

    def _publish(
        self, verdict: Verdict, message: PubsubMessage, metadata: Mapping[str, Any], model: str | None = None
    ) -> Verdict:
        if verdict.answer is None:
            return verdict
        try:
            self._confirm(_response(verdict.answer, message, metadata, model))
        except ResponseTooLarge:
            return self._publish(outcome.too_large(), message, metadata, model)
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

"""What a message asks for: read, checked, with what it refers to in Cloud Storage, and where it goes."""

import time
from contextlib import ExitStack
from datetime import UTC, datetime

from handler.admission.turns import in_turn
from handler.config.settings import Settings
from handler.delivery import Delivery, Inference, check_topic, inference_of
from handler.ledger import Claim
from handler.routes import Route, Routes
from handler.rules import strictjson
from handler.rules.message.contract import InferenceRequest, RequestError, parse_request
from handler.rules.verdict import outcome
from handler.rules.verdict.outcome import Verdict
from handler.storage.claimcheck import ClaimCheck


class Over(Exception):
    """Nobody waits for the model's answer any more: the verdict."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.reason)
        self.verdict = verdict


class Reader:
    """Reads the requests of messages. Thread-safe."""

    def __init__(self, settings: Settings, routes: Routes, claim_check: ClaimCheck) -> None:
        self._settings = settings
        self._paths = settings.routing.allowed_paths
        self._routes = routes
        self._claim_check = claim_check

    def read(self, delivery: Delivery, claim: Claim, stack: ExitStack) -> tuple[Route, Inference]:
        """The request with what it refers to, which `stack` holds, and where it goes.

        Raises RequestError, StorageFailed, Refused where there is neither room nor time to fetch that, and Over. What
        could be read of the request's metadata is the delivery's then.
        """
        request = self._parsed(delivery)
        try:
            check_topic(delivery.message.attributes, request, self._settings.response_topics)
            route = self._route(delivery, request) if request.body_ref is None else None
            self._check_wanted(delivery, claim, request, route)
            return self._fetched(delivery, request, route, stack)
        except Exception:
            delivery.metadata = strictjson.dumps(request.metadata)
            raise

    def _parsed(self, delivery: Delivery) -> InferenceRequest:
        data = delivery.take_data()
        try:
            return in_turn(len(data), parse_request, data, self._paths, delivery.message.attributes)
        except RequestError as refused:
            delivery.metadata = strictjson.dumps(refused.metadata)
            raise

    def _fetched(
        self, delivery: Delivery, request: InferenceRequest, route: Route | None, stack: ExitStack
    ) -> tuple[Route, Inference]:
        seconds = delivery.until - time.monotonic() - self._settings.publish_timeout_seconds
        fetched = stack.enter_context(self._claim_check.fetched(request, seconds))
        request = fetched.request
        route = route or self._route(delivery, request)
        model, file = route.settings.model, fetched.file
        return route, inference_of(request, delivery.message.attributes, delivery.stream, self._settings, model, file)

    def _route(self, delivery: Delivery, request: InferenceRequest) -> Route:
        return self._routes.route(request, delivery.stream)

    def _check_wanted(self, delivery: Delivery, claim: Claim, request: InferenceRequest, route: Route | None) -> None:
        """Before it is fetched: that may be much. The model of a body that lies elsewhere is not known then."""
        deadline = request.options.deadline
        is_late = deadline is not None and deadline <= datetime.now(UTC)
        if claim.cancelled or is_late:
            delivery.record.routed(route.name if route else self._routes.only_name, request.model)
            delivery.model = request.model
            raise Over(outcome.cancelled() if claim.cancelled else outcome.expired())

"""The way of one message: read the request, call the model, decide, publish, and only then say what Pub/Sub gets."""

import hashlib
import itertools
import math
import random
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial

from handler.admission import Refused
from handler.admission.intake import Held
from handler.admission.line import Slot, Wish
from handler.admission.turns import in_turn
from handler.config.routing import Stream
from handler.config.settings import Settings
from handler.control import Control
from handler.delivery import Delivery, Inference, topic_of
from handler.ledger import Claim, Ledger, Stage, State
from handler.publisher import Publisher
from handler.push.envelope import PubsubMessage
from handler.reader import Over, Reader
from handler.responder import Responder
from handler.routes import Route, Routes
from handler.rules.message.contract import RequestError
from handler.rules.message.control import is_control
from handler.rules.verdict import outcome
from handler.rules.verdict.budget import Budget, Limit, call_budget
from handler.rules.verdict.outcome import ModelFailure, Reason, Situation, Verdict
from handler.rules.verdict.patience import pause as pause_before_next
from handler.rules.verdict.reply import ModelReply, Overflow
from handler.storage import StorageFailed
from handler.storage.claimcheck import ClaimCheck
from handler.telemetry import logs
from handler.telemetry.record import PushRecord

POLL_SECONDS = 0.5  # between looks at a message that another instance works on


class Relay:
    """Answers messages, each in its caller's greenlet."""

    def __init__(
        self,
        settings: Settings,
        routes: Routes,
        publisher: Publisher,
        ledger: Ledger,
        pause: Callable[[float], bool],
        claim_check: ClaimCheck | None = None,
    ) -> None:
        """`pause` sleeps for some seconds, and returns True at once when the process is about to end."""
        self._settings = settings
        self._routes = routes
        self._ledger = ledger
        self._pause = pause
        self._claim_check = claim_check or ClaimCheck(settings)
        self._reader = Reader(settings, routes, self._claim_check)
        self._responder = Responder(settings, publisher, ledger, self._claim_check, routes.only_name)
        self._control = Control(settings, ledger, pause)

    def drain(self) -> None:
        """Begin nothing any more that another delivery can do as well."""
        self._responder.drain()

    def delivery(
        self, message: PubsubMessage, stream: Stream, arrived: float, held: Held, record: PushRecord | None = None
    ) -> Delivery:
        """Take in a message, whose push arrived at `arrived` on the monotonic clock."""
        until = arrived + self._settings.ack_deadline_seconds - self._settings.margin_seconds
        held.resize(len(message.data))
        topic = topic_of(message, stream, self._settings.response_topics)
        origin = self._control.origin(message, topic)
        key, owner = _key(message, topic), f"{random.getrandbits(128):032x}"
        return Delivery(message, arrived, until, key, owner, held, stream, topic, record or PushRecord(), origin)

    def answer(self, delivery: Delivery) -> Verdict:
        """Work on one message. Raises Refused where it gets no slot of the model's.

        Where the returned verdict acknowledges, the message's response is published and confirmed, now or before.
        """
        claim = self._claim(delivery)
        delivery.record.claimed(claim)
        if claim.state is State.ANSWERED:
            return Verdict(Reason.ALREADY_ANSWERED)
        if claim.state is State.TAKEN:
            return Verdict(Reason.IN_PROGRESS, detail="another instance works on it")
        verdict = Verdict(Reason.DRAINING)  # where no Exception ends it: the process does
        try:
            verdict = self._answered(delivery, claim)
        except Refused as refused:
            verdict = Verdict(refused.reason, detail=refused.detail)
            raise
        except Exception as bug:
            verdict = Verdict(Reason.BUG, detail=type(bug).__name__)
            raise
        finally:
            self._settle(delivery, verdict)
        return verdict

    def _answered(self, delivery: Delivery, claim: Claim) -> Verdict:
        """The verdict on a message. Raises Refused, and a bug that it meets; at the last attempt that is answered."""
        try:
            return _confirmed(delivery, partial(self._work, delivery, claim))
        except Refused:
            raise
        except Exception as bug:
            verdict = outcome.bug(bug, self._situation(delivery, claim))
            # An answer that is paid for and kept is tried once more: its redelivery has it as `claim.kept`.
            if verdict.answer is None or (delivery.kept and not claim.is_made):
                raise
            logs.bug("a bug: please report it with this traceback", delivery.record.fields)
        return _confirmed(delivery, partial(self._responder.respond, delivery, verdict))

    def _claim(self, delivery: Delivery) -> Claim:
        """Claim the message; while another instance works on it, wait for what comes of that if there is room to."""
        claim = self._ledger.claim(delivery.key, delivery.owner, delivery.origin)
        if claim.state is not State.TAKEN:
            return claim
        with delivery.held.aside() as has_room:
            return self._wait(delivery, claim) if has_room else claim

    def _wait(self, delivery: Delivery, taken: Claim) -> Claim:
        claim = taken
        # What is granted may come with a kept response, which has to be published in time.
        enough = POLL_SECONDS + self._settings.publish_timeout_seconds
        while claim.state is State.TAKEN and self._left(delivery) > enough and not self._pause(POLL_SECONDS):
            claim = self._ledger.claim(delivery.key, delivery.owner, delivery.origin)
        if claim.state is State.MINE and not claim.is_made and (claim.failures or 0) > (taken.failures or 0):
            # The other one's attempt has failed. To try at once is what the redelivery's pause is there to prevent.
            self._ledger.release(delivery.key, delivery.owner, failed=False)
            return taken
        return claim

    def _left(self, delivery: Delivery) -> float:
        return delivery.until - time.monotonic()

    def _settle(self, delivery: Delivery, verdict: Verdict) -> None:
        if verdict.status == 204:
            self._ledger.answered(delivery.key, delivery.owner, _stage(verdict))
        else:
            failed = verdict.facts.is_failure
            self._ledger.release(delivery.key, delivery.owner, failed=failed, detail=verdict.detail)

    def _work(self, delivery: Delivery, claim: Claim) -> Verdict:
        if claim.is_made and (verdict := self._publish_made(delivery, claim)):
            return verdict
        if is_control(delivery.message.attributes):
            return self._responder.respond(delivery, self._control.answer(delivery))
        with ExitStack() as fetched:
            try:
                route, inference = self._reader.read(delivery, claim, fetched)
            except (Over, RequestError, StorageFailed) as error:
                verdict = self._failed(delivery, claim, error)
            else:
                return self._routed(delivery, route, inference, claim)
        return self._responder.respond(delivery, verdict)  # not sooner: the error holds the body that was read

    def _publish_made(self, delivery: Delivery, claim: Claim) -> Verdict | None:
        """Publish what is made. None where that is not to be had, and the message too old to wait for it any longer."""
        verdict = self._responder.publish_made(delivery, claim)
        if verdict is None and not self._situation(delivery, claim).last:  # to call the model would be to pay again
            raise Refused(Reason.BUSY, "its response is made and kept, and the ledger did not hand it over")
        return verdict

    def _routed(self, delivery: Delivery, route: Route, inference: Inference, claim: Claim) -> Verdict:
        """Go on with a request that could be read; what fails here fails while a file is streamed or stored."""
        delivery.record.routed(route.name, inference.model)
        delivery.held.resize(inference.size)
        delivery.metadata, delivery.model = inference.metadata, inference.model
        try:
            return self._infer(delivery, route, inference, claim)
        except (RequestError, StorageFailed) as error:
            verdict = self._failed(delivery, claim, error)
        return self._responder.respond(delivery, verdict)

    def _failed(self, delivery: Delivery, claim: Claim, error: Over | RequestError | StorageFailed) -> Verdict:
        if isinstance(error, Over):
            return error.verdict
        if isinstance(error, RequestError):
            return Verdict(Reason.REQUEST_REFUSED, error.answer, error.code)
        return outcome.storage_failed(str(error), self._situation(delivery, claim))

    def _infer(self, delivery: Delivery, route: Route, inference: Inference, claim: Claim) -> Verdict:
        """Wait for a slot, call the model in it, and publish; the slot is the next one's once the call is over."""
        with delivery.record.waiting():
            slot = route.line.take(self._wish(delivery, inference, claim))
        if slot is None:
            return self._responder.respond(delivery, outcome.expired())
        with slot:
            delivery.held.resize(0)
            verdict = self._decide(delivery, route, inference, claim, slot)
            slot.pass_on()
            return self._responder.respond(delivery, verdict)

    def _decide(self, delivery: Delivery, route: Route, inference: Inference, claim: Claim, slot: Slot) -> Verdict:
        budget = self._budget(delivery, route, inference)
        if budget.seconds <= 0:
            return _too_late(budget)
        result, budget = self._call(delivery, route, inference, budget, slot)
        if result is None:
            return Verdict(Reason.IN_PROGRESS, detail="another instance took over")
        now = self._situation(delivery, claim, budget)
        verdict = in_turn(_size(result), outcome.decide, result, now)
        delivery.record.decided(verdict, now)
        return verdict

    def _wish(self, delivery: Delivery, inference: Inference, claim: Claim) -> Wish:
        deadline = inference.options.deadline
        return Wish(
            model=inference.model or "",
            arrived=delivery.arrived,
            until=delivery.until - self._settings.publish_timeout_seconds,
            expires=time.monotonic() + (deadline - datetime.now(UTC)).total_seconds() if deadline else math.inf,
            priority=inference.priority,
            is_redelivery=(delivery.message.delivery_attempt or 1) > 1 or claim.no_attempts > 0,
            stream=delivery.stream.subscription,
            max_share=delivery.stream.max_share,
            size=inference.size,
        )

    def _budget(self, delivery: Delivery, route: Route, inference: Inference) -> Budget:
        return call_budget(
            inference.options,
            model_seconds=route.settings.timeout_seconds,
            push_seconds=self._left(delivery) - self._settings.publish_timeout_seconds,
            now=datetime.now(UTC),
        )

    def _call(
        self, delivery: Delivery, route: Route, inference: Inference, budget: Budget, slot: Slot
    ) -> tuple[ModelReply | ModelFailure | None, Budget]:
        """Call the model, again in place after brief trouble; the result, and the budget of the last call.

        No result where another instance has taken the message over meanwhile. No call where it was cancelled.
        """
        patience, overflow = self._settings.patience_seconds, self._claim_check.overflow(delivery.object_name)
        for tries in itertools.count(1):
            if not self._ledger.grant_call(delivery.key, delivery.owner):
                return ModelFailure.CANCELLED, budget
            result = _called(delivery, route, inference, budget.seconds, slot, overflow)
            to_wait = partial(self._to_wait, patience, delivery, route, inference)
            seconds = in_turn(_size(result), pause_before_next, result, tries, to_wait)
            if seconds is None:
                break
            if self._pause(seconds):
                return ModelFailure.ABORTED, budget
            if not self._ledger.holds(delivery.key, delivery.owner):
                return None, budget
            left = self._budget(delivery, route, inference)
            if left.seconds <= 0:  # the pause, and what was asked since, took longer than it was to
                break
            delivery.record.retries()
            patience, budget = patience - seconds, left
        return result, budget

    def _to_wait(self, patience: float, delivery: Delivery, route: Route, inference: Inference) -> float:
        """The seconds that may be spent on waiting before another call: some have to be left for the call."""
        return min(patience, self._budget(delivery, route, inference).seconds)

    def _situation(self, delivery: Delivery, claim: Claim, budget: Budget | None = None) -> Situation:
        now, message = datetime.now(UTC), delivery.message
        attempt = _attempt(message, claim)
        delivery.record.attempts(attempt)
        return outcome.situation(
            attempt,
            budget,
            max_attempts=delivery.stream.max_attempts,
            age=(now - (message.publish_time or now)).total_seconds(),
            max_age=self._settings.max_age_seconds,
            before=claim.before,
        )


def _confirmed(delivery: Delivery, work: Callable[[], Verdict]) -> Verdict:
    """What `work` returns; what it raises changes nothing once the response is published and confirmed."""
    try:
        return work()
    except Exception:
        if delivery.confirmed is None:
            raise
        # Given back, the message would have its response published again at every redelivery.
        logs.bug("a bug after the response was published: please report it", delivery.record.fields)
        return delivery.confirmed


def _called(
    delivery: Delivery, route: Route, inference: Inference, seconds: float, slot: Slot, overflow: Overflow | None
) -> ModelReply | ModelFailure:
    """Call the model service once, and tell the line how that went."""
    begun = time.monotonic()
    with delivery.record.calling(inference.path, route.settings.url) as part:
        headers = {**inference.headers, **part.context}
        try:
            result = route.model.call(inference.path, inference.body, seconds, headers, inference.model or "", overflow)
        except Exception:  # a file that is gone, a reply that was not stored: the model may have worked all the same
            delivery.record.called(ModelFailure.BROKEN, begun, part)
            raise
        delivery.record.called(result, begun, part)
    if isinstance(result, ModelReply):
        slot.called(
            begun,
            succeeded=result.status == 200,
            overloaded=result.status in (429, 503) or bool(result.waiting),
            retry_after=result.retry_after or 0.0,
        )
    return result


def _size(result: ModelReply | ModelFailure) -> int:
    """How many bytes there are to read of it."""
    return len(result.body) if isinstance(result, ModelReply) else 0


def _key(message: PubsubMessage, topic: str) -> str:
    parts = (message.subscription, message.message_id, str(message.publish_time), topic)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _too_late(budget: Budget) -> Verdict:
    """There is no time for a call. That is no failure of the model's, and not the requester's fault."""
    if budget.limit is Limit.REQUEST_DEADLINE:
        return outcome.expired()
    return Verdict(Reason.OVERDUE, detail="too little time is left for a call")


def _stage(verdict: Verdict) -> Stage:
    """How a message that is answered counts among those of its batch."""
    if verdict.reason is Reason.CANCELLED:
        return Stage.CANCELLED
    succeeded = verdict.answer is not None and 200 <= verdict.answer.status_code < 300
    return Stage.ANSWERED if succeeded else Stage.FAILED


def _attempt(message: PubsubMessage, claim: Claim) -> int | None:
    """The number of this attempt at an answer. Deliveries that came to nothing for other reasons are none.

    By the failures that all instances have counted, or by Pub/Sub's deliveries less those that this process knows to
    have been refused, or by the failures that this process has seen. None where nobody has counted anything.
    """
    if claim.failures is not None:
        return claim.failures + 1
    if message.delivery_attempt is not None:
        return max(1, message.delivery_attempt - claim.no_attempts)
    return claim.failed_here + 1 if claim.failed_here else None

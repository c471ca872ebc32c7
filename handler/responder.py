"""How an answer goes out: kept, published and confirmed, or stored where no message can hold it."""

import time
from dataclasses import replace

from handler.config.settings import Settings
from handler.delivery import Delivery
from handler.ledger import Claim, Ledger
from handler.publisher import OutgoingMessage, Publisher, PublishFailed, PublishRefused
from handler.rules.message.attributes import OWN_ATTRIBUTES, response_attributes
from handler.rules.message.contract import Answer, response_data
from handler.rules.verdict import outcome
from handler.rules.verdict.outcome import Reason, Verdict
from handler.storage.claimcheck import ClaimCheck
from handler.storage.semaphore import ByteSemaphore

NO_METADATA = b"{}"
FETCHED_BYTES = 32 << 20  # of kept responses, at once: what Redis hands over in time by a link of 8 MB a second


class Responder:
    """Publishes the answers of verdicts. Thread-safe."""

    def __init__(
        self, settings: Settings, publisher: Publisher, ledger: Ledger, claim_check: ClaimCheck, only_route: str
    ) -> None:
        """`only_route` is the route of all that was kept; "" where there are several."""
        self._only_route = only_route
        self._seconds = settings.publish_timeout_seconds
        self._publisher = publisher
        self._ledger = ledger
        self._claim_check = claim_check
        self._fetched = ByteSemaphore(FETCHED_BYTES)

    def respond(self, delivery: Delivery, verdict: Verdict) -> Verdict:
        """Publish the verdict's answer, if it has one. The verdict on how that went. Raises StorageFailed."""
        if verdict.answer is None:
            return verdict
        response = _response(verdict.answer, delivery)
        if not self._publisher.fits(response):  # found before it is kept, or its redelivery would stumble over it
            smaller = self._stored(delivery, verdict, verdict.answer)
            if verdict.answer != smaller.answer:
                return self.respond(delivery, smaller)
            if delivery.metadata != NO_METADATA:  # nothing else is left to leave out
                delivery.metadata = NO_METADATA
                return self.respond(delivery, smaller)
        if verdict.facts.is_free:
            is_held = self._ledger.holds(delivery.key, delivery.owner)
        else:
            is_held = self._ledger.keep(delivery.key, delivery.owner, response.to_bytes())
            delivery.kept = True
        return self._publish(delivery, verdict, response, is_held=is_held)

    def publish_made(self, delivery: Delivery, claim: Claim) -> Verdict | None:
        """Publish what an earlier delivery has made; None where the ledger does not hand it over now.

        After an outage there are many: only so many bytes are fetched at once. Raises Refused where there is no room.
        """
        if claim.kept is not None:
            delivery.held.resize(len(claim.kept))
            return self._publish_kept(delivery, claim.kept)
        with self._fetched.taken(claim.kept_bytes, delivery.until - time.monotonic() - self._seconds):
            kept = self._ledger.fetch(delivery.key)
            return None if kept is None else self._publish_kept(delivery, kept)

    def drain(self) -> None:
        """Fetch nothing any more that another delivery can publish."""
        self._fetched.drain()

    def _publish_kept(self, delivery: Delivery, kept: bytes) -> Verdict:
        delivery.record.kept(self._only_route)
        response = OutgoingMessage.from_bytes(kept)
        # How it went then does not matter any more, except by its status.
        verdict = Verdict(Reason.ANSWERED, Answer(int(response.attributes.get("status_code", "200")), b""), "kept")
        is_held = self._ledger.holds(delivery.key, delivery.owner)
        return self._publish(delivery, verdict, replace(response, topic=delivery.topic), is_held=is_held)

    def _stored(self, delivery: Delivery, verdict: Verdict, answer: Answer) -> Verdict:
        """What becomes of an answer that no message can hold. It is stored once, and then given up."""
        if answer.is_reference:
            return outcome.too_large()
        stored = self._claim_check.stored(
            delivery.object_name, answer, delivery.until - time.monotonic() - self._seconds
        )
        return replace(verdict, answer=stored, detail=outcome.STORED) if stored else outcome.too_large()

    def _publish(self, delivery: Delivery, verdict: Verdict, response: OutgoingMessage, *, is_held: bool) -> Verdict:
        if not is_held:
            return Verdict(Reason.IN_PROGRESS, detail="another instance took over")
        try:
            with delivery.record.publishing(response) as traced:
                self._confirm(traced if traced is response or self._publisher.fits(traced) else response)
                delivery.confirmed = verdict
        except (PublishFailed, PublishRefused) as error:
            return Verdict(Reason.PUBLISH_FAILED, detail=str(error))
        delivery.record.published(response.attributes.get("status_code", ""), verdict, response.data)
        return verdict

    def _confirm(self, response: OutgoingMessage) -> None:
        """Publish; where Pub/Sub will never take the echoed attributes, the response goes without them."""
        ends = time.monotonic() + self._seconds
        try:
            self._publisher.publish(response, ends - time.monotonic())
        except PublishRefused:
            own = {key: value for key, value in response.attributes.items() if key in OWN_ATTRIBUTES}
        else:
            return
        self._publisher.publish(replace(response, attributes=own), ends - time.monotonic())


def _response(answer: Answer, delivery: Delivery) -> OutgoingMessage:
    message = delivery.message
    attributes = response_attributes(
        message.attributes,
        message_id=message.message_id,
        status_code=answer.status_code,
        model=delivery.model,
        usage=answer.usage,
        is_reference=answer.is_reference,
    )
    return OutgoingMessage(response_data(answer, delivery.metadata), attributes, message.ordering_key, delivery.topic)

"""The decision table: what happened to a message decides what its requester and Pub/Sub get. Pure.

Everything that can happen is a Reason. FACTS says, for each, what Pub/Sub is answered, how loudly it is logged and what
it counts as; `decide` finds the Reason, and the Answer to publish, for what the model service did. What a reply means
is read in handler/rules/verdict/reply.py; whose trouble an error is stands in handler/rules/verdict/diagnosis.py.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from handler.rules.message.contract import Answer, ErrorCode, error
from handler.rules.verdict.budget import Budget, Limit
from handler.rules.verdict.diagnosis import Kind
from handler.rules.verdict.reply import ModelReply, Reading, invalid, read

# Deliveries after which an error that may be the request's own is its answer.
FEW_ATTEMPTS = 3
# The model's timeout, so many times, is what a request that never ends may cost.
WHOLE_TIMEOUTS = 2
# A call that had so much of the model's timeout was not cut short by what its push had waited.
NEARLY_ALL = 0.9
PAST_DEADLINE = "The request's own deadline (options.deadline) passed before the model had answered."
STORED = "stored"  # in the log, of an answer that no message can hold


class Reason(StrEnum):
    """Why a push was answered as it was: the one word for the log and the metrics."""

    ANSWERED = "answered"  # by the model: with its answer, or with its word on what is wrong with the request
    ALREADY_ANSWERED = "already_answered"
    REQUEST_REFUSED = "request_refused"
    MODEL_TIMED_OUT = "model_timed_out"
    RESPONSE_TOO_LARGE = "response_too_large"
    GAVE_UP = "gave_up"
    CANCELLED = "cancelled"
    CONTROL = "control"
    MODEL_FAILED = "model_failed"
    MODEL_MISCONFIGURED = "model_misconfigured"
    STORAGE_FAILED = "storage_failed"
    PUBLISH_FAILED = "publish_failed"
    IN_PROGRESS = "in_progress"
    BUSY = "busy"
    OVERDUE = "overdue"
    DRAINING = "draining"
    NOT_A_PUSH = "not_a_push"
    PUSH_TOO_LARGE = "push_too_large"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    KEYS_UNAVAILABLE = "keys_unavailable"
    BUG = "bug"


@dataclass(frozen=True, slots=True)
class Facts:
    """What follows from a Reason: the HTTP status that Pub/Sub gets, and the severity of the log line.

    `is_failure`: the attempt counts as a failed one. `is_no_attempt`: Pub/Sub has counted a delivery that was none.
    `is_free`: its response costs nothing to make, and is made again by the redelivery rather than kept.
    """

    status: int
    level: int
    is_failure: bool = False
    is_no_attempt: bool = False
    is_free: bool = False


# 204 acknowledges on the real service and on Google's emulator alike; everything from 400 up is a redelivery, so the
# exact status only tells operators what happened.
FACTS: Mapping[Reason, Facts] = {
    Reason.ANSWERED: Facts(204, logging.INFO),
    Reason.ALREADY_ANSWERED: Facts(204, logging.INFO),
    Reason.REQUEST_REFUSED: Facts(204, logging.INFO, is_free=True),
    Reason.MODEL_TIMED_OUT: Facts(204, logging.WARNING),
    Reason.RESPONSE_TOO_LARGE: Facts(204, logging.WARNING),
    Reason.GAVE_UP: Facts(204, logging.ERROR),
    Reason.CANCELLED: Facts(204, logging.INFO, is_free=True),
    Reason.CONTROL: Facts(204, logging.INFO, is_free=True),
    Reason.MODEL_FAILED: Facts(503, logging.WARNING, is_failure=True),
    Reason.MODEL_MISCONFIGURED: Facts(503, logging.ERROR, is_failure=True),
    Reason.STORAGE_FAILED: Facts(503, logging.ERROR, is_failure=True),
    Reason.PUBLISH_FAILED: Facts(503, logging.ERROR, is_no_attempt=True),
    Reason.IN_PROGRESS: Facts(503, logging.INFO, is_no_attempt=True),
    Reason.BUSY: Facts(429, logging.INFO, is_no_attempt=True),
    Reason.OVERDUE: Facts(503, logging.WARNING, is_no_attempt=True),
    Reason.DRAINING: Facts(503, logging.INFO, is_no_attempt=True),
    Reason.NOT_A_PUSH: Facts(400, logging.ERROR),
    Reason.PUSH_TOO_LARGE: Facts(413, logging.ERROR),
    Reason.UNAUTHENTICATED: Facts(401, logging.WARNING),
    Reason.FORBIDDEN: Facts(403, logging.WARNING),
    Reason.KEYS_UNAVAILABLE: Facts(503, logging.ERROR),
    Reason.BUG: Facts(500, logging.ERROR, is_failure=True),
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do with a message: publish `answer`, if there is one, and then tell Pub/Sub `status`."""

    reason: Reason
    answer: Answer | None = None
    detail: str = ""

    @property
    def status(self) -> int:
        """The HTTP status that Pub/Sub gets."""
        return self.facts.status

    @property
    def facts(self) -> Facts:
        """What follows from its reason."""
        return FACTS[self.reason]


class ModelFailure(StrEnum):
    """The model service gave no whole HTTP response."""

    UNREACHABLE = "unreachable"  # nothing was sent
    STALE = "stale"  # a kept connection had been closed: the request was most likely not read
    BROKEN = "broken"  # the connection ended early; the model may have worked on it
    GARBLED = "garbled"  # what came was not HTTP, or could not be unpacked; the model has worked on it
    NO_CREDENTIALS = "no credentials"  # for the model service could be had; nothing was sent
    TIMEOUT = "timeout"
    ABORTED = "aborted"  # by this process, which is about to end
    CANCELLED = "cancelled"  # by its requester, before it was called


@dataclass(frozen=True, slots=True)
class Situation:
    """What besides the model's reply the decision rests on.

    `attempt` is None where nobody counts; `last` says that no redelivery will be waited for; `limit` is what bounded
    the call to so many `seconds`, and `share` the part of the model's timeout that they are; `before` is the `detail`
    of the verdict on this message's last call, "" where nobody remembers one.
    """

    attempt: int | None
    last: bool
    limit: Limit = Limit.MODEL_TIMEOUT
    share: float = 1.0
    before: str = ""
    seconds: float = 0.0


def situation(
    attempt: int | None,
    budget: Budget | None = None,
    *,
    max_attempts: int,
    age: float,
    max_age: float,
    before: str = "",
) -> Situation:
    """Sum up a delivery, and what bounded its call if there was one.

    `age` and `max_age` in seconds; `age` counts from the message's publication.
    """
    exhausted = attempt is not None and attempt >= max_attempts
    budget = budget or Budget(0.0, Limit.MODEL_TIMEOUT)
    return Situation(attempt, exhausted or age >= max_age, budget.limit, budget.share, before, budget.seconds)


def decide(result: ModelReply | ModelFailure, now: Situation) -> Verdict:
    """The verdict on what the model service did with a request."""
    if isinstance(result, ModelFailure):
        return _failed(result, now)
    if result.stored is not None:
        answer = Answer(result.status, result.stored.to_json(), is_reference=True)
        return Verdict(Reason.ANSWERED, answer, STORED)
    if 200 <= result.status < 300 and result.truncated:
        return too_large()
    return _judged(read(result), now)


# Why a message is given back for a reply that is not its answer.
_GIVEN_BACK: Mapping[Kind, Reason] = {
    Kind.OPERATOR: Reason.MODEL_MISCONFIGURED,
    Kind.TEMPORARY: Reason.MODEL_FAILED,
    Kind.UNCERTAIN: Reason.MODEL_FAILED,
    Kind.NONSENSE: Reason.MODEL_FAILED,
}


def _judged(reading: Reading, now: Situation) -> Verdict:
    if reading.kind not in _GIVEN_BACK:
        return Verdict(Reason.ANSWERED, reading.answer, reading.detail)
    over = now.last or _tried_enough(reading, now)
    return _retry(_GIVEN_BACK[reading.kind], reading.answer, replace(now, last=over), reading.detail)


def _tried_enough(reading: Reading, now: Situation) -> bool:
    """Whether calling again is not worth its price: most likely the same comes once more."""
    few = now.attempt is not None and now.attempt >= FEW_ATTEMPTS
    if reading.kind is Kind.NONSENSE:
        return few or now.before == reading.detail
    return reading.kind is Kind.UNCERTAIN and few


def _failed(failure: ModelFailure, now: Situation) -> Verdict:
    if failure is ModelFailure.ABORTED:
        return Verdict(Reason.DRAINING, detail="cut off")
    if failure is ModelFailure.CANCELLED:
        return cancelled()
    if failure is ModelFailure.TIMEOUT:
        return _timed_out(now)
    if failure is ModelFailure.UNREACHABLE:
        message = "The model service could not be reached. Send the request again later, or tell its operator."
        return _retry(Reason.MODEL_FAILED, error(ErrorCode.MODEL_UNREACHABLE, message), now, failure)
    if failure is ModelFailure.NO_CREDENTIALS:
        message = "The relay has no credentials for the model service. Tell its operator, and send the request again."
        return _retry(Reason.MODEL_MISCONFIGURED, error(ErrorCode.MODEL_UNREACHABLE, message), now, failure)
    if failure is ModelFailure.GARBLED:
        return _judged(Reading(Kind.NONSENSE, invalid("was not HTTP, or could not be unpacked"), failure), now)
    return _retry(Reason.MODEL_FAILED, invalid("was cut off"), now, failure)


def _timed_out(now: Situation) -> Verdict:
    if now.limit is Limit.REQUEST_DEADLINE:
        return Verdict(Reason.MODEL_TIMED_OUT, past_deadline(), now.limit)
    answer = error(ErrorCode.MODEL_TIMEOUT, _overtime(now))
    if now.limit is Limit.REQUEST_TIMEOUT:
        return Verdict(Reason.MODEL_TIMED_OUT, answer, now.limit)
    # A request that spends all of the time will most likely do so again. Attempts are reckoned to be as long as this
    # one: a push that waited leaves less time than the model's timeout. Where nobody counts them it may be the second.
    if (now.attempt or WHOLE_TIMEOUTS) * now.share >= WHOLE_TIMEOUTS:
        return Verdict(Reason.MODEL_TIMED_OUT, answer, now.limit)
    return _retry(Reason.MODEL_FAILED, answer, now, f"timeout: {now.limit}")


def _overtime(now: Situation) -> str:
    if now.limit is Limit.PUSH_DEADLINE and now.share < NEARLY_ALL:
        return (
            "The request had waited, for a free slot or for a busy model, and what was left of its time was too "
            "little. Send it again when there is less to do."
        )
    limit = "raise options.timeout_seconds" if now.limit is Limit.REQUEST_TIMEOUT else "have the limit raised"
    return (
        f"The model did not finish within {round(now.seconds, 1):g} s. Ask for less (set max_tokens, shorten the "
        f"prompt), or {limit}."
    )


def _retry(reason: Reason, answer: Answer, now: Situation, detail: str) -> Verdict:
    """Wait for the redelivery; when there will be none, `answer` is the answer."""
    if now.last:
        return Verdict(Reason.GAVE_UP, answer, f"{reason}: {detail}")
    return Verdict(reason, detail=detail)


def past_deadline() -> Answer:
    """The answer to a request whose own deadline has passed."""
    return error(ErrorCode.DEADLINE_EXCEEDED, PAST_DEADLINE, param="options.deadline")


def expired() -> Verdict:
    """The verdict on a request whose own deadline passed before the model was called."""
    return Verdict(Reason.REQUEST_REFUSED, past_deadline(), "past its deadline")


def storage_failed(detail: str, now: Situation) -> Verdict:
    """The verdict where Cloud Storage did not give or take what it had to."""
    message = (
        "Cloud Storage could not be read or written. Send the request again later, or tell the service's operator."
    )
    return _retry(Reason.STORAGE_FAILED, error(ErrorCode.STORAGE_FAILED, message), now, detail)


def bug(error_: Exception, now: Situation) -> Verdict:
    """The verdict where the service met an error that it does not know. What its call has cost may be paid again."""
    message = "The service failed, and has logged why. Tell its operator, and send the request again once it is mended."
    return _retry(Reason.BUG, error(ErrorCode.INTERNAL_ERROR, message), now, type(error_).__name__)


def cancelled() -> Verdict:
    """The verdict on a request whose requester wants no call any more."""
    message = "The request, or its batch, was cancelled by a control message before the model was called for it."
    return Verdict(Reason.CANCELLED, error(ErrorCode.CANCELLED, message))


def too_large() -> Verdict:
    """The verdict on a response that no Pub/Sub message can hold, and that is not stored."""
    message = (
        "The response is larger than the 10 MB that Pub/Sub takes, and than what is stored elsewhere (MAX_RESPONSE_MB, "
        "with a RESPONSE_BUCKET). Ask for less: smaller max_tokens, n or batch."
    )
    return Verdict(Reason.RESPONSE_TOO_LARGE, error(ErrorCode.RESPONSE_TOO_LARGE, message))

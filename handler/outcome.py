"""The decision table: what happened to a message decides what its requester and Pub/Sub get. Pure.

Everything that can happen is a Reason. VERDICTS says, for each, what Pub/Sub is answered and how loudly it is logged;
`decide` finds the Reason, and the Answer to publish, for what the model service did.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from handler import strictjson
from handler.budget import Limit
from handler.contract import Answer, ErrorCode, error, excerpt, wrap_content


class Reason(StrEnum):
    """Why a push was answered as it was: the one word for the log and the metrics."""

    ANSWERED = "answered"
    ALREADY_ANSWERED = "already_answered"
    REQUEST_REFUSED = "request_refused"
    MODEL_TIMED_OUT = "model_timed_out"
    RESPONSE_TOO_LARGE = "response_too_large"
    GAVE_UP = "gave_up"
    MODEL_FAILED = "model_failed"
    MODEL_MISCONFIGURED = "model_misconfigured"
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


# What Pub/Sub is answered, and the severity of the log line. 204 acknowledges on the real service and on Google's
# emulator alike; everything from 400 up is a redelivery, so the exact status only tells operators what happened.
VERDICTS: Mapping[Reason, tuple[int, int]] = {
    Reason.ANSWERED: (204, logging.INFO),
    Reason.ALREADY_ANSWERED: (204, logging.INFO),
    Reason.REQUEST_REFUSED: (204, logging.INFO),
    Reason.MODEL_TIMED_OUT: (204, logging.WARNING),
    Reason.RESPONSE_TOO_LARGE: (204, logging.WARNING),
    Reason.GAVE_UP: (204, logging.ERROR),
    Reason.MODEL_FAILED: (503, logging.WARNING),
    Reason.MODEL_MISCONFIGURED: (503, logging.ERROR),
    Reason.PUBLISH_FAILED: (503, logging.ERROR),
    Reason.IN_PROGRESS: (503, logging.INFO),
    Reason.BUSY: (429, logging.INFO),
    Reason.OVERDUE: (503, logging.WARNING),
    Reason.DRAINING: (503, logging.INFO),
    Reason.NOT_A_PUSH: (400, logging.ERROR),
    Reason.PUSH_TOO_LARGE: (413, logging.ERROR),
    Reason.UNAUTHENTICATED: (401, logging.WARNING),
    Reason.FORBIDDEN: (403, logging.WARNING),
    Reason.KEYS_UNAVAILABLE: (503, logging.ERROR),
    Reason.BUG: (500, logging.ERROR),
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
        return VERDICTS[self.reason][0]

    @property
    def level(self) -> int:
        """The severity of the log line."""
        return VERDICTS[self.reason][1]


@dataclass(frozen=True, slots=True)
class ModelReply:
    """An HTTP response of the model service.

    `truncated` says that there was more of it than a message can hold; `retry_after` is in seconds;
    `waiting` is how many requests wait inside the model service, where it says so.
    """

    status: int
    content_type: str
    body: bytes = field(repr=False)
    content_encoding: str = ""
    truncated: bool = False
    retry_after: float | None = None
    waiting: int | None = None


class ModelFailure(StrEnum):
    """The model service gave no whole HTTP response."""

    UNREACHABLE = "unreachable"  # nothing was sent
    STALE = "stale"  # a kept connection had been closed: the request was most likely not read
    BROKEN = "broken"  # the connection ended early, or what came was not HTTP; the model may have worked on it
    TIMEOUT = "timeout"
    ABORTED = "aborted"  # by this process, which is about to end


@dataclass(frozen=True, slots=True)
class Situation:
    """What besides the model's reply the decision rests on.

    `attempt` is None where nobody counts; `last` says that no redelivery will be waited for; `limit` is what bounded
    the call.
    """

    attempt: int | None
    last: bool
    limit: Limit


def situation(*, attempt: int | None, max_attempts: int, age: float, max_age: float, limit: Limit) -> Situation:
    """Sum up a delivery. `age` and `max_age` in seconds; `age` counts from the message's publication."""
    exhausted = attempt is not None and attempt >= max_attempts
    return Situation(attempt=attempt, last=exhausted or age >= max_age, limit=limit)


def decide(result: ModelReply | ModelFailure, now: Situation) -> Verdict:
    """The verdict on what the model service did with a request."""
    if isinstance(result, ModelFailure):
        return _failed(result, now)
    if 200 <= result.status < 300:
        return _succeeded(result, now)
    return _refused(result, now)


def _succeeded(reply: ModelReply, now: Situation) -> Verdict:
    if reply.truncated:
        return too_large()
    problem, body = _content(reply)
    if body is None:
        return _retry(Reason.MODEL_FAILED, _invalid(problem), now, problem)
    return Verdict(Reason.ANSWERED, Answer(reply.status, body))


def _content(reply: ModelReply) -> tuple[str, bytes | None]:
    """The body to publish; or None, and what is wrong with it."""
    media_type = _media_type(reply)
    if _encoded(reply):
        return "was compressed although that was not asked for", None
    if not reply.body.strip():
        return "was empty", None
    if media_type == "text/event-stream":
        return "was an event stream although one response was asked for", None
    if media_type == "text/html":
        return "was an HTML page: MODEL_URL may point at something else than a model service", None
    if _json(reply) is not _NOT_JSON:
        return "", reply.body
    if not media_type or _is_json_type(media_type):
        return "was not whole JSON", None
    return "", wrap_content(reply.content_type, reply.body)


def _refused(reply: ModelReply, now: Situation) -> Verdict:
    answer, detail = _error_answer(reply), f"status {reply.status}"
    if reply.status in (401, 403, 407) or 300 <= reply.status < 400:
        return _retry(Reason.MODEL_MISCONFIGURED, answer, now, detail)
    if reply.status == 404 and not _is_openai_error(reply):
        return _retry(Reason.MODEL_MISCONFIGURED, answer, now, detail)
    if _temporary(reply.status):
        return _retry(Reason.MODEL_FAILED, answer, now, detail)
    return Verdict(Reason.ANSWERED, answer, detail)


def _temporary(status: int) -> bool:
    """Whether the same request may succeed later; a status that HTTP does not have says nothing about the request."""
    return status in (408, 409, 425, 429) or (not 200 <= status < 500 and status not in (501, 505))


def _error_answer(reply: ModelReply) -> Answer:
    """The model's own error; where that is no JSON, an error that quotes its start."""
    if not 400 <= reply.status < 600:
        return _invalid(f"had the status {reply.status}, which is no answer")
    if _json(reply) is not _NOT_JSON:
        return Answer(reply.status, reply.body)
    quoted = f" It began: {excerpt(reply.body)}" if reply.body and not _encoded(reply) else ""
    message = f"The model service answered with status {reply.status} and no JSON.{quoted}"
    return error(ErrorCode.MODEL_ERROR, message, status_code=reply.status)


def _failed(failure: ModelFailure, now: Situation) -> Verdict:
    if failure is ModelFailure.ABORTED:
        return Verdict(Reason.DRAINING, detail="cut off")
    if failure is ModelFailure.TIMEOUT:
        return _timed_out(now)
    if failure is ModelFailure.UNREACHABLE:
        message = "The model service could not be reached. Send the request again later, or tell its operator."
        return _retry(Reason.MODEL_FAILED, error(ErrorCode.MODEL_UNREACHABLE, message), now, failure)
    return _retry(Reason.MODEL_FAILED, _invalid("was cut off or was not HTTP"), now, failure)


def _timed_out(now: Situation) -> Verdict:
    if now.limit is Limit.REQUEST_DEADLINE:
        return Verdict(Reason.MODEL_TIMED_OUT, past_deadline(), now.limit)
    message = (
        f"The model did not finish within the time that {now.limit} allows. Ask for less (set max_tokens, shorten the "
        "prompt), or have the limit raised."
    )
    answer = error(ErrorCode.MODEL_TIMEOUT, message)
    if now.limit is Limit.REQUEST_TIMEOUT:
        return Verdict(Reason.MODEL_TIMED_OUT, answer, now.limit)
    # A request that spends all of the time will most likely do so again: it is paid for twice, not ten times.
    if now.limit is Limit.MODEL_TIMEOUT and now.attempt != 1:
        return Verdict(Reason.MODEL_TIMED_OUT, answer, now.limit)
    return _retry(Reason.MODEL_FAILED, answer, now, f"timeout: {now.limit}")


def _retry(reason: Reason, answer: Answer, now: Situation, detail: str) -> Verdict:
    """Wait for the redelivery; when there will be none, `answer` is the answer."""
    if now.last:
        return Verdict(Reason.GAVE_UP, answer, f"{reason}: {detail}")
    return Verdict(reason, detail=detail)


def past_deadline() -> Answer:
    """The answer to a request whose own deadline has passed."""
    return error(
        ErrorCode.DEADLINE_EXCEEDED,
        "The request's own deadline (options.deadline) passed before the model had answered.",
        param="options.deadline",
    )


def too_large() -> Verdict:
    """The verdict on a response that no Pub/Sub message can hold."""
    message = "The response is larger than the 10 MB that Pub/Sub takes. Ask for less: smaller max_tokens, n or batch."
    return Verdict(Reason.RESPONSE_TOO_LARGE, error(ErrorCode.RESPONSE_TOO_LARGE, message))


def _invalid(problem: str) -> Answer:
    return error(
        ErrorCode.INVALID_MODEL_RESPONSE,
        f"The model's answer {problem}. Send the request again later, or tell the model service's operator.",
    )


def _media_type(reply: ModelReply) -> str:
    return reply.content_type.partition(";")[0].strip().lower()


_NOT_JSON = object()


def _json(reply: ModelReply) -> Any:
    """The body as JSON, or _NOT_JSON. What is said to be something else must be an object or a list to count."""
    said_so = _is_json_type(_media_type(reply))
    if reply.truncated or _encoded(reply) or not (said_so or reply.body.lstrip()[:1] in (b"{", b"[")):
        return _NOT_JSON
    try:
        return strictjson.loads(reply.body, finite=False)
    except strictjson.JsonError:
        return _NOT_JSON


def _is_json_type(media_type: str) -> bool:
    return media_type == "application/json" or media_type.endswith("+json")


def _encoded(reply: ModelReply) -> bool:
    return reply.content_encoding not in ("", "identity")


def _is_openai_error(reply: ModelReply) -> bool:
    """Whether the error is the API's own (OpenAI's shape, or vLLM's older flat one), not a proxy's."""
    body = _json(reply)
    return isinstance(body, dict) and ("error" in body or body.get("object") == "error")

"""What was seen of one push, from its arrival to its end: for its line in the log and for the metrics."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from handler.admission import Refused
from handler.ledger import Claim
from handler.publisher import OutgoingMessage
from handler.push.envelope import Headers, PubsubMessage
from handler.rules.message.errorcode import error_code_in
from handler.rules.verdict.outcome import ModelFailure, Reason, Situation, Verdict
from handler.rules.verdict.reply import ModelReply
from handler.telemetry import logs, metrics
from handler.telemetry.context import context_of
from handler.telemetry.tracing import NO_TRACE, NO_TRACING, Part, Tracing

MAX_MODEL_CHARACTERS = 100  # of a model's name, which a requester may write as he likes


class PushRecord:
    """Is told of each thing that happens to a push. `fields` become those of its line in the log; for one greenlet."""

    def __init__(self, project: str = "", tracing: Tracing = NO_TRACING) -> None:
        """The push has just arrived. Its trace, if it is in one, is in this project of Google Cloud's."""
        self.arrived = time.monotonic()
        self._project = project
        self._tracing = tracing
        self._trace = NO_TRACE
        self._explains = logs.explains()
        self.fields: dict[str, object] = {}
        self._published_at: datetime | None = None
        self._route = metrics.NO_ROUTE
        self._is_kept = False

    def identify(self, message: PubsubMessage, headers: Headers) -> None:
        """The push is one of this message, and came with these headers."""
        self._published_at = message.publish_time
        self.fields.update(
            message_id=message.message_id,
            subscription=message.subscription,
            delivery_attempt=message.delivery_attempt,
            request_bytes=len(message.data),
        )
        parent = context_of(message.attributes, headers)
        self._trace = self._tracing.begin(message, parent, time.monotonic() - self.arrived)
        position = self._trace.position or parent
        if position is not None:
            self.fields.update(position.for_log(self._project))
        self._explain("a message of %d bytes, published at %s", len(message.data), message.publish_time)

    def claimed(self, claim: Claim) -> None:
        """The ledger was asked for the message."""
        self._explain(
            "ledger: %s; failures counted: %s, seen here: %d; deliveries that were no attempt: %d; kept: %s",
            *(claim.state, claim.failures, claim.failed_here, claim.no_attempts, claim.is_made),
        )

    def attempts(self, number: int | None) -> None:
        """The model had its chance, for the so many-th time; None where nobody counts."""
        if number is not None:
            self.fields["attempt"] = number

    def joined(self) -> None:
        """Another push of the message is being worked on, and this one waits for its verdict."""
        metrics.count("inference_relay_joined_total")
        self._explain("joins a copy of its message")

    def routed(self, route: str, model: str | None = None) -> None:
        """The message's request goes, or went, this way."""
        self._route = self.fields["route"] = route
        if model:
            self.fields["model"] = model[:MAX_MODEL_CHARACTERS]
        self._explain("goes to route %s", route)

    def kept(self, route: str) -> None:
        """The response is there already: it was made at an earlier delivery."""
        self.routed(route)
        self._is_kept = True

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """The message waits in the line, during a `with` block. Who is refused at once has not waited."""
        begun = time.monotonic()
        try:
            with self._trace.waiting():
                yield
        except Refused as refused:
            if refused.reason is not Reason.BUSY:
                self._waited(time.monotonic() - begun)
            raise
        self._waited(time.monotonic() - begun)

    def _waited(self, seconds: float) -> None:
        self.fields["line_seconds"] = round(seconds, 3)
        self._explain("waited in the line for %.3f s", seconds)
        metrics.observe("inference_relay_line_wait_seconds", seconds, self._route)

    def calling(self, path: str, url: str) -> Part:
        """The model service at this URL is called, during a `with` block."""
        model = self.fields.get("model")
        return self._trace.calling(path, str(model) if model else None, url)

    def called(self, result: ModelReply | ModelFailure, begun: float, part: Part) -> None:
        """A call of the model is over, which was begun at `begun` on the monotonic clock."""
        _tell(part, result)
        seconds = time.monotonic() - begun
        status = result.status if isinstance(result, ModelReply) else result
        metrics.observe(
            "inference_relay_model_call_duration_seconds", seconds, metrics.status_value(status), self._route
        )
        self._add("model_seconds", seconds)
        self._add("model_calls", 1)
        size = len(result.body) if isinstance(result, ModelReply) else 0
        self._explain("the model said: %s, in %.3f s and %d bytes", status, seconds, size)

    def retries(self) -> None:
        """The model is called again in place."""
        metrics.count("inference_relay_model_retries_total", self._route)
        self._explain("the model is called again in place")

    def decided(self, verdict: Verdict, now: Situation) -> None:
        """The verdict on what the model did; its tokens are spent, whatever becomes of the answer."""
        self._explain(
            "decided: %s %s; attempt %s, the last: %s, bounded by %s, before: %s",
            *(verdict.reason, verdict.detail, now.attempt, now.last, now.limit, now.before or "nothing"),
        )
        if verdict.answer is None:
            return
        usage = verdict.answer.usage
        self._trace.spent(usage)
        self._count_tokens("prompt_tokens", "input", usage.prompt_tokens)
        self._count_tokens("completion_tokens", "output", usage.completion_tokens)

    def _count_tokens(self, name: str, kind: str, tokens: int | None) -> None:
        if tokens is not None:
            self.fields[name] = tokens
            metrics.count("inference_relay_tokens_total", kind, self._route, by=tokens)

    @contextmanager
    def publishing(self, response: OutgoingMessage) -> Iterator[OutgoingMessage]:
        """A response is published, during a `with` block: the one to be published, with its place in the trace."""
        self.fields["response_bytes"] = len(response.data)
        begun = time.monotonic()
        try:
            with self._trace.publishing(response.topic) as part:
                part.note({"messaging.message.body.size": len(response.data)})
                yield response.within(part.context)
        finally:
            metrics.observe("inference_relay_publish_duration_seconds", time.monotonic() - begun)

    def published(self, status: str, verdict: Verdict, data: bytes) -> None:
        """A response with this status is published and confirmed."""
        self._explain("published: status %s", status)
        code = verdict.answer.error_code if verdict.answer and not self._is_kept else error_code_in(data)
        metrics.count("inference_relay_answers_total", metrics.status_value(status), code, self._route)
        if self._is_kept:
            metrics.count("inference_relay_kept_total")
        if self._published_at is not None:
            age = (datetime.now(UTC) - self._published_at).total_seconds()
            metrics.observe("inference_relay_answer_age_seconds", max(0.0, age))

    def end(self, verdict: Verdict) -> None:
        """The push is answered."""
        self.fields["seconds"] = round(time.monotonic() - self.arrived, 3)
        metrics.count("inference_relay_pushes_total", verdict.reason.value, str(verdict.status))
        logs.record(verdict, self.fields)
        self._trace.end(verdict.reason.value, verdict.status)

    def _explain(self, text: str, *arguments: object) -> None:
        if self._explains:
            logs.explain(self.fields, text, *arguments)

    def _add(self, name: str, number: float) -> None:
        before = self.fields.get(name, 0)
        self.fields[name] = round(number + (before if isinstance(before, int | float) else 0), 3)


def _tell(part: Part, result: ModelReply | ModelFailure) -> None:
    """How a call ended, for its trace."""
    if isinstance(result, ModelFailure):
        part.fail(result.value)
        return
    part.note({"http.response.status_code": result.status})
    if result.status >= 400:
        part.fail(str(result.status))

"""What a trace is told of a push; all of it does nothing here, where no traces are asked for."""

from collections.abc import Mapping

from handler.push.envelope import PubsubMessage
from handler.rules.message.usage import Usage
from handler.telemetry.context import Context


class Part:
    """Something that a push does, during a `with` block; this one is not traced."""

    def __enter__(self) -> "Part":
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        """It is over, or has failed."""

    @property
    def context(self) -> Mapping[str, str]:
        """What whoever is called has to know to go on with the trace: W3C's `traceparent` and `tracestate`."""
        return {}

    def note(self, attributes: Mapping[str, str | int | None]) -> None:
        """Add what is known now, by OpenTelemetry's names; None is not known."""

    def fail(self, kind: str) -> None:
        """It went wrong, in a word."""


class Trace:
    """The trace of one push; this one is none."""

    @property
    def position(self) -> Context | None:
        """Where the push stands in its trace, if it is traced here."""
        return None

    def waiting(self) -> Part:
        """The wait in the line."""
        return NO_PART

    def calling(self, path: str, model: str | None, url: str) -> Part:  # noqa: ARG002
        """One call of the model service at this URL."""
        return NO_PART

    def spent(self, usage: Usage) -> None:
        """The last call of the model has cost this."""

    def publishing(self, topic: str) -> Part:  # noqa: ARG002
        """Publishing the response, to the topic with this full name."""
        return NO_PART

    def end(self, reason: str, status: int) -> None:
        """The push is answered."""


NO_PART = Part()
NO_TRACE = Trace()


class Tracing:
    """Where traces begin; here none does."""

    def begin(self, message: PubsubMessage, parent: Context | None, seconds: float) -> Trace:  # noqa: ARG002
        """Begin the trace of a push that came so many seconds ago, or go on with the one that it comes from."""
        return NO_TRACE

    def close(self) -> None:
        """Send what is left, if that can be had soon."""


NO_TRACING = Tracing()

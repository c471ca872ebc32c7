"""Where a push stands in a trace, as W3C's traceparent says it, and as Cloud Logging reads it. Pure.

https://www.w3.org/TR/trace-context/ and https://cloud.google.com/logging/docs/structured-logging
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from handler.push.envelope import Headers

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?", re.ASCII)
MAX_TRACESTATE = 512  # characters; a longer one may be left out


@dataclass(frozen=True, slots=True)
class Context:
    """A trace and a span in it, in lower-case hexadecimal; `flags` and `state` as W3C has them."""

    trace_id: str
    span_id: str
    flags: int
    state: str = ""

    @property
    def sampled(self) -> bool:
        """Whether whoever began the trace has it recorded."""
        return bool(self.flags & 1)

    @property
    def traceparent(self) -> str:
        """As a header."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags:02x}"

    def for_log(self, project: str) -> dict[str, object]:
        """As Cloud Logging's fields, which lead from a line to its trace."""
        return {
            "logging.googleapis.com/trace": f"projects/{project}/traces/{self.trace_id}",
            "logging.googleapis.com/spanId": self.span_id,
            "logging.googleapis.com/trace_sampled": self.sampled,
        }


def context_of(attributes: Mapping[str, str], headers: Headers) -> Context | None:
    """Where a push comes from: the publisher's trace, by the attributes of Google's clients, or the HTTP request's."""
    if "googclient_traceparent" in attributes:
        return _parsed(attributes["googclient_traceparent"], attributes.get("googclient_tracestate", ""))
    traceparent = headers.get("traceparent", "")
    return _parsed(traceparent, headers.get("tracestate", "")) if traceparent else None


def _parsed(traceparent: str, tracestate: str) -> Context | None:
    found = _TRACEPARENT.fullmatch(traceparent.strip())
    if found is None or found[1] == "ff" or not int(found[2], 16) or not int(found[3], 16):
        return None
    return Context(found[2], found[3], int(found[4], 16), tracestate if len(tracestate) <= MAX_TRACESTATE else "")

"""Logs as Cloud Logging reads them: one JSON object a line, on standard error.

https://cloud.google.com/logging/docs/structured-logging
"""

import logging
import sys
from collections.abc import Mapping

from pythonjsonlogger.json import JsonFormatter

from handler.rules.outcome import Verdict

_log = logging.getLogger("handler.push")


def configure(level: str) -> None:
    """Log everything from `level` up, this process' libraries included."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JsonFormatter(
            "{levelname}{message}{name}",
            style="{",
            rename_fields={"levelname": "severity", "name": "logger", "exc_info": "stack_trace"},
            timestamp="time",
        )
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # These quote headers, addresses or bodies: urllib3 in warnings even, the others at DEBUG.
    for library, least in (("urllib3", logging.ERROR), ("google", logging.INFO), ("werkzeug", logging.INFO)):
        logging.getLogger(library).setLevel(max(least, logging.getLevelName(level)))


def record(verdict: Verdict, fields: Mapping[str, object]) -> None:
    """Write the one line about a push: the verdict, and what identifies the message. Never what is in it."""
    _log.log(
        verdict.level,
        "%s%s",
        verdict.reason,
        f": {verdict.detail}" if verdict.detail else "",
        extra={"reason": verdict.reason.value, "status": verdict.status, **fields},
    )


def note_refused(method: str, path: str) -> None:
    """Write a line about a request that is neither push nor health check. Not its query, which may hold a token."""
    _log.warning("refused: %s %s", method[:16], path[:100], extra={"reason": "refused"})

"""Logs as Cloud Logging reads them: one JSON object a line, on standard error.

https://cloud.google.com/logging/docs/structured-logging
"""

import logging
import sys
from collections.abc import Mapping
from typing import Any

from pydantic_core import to_json
from pythonjsonlogger.json import JsonEncoder, JsonFormatter

from handler.rules.verdict.outcome import Reason, Verdict

_log = logging.getLogger("handler.push")


def configure(level: str) -> None:
    """Log everything from `level` up, this process' libraries included."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter())
    for gunicorns in logging.getLogger("gunicorn.error").handlers:  # that of the functions-framework command, too
        gunicorns.setFormatter(formatter())
    # What no line has need not be found out: https://docs.python.org/3/howto/logging.html#optimization
    logging._srcfile = None
    for fact in ("logThreads", "logProcesses", "logMultiprocessing", "logAsyncioTasks"):
        setattr(logging, fact, False)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # These quote headers, addresses or bodies: urllib3 in warnings even, the others at DEBUG.
    for library, least in (("urllib3", logging.ERROR), ("google", logging.INFO), ("werkzeug", logging.INFO)):
        logging.getLogger(library).setLevel(max(least, logging.getLevelName(level)))


def formatter() -> logging.Formatter:
    """What makes a line of a record."""
    return JsonFormatter(
        "{levelname}{message}{name}",
        style="{",
        rename_fields={"levelname": "severity", "name": "logger", "exc_info": "stack_trace"},
        timestamp="time",
        json_serializer=_serialized,
    )


# For what pydantic_core cannot write, which takes a quarter of the time.
_ENCODER = JsonEncoder()


def _serialized(line: Mapping[str, Any], **_options: object) -> str:
    """The line in ASCII, whatever the terminal's encoding."""
    try:
        text = to_json(line)
    except ValueError:  # lone surrogates, or what is no plain value
        return _ENCODER.encode(line)
    return text.decode() if text.isascii() else _ENCODER.encode(line)


def for_gunicorn() -> Mapping[str, Any]:
    """The `logconfig_dict` of gunicorn: its errors in the same form. Its warnings quote what strangers send."""
    to_stderr = {"level": "ERROR", "handlers": ["error_console"], "propagate": False}
    return {
        "formatters": {"generic": {"()": formatter}},
        "root": {"level": "WARNING", "handlers": ["error_console"]},
        "loggers": {"gunicorn.error": to_stderr, "gunicorn.access": to_stderr},
    }


def explains() -> bool:
    """Whether steps are explained."""
    return _log.isEnabledFor(logging.DEBUG)


def explain(fields: Mapping[str, object], text: str, *arguments: object) -> None:
    """Write a line, at DEBUG, about a step on a push's way. Never what is in the message."""
    _log.debug(text, *arguments, extra={"message_id": fields.get("message_id")})


def record(verdict: Verdict, fields: Mapping[str, object]) -> None:
    """Write the one line about a push: the verdict, and what identifies the message. Never what is in it."""
    _log.log(
        verdict.facts.level,
        "%s%s",
        verdict.reason,
        f": {verdict.detail}" if verdict.detail else "",
        extra={"reason": verdict.reason.value, "status": verdict.status, **fields},
    )


def bug(said: str, fields: Mapping[str, object]) -> None:
    """Write the traceback of what is being handled, of a push that ends otherwise. Without a status: it is no push."""
    _log.error(said, exc_info=True, extra={**fields, "reason": Reason.BUG.value})


def note_refused(method: str, path: str) -> None:
    """Write a line about a request that is neither push nor health check. Not its query, which may hold a token."""
    _log.warning("refused: %s %s", method[:16], path[:100], extra={"reason": "refused"})

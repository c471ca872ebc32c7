"""What the page shows of requests, responses and log lines. Pure; whatever cannot be read is shown as it is, or not."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from handler.batch.asking import text_of

_PROMPT, _ANSWER, _DETAIL = 300, 2000, 300  # characters that are kept
_CHANGED = {"stream", "stream_options", "model"}  # fields of a body that the service may set otherwise


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it is shown. `body_key` recognises its body when the model is asked."""

    prompt: str
    priority: str
    body_key: bytes


@dataclass(frozen=True, slots=True)
class Response:
    """A response as it is shown."""

    status: int
    text: str


@dataclass(frozen=True, slots=True)
class LogLine:
    """What the service wrote about one push."""

    message_id: str
    subscription: str
    attempt: int
    reason: str
    detail: str


def request_of(data: bytes, attributes: Mapping[str, str]) -> Request:
    """Read a message of the request topic."""
    document = _object(data)
    body, options = document.get("body"), document.get("options")
    priority = options.get("priority") if isinstance(options, dict) else None
    prompt = _prompt(body) if isinstance(body, dict) else ""
    shown = prompt or data[: 4 * _PROMPT].decode(errors="replace")
    return Request(_cut(shown, _PROMPT), str(priority or attributes.get("priority", "normal")), body_key(body))


def body_key(body: Any) -> bytes:
    """Make what is the same for a request's body and for what the model is sent of it."""
    kept = {name: value for name, value in body.items() if name not in _CHANGED} if isinstance(body, dict) else body
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode(errors="surrogatepass")).digest()


def sent_key(data: bytes) -> bytes:
    """Make the `body_key` of what the model is sent."""
    return body_key(_object(data))


def response_of(data: bytes) -> Response:
    """Read a message of the response topic."""
    document = _object(data)
    body = json.dumps(document.get("body")).encode()
    status = document.get("status_code")
    text = _text(body) or body.decode()
    return Response(status if isinstance(status, int) else 0, _cut(text, _ANSWER))


def log_line_of(line: str) -> LogLine | None:
    """Read a line of the service's log; None where it is about no push of a message that is known by its number."""
    fields = _object(line.encode())
    reason, attempt = fields.get("reason"), fields.get("delivery_attempt")
    if not isinstance(reason, str) or not isinstance(attempt, int):
        return None
    detail = str(fields.get("message", "")).removeprefix(reason).removeprefix(": ")
    return LogLine(
        str(fields.get("message_id")), str(fields.get("subscription")), attempt, reason, _cut(detail, _DETAIL)
    )


def _object(data: bytes) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _prompt(body: dict[str, Any]) -> str:
    for field in ("prompt", "input"):
        if isinstance(body.get(field), str):
            return str(body[field])
    messages = body.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else None
    content = last.get("content") if isinstance(last, dict) else None
    return content if isinstance(content, str) else ""


def _text(body: bytes) -> str | None:
    try:
        return text_of(body)
    except (ValueError, RecursionError):
        return None


def _cut(text: str, length: int) -> str:
    words = text.strip().encode(errors="replace").decode()  # a lone surrogate cannot be sent
    return words if len(words) <= length else f"{words[: length - 1]}…"

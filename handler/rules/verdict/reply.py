"""Reads a model's HTTP response: is it an answer, and if not, whose trouble is it? Pure.

What an HTTP client would have read is read: a byte order mark, other encodings, NaN, raw control characters. What goes
on is valid JSON always, and byte by byte what the model wrote where that is valid already.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.message import Message
from typing import Any

from handler.rules import strictjson
from handler.rules.message.content import excerpt, is_text_type, wrap_content
from handler.rules.message.contract import Answer, ErrorCode, error
from handler.rules.message.reference import Stored
from handler.rules.message.usage import usage_of
from handler.rules.verdict.complaint import Complaint, Shape, complaint_in
from handler.rules.verdict.diagnosis import Kind, diagnose


@dataclass(frozen=True, slots=True)
class ModelReply:
    """An HTTP response of the model service.

    `truncated` says that there was more of it than a message can hold, and `stored` where all of it is, if anywhere;
    `retry_after` is in seconds; `waiting` is how many requests wait inside the model service, where it says so.
    """

    status: int
    content_type: str
    body: bytes = field(repr=False)
    content_encoding: str = ""
    truncated: bool = False
    stored: Stored | None = None
    retry_after: float | None = None
    waiting: int | None = None


# Takes the head of a reply and all the parts of its body; None where it takes no such reply, or not so much of it.
Overflow = Callable[[ModelReply, Iterator[bytes]], Stored | None]


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reply is, the answer to publish if nothing is waited for, and a word for the log that quotes nothing.

    `what` is the table's name for an error that it knows.
    """

    kind: Kind
    answer: Answer
    detail: str = ""
    what: str = ""


def read(reply: ModelReply) -> Reading:
    """Judge a whole reply of any status."""
    document = _document(reply)
    succeeded = 200 <= reply.status < 300
    complaint = complaint_in(document.value, succeeded=succeeded) if document is not None else None
    if document is not None and complaint is not None and succeeded:
        status = complaint.status or 502
        return _error(status, complaint, Answer(status, document.text), f"status {reply.status} with an error in it")
    if succeeded:
        return _content(reply, document)
    return _error(
        reply.status, complaint or _unstructured(reply), _error_answer(reply, document), f"status {reply.status}"
    )


def is_storable(head: ModelReply) -> bool:
    """Whether a reply, by all but its body, is an answer that is stored unread where no message can hold it."""
    succeeded = 200 <= head.status < 300
    return succeeded and not _encoded(head) and not _is_html(head) and _media_type(head) != "text/event-stream"


def invalid(problem: str, quoted: str = "") -> Answer:
    """The relay's own error for a reply that is no answer."""
    return error(
        ErrorCode.INVALID_MODEL_RESPONSE,
        f"The model's answer {problem}.{quoted} Send the request again later, or tell the model service's operator.",
    )


def _error(status: int, complaint: Complaint, answer: Answer, said: str) -> Reading:
    kind, what = diagnose(status, complaint)
    return Reading(kind, answer, f"{said}: {what}" if what else said, what)


def _error_answer(reply: ModelReply, document: "_Document | None") -> Answer:
    """The model's own error; where that is no JSON, an error that quotes its start."""
    if not 400 <= reply.status < 600:
        return invalid(f"had the status {reply.status}, which is no answer")
    if document is not None:
        return Answer(reply.status, document.text)
    message = f"The model service answered with status {reply.status} and no JSON.{_quoted(reply)}"
    return error(ErrorCode.MODEL_ERROR, message, status_code=reply.status)


# --- a success


def _content(reply: ModelReply, document: "_Document | None") -> Reading:
    media_type = _media_type(reply)
    if _encoded(reply):
        return _nonsense(reply, "was compressed although that was not asked for")
    if not reply.body.strip(b" \t\r\n\0\xef\xbb\xbf"):
        return _nonsense(reply, "was empty")
    if media_type == "text/event-stream":
        return _nonsense(reply, "was an event stream although one response was asked for")
    if _is_html(reply):
        problem = "was an HTML page: MODEL_URL may point at something else than a model service"
        return Reading(Kind.OPERATOR, invalid(problem, _quoted(reply)), problem)
    if document is not None:
        return _json_content(reply, document)
    if not media_type or _is_json_type(media_type):
        return _nonsense(reply, "was not whole JSON")
    wrapped = wrap_content(reply.content_type, reply.body)
    return Reading(Kind.ANSWER, Answer(reply.status, wrapped, wraps=reply.content_type))


def _json_content(reply: ModelReply, document: "_Document") -> Reading:
    value = document.value
    if isinstance(value, dict) and value.get("choices", ()) is None:
        return _nonsense(reply, "had no choices (null) and no error that says why")
    return Reading(Kind.ANSWER, Answer(reply.status, document.text, usage_of(value)))


def _nonsense(reply: ModelReply, problem: str) -> Reading:
    return Reading(Kind.NONSENSE, invalid(problem, _quoted(reply)), problem)


def _quoted(reply: ModelReply) -> str:
    readable = reply.body.strip() and not _encoded(reply)
    return f" It began: {excerpt(reply.body)}" if readable else ""


# --- what kind of content it is


_HTML = re.compile(rb"\s*<(!doctype html|html)\b", re.IGNORECASE)


def _unstructured(reply: ModelReply) -> Complaint:
    """An error that is no JSON object."""
    if _encoded(reply):
        return Complaint(shape=Shape.FLAT)
    return Complaint(excerpt(reply.body), shape=Shape.PAGE if _is_html(reply) else Shape.TEXT)


@dataclass(frozen=True, slots=True)
class _Document:
    """Valid JSON, and what it says."""

    text: bytes
    value: Any


def _document(reply: ModelReply) -> _Document | None:
    """The body as JSON, if it is that. What is said to be something else must be an object or a list to count."""
    if reply.truncated or _encoded(reply) or not _may_be_json(reply):
        return None
    try:
        return _Document(reply.body, strictjson.loads(reply.body, finite=False))
    except strictjson.JsonError:
        return _tidied(reply)


def _may_be_json(reply: ModelReply) -> bool:
    media_type = _media_type(reply)
    if _is_json_type(media_type):
        return True
    lines_of_json = media_type.startswith("application/") and is_text_type(media_type)
    return not lines_of_json and reply.body.lstrip(b" \t\r\n\xef\xbb\xbf\xff\xfe\0")[:1] in (b"{", b"[")


def _tidied(reply: ModelReply) -> _Document | None:
    """What Python's `json`, and so every client built on it, reads though it is not quite JSON."""
    text = _TOKEN.sub(_as_json, _decoded(reply)).encode()
    try:
        return _Document(text, strictjson.loads(text, finite=False))
    except strictjson.JsonError:
        return None


def _decoded(reply: ModelReply) -> str:
    for encoding in (json.detect_encoding(reply.body), _charset(reply)):
        try:
            return reply.body.decode(encoding, "surrogatepass" if encoding.startswith("utf") else "strict")
        except (ValueError, LookupError):
            continue
    return reply.body.decode("utf-8", "replace")


# Strings, and between them what is no JSON: Python's and C's names for what no JSON number is.
_TOKEN = re.compile(
    r'"(?:[^"\\]++|\\.)*+"|(?<![\w.])-?(?:Infinity|inf|NaN)(?![\w(])|[\ud800-\udfff]', re.DOTALL | re.IGNORECASE
)
_RAW = re.compile(r"[\x00-\x1f\ud800-\udfff]")


def _as_json(token: re.Match[str]) -> str:
    text = token[0]
    if not text.startswith('"'):
        return "null"
    return _RAW.sub(lambda raw: f"\\u{ord(raw[0]):04x}", text)


def _is_html(reply: ModelReply) -> bool:
    return _media_type(reply) in ("text/html", "application/xhtml+xml") or bool(_HTML.match(reply.body))


def _media_type(reply: ModelReply) -> str:
    return reply.content_type.partition(";")[0].strip().lower()


def _charset(reply: ModelReply) -> str:
    header = Message()
    header["content-type"] = reply.content_type.encode("ascii", "replace").decode()
    return header.get_content_charset("utf-8")


def _is_json_type(media_type: str) -> bool:
    return media_type in ("application/json", "text/json", "application/x-json") or media_type.endswith("+json")


def _encoded(reply: ModelReply) -> bool:
    return reply.content_encoding not in ("", "identity")

"""What comes back: a response message, and the line of the output or error file that it becomes. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from handler.rules import strictjson
from handler.rules.message.contract import ERRORS, ErrorCode
from handler.rules.message.usage import usage_of


class Style(StrEnum):
    """How the output is written."""

    OPENAI = "openai"
    VLLM = "vllm"


@dataclass(frozen=True, slots=True)
class ParsedResponse:
    """One response of the relay. `body` is the model's JSON in one line; `code` is set where it is an error's."""

    custom_id: str
    request_message_id: str
    status_code: int
    body: bytes
    metadata: Mapping[str, Any]
    code: str | None = None
    model: str | None = None
    tokens_in: int = 0
    tokens_out: int = 0
    is_reference: bool = False  # the relay says that the body only names where the content is

    @property
    def is_cancelled(self) -> bool:
        """Whether it is the relay's word that the model was not called, since the request was cancelled."""
        return self.code == ErrorCode.CANCELLED and self.status_code == ERRORS[ErrorCode.CANCELLED].status_code


class NotAResponse(Exception):
    """The message is no response of the relay's."""


def origin(data: bytes, attributes: Mapping[str, str]) -> tuple[str | None, str | None]:
    """The batch and the custom id that a response belongs to.

    They are in its attributes; where those did not come back (Pub/Sub refused them, or the push was unwrapped), in its
    metadata.
    """
    if "batch_id" in attributes and "custom_id" in attributes:
        return attributes["batch_id"], attributes["custom_id"]
    try:
        metadata = strictjson.loads(data, finite=False)["metadata"]
        return _text(metadata.get("batch_id")), _text(metadata.get("custom_id"))
    except (strictjson.JsonError, LookupError, TypeError, AttributeError):
        return attributes.get("batch_id"), attributes.get("custom_id")


def parse(data: bytes, attributes: Mapping[str, str], custom_id: str) -> ParsedResponse:
    """Read a response message. Raises NotAResponse."""
    try:
        document = strictjson.loads(data, finite=False)
        status, metadata, body = int(document["status_code"]), dict(document["metadata"]), document["body"]
        text = _body(data, status, metadata, body)
    except (strictjson.JsonError, LookupError, TypeError, ValueError):
        raise NotAResponse from None
    tokens_in, tokens_out = tokens_of(body)
    return ParsedResponse(
        custom_id=custom_id,
        request_message_id=attributes.get("request_message_id", ""),
        status_code=status,
        body=text,
        metadata=metadata,
        code=None if 200 <= status < 300 else _code(status, body),
        model=_text(_of(body, "model")) or attributes.get("model"),
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        is_reference=attributes.get("content_ref") == "true",
    )


def _body(data: bytes, status: int, metadata: Mapping[str, Any], body: Any) -> bytes:
    """The body as it was sent, byte by byte, since numbers would not survive being read; in one line."""
    head = b'{"status_code":%d,"metadata":%b,"body":' % (status, strictjson.dumps(metadata))
    if not data.startswith(head):
        return strictjson.dumps(body)
    return one_line(data[len(head) : -1])


def one_line(text: bytes) -> bytes:
    """JSON text in one line: in it line breaks are only ever between its parts."""
    return text.replace(b"\r", b" ").replace(b"\n", b" ")


def _of(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, dict) else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _code(status: int, body: Any) -> str:
    code = _of(_of(body, "error"), "code")
    return str(code) if isinstance(code, str | int) and code else f"http_{status}"


def tokens_of(body: Any) -> tuple[int, int]:
    """The tokens that an answer says to have taken, of the prompt and of its own; 0 where it does not say."""
    usage = usage_of(body)
    return usage.prompt_tokens or 0, usage.completion_tokens or 0


def line_of(answer: ParsedResponse, style: Style) -> bytes:
    """The line of the output file, or of the error file where the answer is an error."""
    error, body = b"null", answer.body
    if style is Style.VLLM and answer.code:
        error, body = _inner_error(answer.body), b"null"
    own = {key: value for key, value in answer.metadata.items() if key not in ("custom_id", "batch_id")}
    return b'{"id":%b,"custom_id":%b,"response":{"status_code":%d,"request_id":%b,"body":%b},"error":%b%b}\n' % (
        strictjson.dumps(f"batch_req_{answer.request_message_id}"),
        strictjson.dumps(answer.custom_id),
        answer.status_code,
        strictjson.dumps(answer.request_message_id),
        body,
        error,
        b',"metadata":' + strictjson.dumps(own) if own else b"",
    )


def _inner_error(body: bytes) -> bytes:
    document = strictjson.loads(body, finite=False)
    return strictjson.dumps(_of(document, "error") or document)


def line_not_run(custom_id: str, line: int, code: str, message: str, param: str | None = None) -> bytes:
    """The line of the error file for a request that never ran."""
    error = {"code": code, "message": message, "param": param, "line": line}
    document = {"id": f"batch_req_line_{line}", "custom_id": custom_id, "response": None, "error": error}
    return strictjson.dumps(document) + b"\n"

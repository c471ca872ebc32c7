"""The lines of a request file: what each asks for, and the message that asks the relay for it. Pure."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from handler.rules import strictjson
from handler.rules.message import batchline
from handler.rules.message.attributes import MAX_VALUE_BYTES
from handler.rules.message.contract import InferenceRequest, RequestError, parse_request, validated
from handler.rules.message.mistakes import Mistake

# What the service allows unless its ALLOWED_PATHS says otherwise.
DEFAULT_PATHS = (
    "/v1/completions",
    "/v1/chat/completions",
    "/v1/responses",
    "/v1/embeddings",
    "/v1/rerank",
    "/v1/score",
    "/v1/audio/speech",
    "/v1/audio/transcriptions",
    "/v1/audio/translations",
    "/v1/images/generations",
)

# https://cloud.google.com/pubsub/quotas#resource_limits, less what a publish request has beside the data: the topic's
# name and our attributes, of which the longest is the custom id.
MAX_DATA_BYTES = 10_000_000 - 4_096
LONGEST_BATCH_ID = 100  # characters, of ASCII


class Form(StrEnum):
    """How a request file is written."""

    OPENAI = "openai"  # {"custom_id", "method", "url", "body"}
    RELAY = "relay"  # {"path", "metadata", "body", "options"}


@dataclass(frozen=True, slots=True)
class RequestLine:
    """One line, read. `options` are the line's own limits, as JSON."""

    line: int
    custom_id: str
    path: str
    metadata: Mapping[str, Any]
    body: Mapping[str, Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    body_ref: str | None = None  # in place of the body


class BadLine(Exception):
    """A line that no request can be made of.

    `code` and `param` are as in OpenAI's errors; `custom_id` is the line's own, where it could be read.
    """

    def __init__(self, code: str, message: str, *, param: str | None = None, custom_id: str | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.param, self.custom_id = code, message, param, custom_id


def told_by(text: bytes) -> Form | None:
    """The form of a file that has this line; None where the line does not tell."""
    try:
        document = strictjson.loads(text)
    except strictjson.JsonError:
        return None
    return _form_of(document) if isinstance(document, dict) else None


def _form_of(document: Mapping[str, Any]) -> Form | None:
    if "custom_id" in document or "url" in document:
        return Form.OPENAI
    return Form.RELAY if {"body", "body_ref", "path", "metadata"} & document.keys() else None


def read(line: int, text: bytes, form: Form, allowed_paths: Collection[str]) -> RequestLine:
    """Read a line of a file of this form. Raises BadLine."""
    document = _document(text)
    if _form_of(document) not in (form, None):
        raise BadLine("invalid_request", f"This line is not in the form of the file's first one ({form}).")
    made = _from_openai(line, document) if form is Form.OPENAI else _from_relay(line, document)
    return _validated(made, allowed_paths)


def _document(text: bytes) -> dict[str, Any]:
    try:
        document = strictjson.loads(text)
    except strictjson.JsonError as problem:
        raise BadLine("invalid_json", f"Not JSON: {problem}.") from None
    if not isinstance(document, dict):
        raise BadLine("invalid_request", "The line is not a JSON object.")
    return document


def _from_openai(line: int, document: Mapping[str, Any]) -> RequestLine:
    custom_id = _custom_id(document.get("custom_id"))
    _check_there_is("url", document, custom_id)
    _check_there_is("body", document, custom_id)
    try:
        batchline.as_request({"method": document.get("method")})
    except Mistake as mistake:
        raise BadLine("invalid_method", str(mistake), param="method", custom_id=custom_id) from None
    return RequestLine(
        line, custom_id, document["url"], {}, document.get("body", {}), body_ref=document.get("body_ref")
    )


def _check_there_is(name: str, document: Mapping[str, Any], custom_id: str) -> None:
    in_its_place = name == "body" and document.get("body_ref") is not None
    if name not in document and not in_its_place:
        raise BadLine("invalid_request", f"`{name}` is missing.", param=name, custom_id=custom_id)


def _from_relay(line: int, document: Mapping[str, Any]) -> RequestLine:
    metadata = document.get("metadata")
    metadata = {} if metadata is None else metadata
    if not isinstance(metadata, dict):
        raise BadLine("invalid_request", "`metadata` must be a JSON object.", param="metadata")
    named = metadata.get("custom_id", metadata.get("id"))
    if isinstance(named, int) and not isinstance(named, bool):
        named = str(named)
    custom_id = _custom_id(nameless(line) if named is None else named)
    path = document.get("path", InferenceRequest.model_fields["path"].default)
    _check_there_is("body", document, custom_id)
    options = document.get("options")
    body, body_ref = document.get("body", {}), document.get("body_ref")
    return RequestLine(line, custom_id, path, metadata, body, {} if options is None else options, body_ref)


def nameless(line: int) -> str:
    """What a line is called that has no id of its own."""
    return f"line-{line}"


def _custom_id(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise BadLine("invalid_custom_id", "`custom_id` must be a string, and not empty.", param="custom_id")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise BadLine("invalid_custom_id", "`custom_id` is not Unicode text.", param="custom_id") from None
    if size > MAX_VALUE_BYTES:
        message = f"`custom_id` is longer than {MAX_VALUE_BYTES:,} bytes, the most that Pub/Sub takes in an attribute."
        raise BadLine("invalid_custom_id", message, param="custom_id")
    return value


def _validated(made: RequestLine, allowed_paths: Collection[str]) -> RequestLine:
    document = {"path": made.path, "metadata": made.metadata, **_body(made), "options": made.options}
    try:
        checked = validated(document)
        checked.find_reference()
        if checked.path in allowed_paths:
            return replace(made, path=checked.path)
    except Mistake:
        pass
    raise _as_the_relay_says_it(document, allowed_paths, made.custom_id)


def _body(request: RequestLine) -> dict[str, Any]:
    """The request's body, or where it is."""
    if request.body_ref is None:
        return {"body": request.body}
    return {"body_ref": request.body_ref, **({"body": request.body} if request.body else {})}


def _as_the_relay_says_it(document: Mapping[str, Any], allowed_paths: Collection[str], custom_id: str) -> BadLine:
    try:
        parse_request(strictjson.dumps(document), allowed_paths)
    except RequestError as refused:
        error = strictjson.loads(refused.answer.body)["error"]
        return BadLine(error["code"], error["message"], param=error["param"], custom_id=custom_id)
    return BadLine("invalid_request", "The relay would not take this line.", custom_id=custom_id)


def encode(request: RequestLine, batch_id: str, deadline: str | None = None) -> bytes:
    """The message's data that asks the relay for it. Raises BadLine where Pub/Sub would not take it."""
    metadata = {**request.metadata, "custom_id": request.custom_id, "batch_id": batch_id}
    message: dict[str, Any] = {"path": request.path, "metadata": metadata, **_body(request)}
    if options := _options(request.options, deadline):
        message["options"] = options
    data = strictjson.dumps(message)
    if len(data) > MAX_DATA_BYTES:
        raise BadLine(
            "request_too_large",
            f"The request has {len(data):,} bytes; Pub/Sub takes messages of 10 MB ({MAX_DATA_BYTES:,} bytes).",
            custom_id=request.custom_id,
        )
    return data


def _options(own: Mapping[str, Any], deadline: str | None) -> dict[str, Any]:
    options = {name: value for name, value in own.items() if value is not None}
    if deadline and ("deadline" not in options or _time(deadline) < _time(options["deadline"])):
        options["deadline"] = deadline
    return options


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text.upper())


def fits_surely(text: bytes) -> bool:
    """Whether a line is so short that its message fits, though escapes may make it three times as long."""
    return 3 * len(text) < MAX_DATA_BYTES


def longest_answer(request: RequestLine) -> int:
    """The request's own limit on the tokens of its answer; 0 where it has none."""
    limits = (request.body.get(name) for name in ("max_completion_tokens", "max_tokens", "max_output_tokens"))
    return next((limit for limit in limits if isinstance(limit, int)), 0)


def estimated_tokens(size: int) -> int:
    """Roughly the tokens of a request of so many bytes."""
    return size // 4

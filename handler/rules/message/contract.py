"""The wire contract: what a requester publishes, what it gets back, and the errors in between."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from handler.rules import strictjson
from handler.rules.message import batchline, mistakes
from handler.rules.message.options import Options
from handler.rules.message.reference import FILE_FIELD, MULTIPART_PATHS, Reference, reference_of
from handler.rules.message.usage import NO_USAGE, Usage

DEFAULT_PATH = "/v1/completions"
MAX_METADATA_BYTES = 1 << 20


def _path(value: object) -> object:
    if value is None:
        return DEFAULT_PATH
    return f"/{value}" if isinstance(value, str) and not value.startswith("/") else value


_NO_OPTIONS = Options()


def _options(value: object) -> object:
    return _NO_OPTIONS if value is None else value


def _body_or_its_reference(schema: dict[str, Any]) -> None:
    """One of the two is required, and not both."""
    schema["required"] = [name for name in schema["required"] if name != "body"]
    schema["oneOf"] = [
        {"required": ["body"], "properties": {"body_ref": {"type": "null"}}},
        {"required": ["body_ref"], "properties": {"body_ref": {"type": "string"}, "body": False}},
    ]


class InferenceRequest(BaseModel):
    """What a requester publishes: the message's data, as JSON."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, hide_input_in_errors=True, json_schema_extra=_body_or_its_reference
    )

    path: Annotated[str, BeforeValidator(_path, json_schema_input_type=str | None)] = Field(
        DEFAULT_PATH, description="HTTP path of the model service; must be one that the service allows"
    )
    # Plain `dict`: pydantic would refuse or rewrite some of what JSON allows inside (lone surrogates, great depth).
    metadata: dict = Field(  # type: ignore[type-arg]
        description="any JSON object; comes back unchanged with the response, which is how the two are joined"
    )
    body: dict = Field(  # type: ignore[type-arg]
        description="the body that the model's HTTP API takes; `stream` is set to false and `stream_options` dropped, "
        "since one message goes back. For an endpoint that takes a form (audio transcription) the form's fields, of "
        "which `file` is a reference, `gs://BUCKET/OBJECT`"
    )
    body_ref: str | None = Field(
        None,
        description="in place of `body`: where in Cloud Storage it lies as JSON, `gs://BUCKET/OBJECT`, perhaps with "
        "`#GENERATION` behind it",
        json_schema_extra={"examples": ["gs://my-bucket/body.json"]},
    )
    options: Annotated[Options, BeforeValidator(_options, json_schema_input_type=Options | None)] = Field(
        default_factory=lambda: _NO_OPTIONS, description="limits of the requester's own"
    )

    @property
    def model(self) -> str | None:
        """The model that the body names, if it names one."""
        name = self.body.get("model")
        return name if isinstance(name, str) else None

    @property
    def is_form(self) -> bool:
        """Whether the model's endpoint takes a form with a file in it."""
        return self.path in MULTIPART_PATHS

    def find_reference(self) -> Reference | None:
        """What of the request lies in Cloud Storage. Raises Mistake where that is no reference, or in a wrong place."""
        return reference_of(self.path, self.body, self.body_ref)

    def sent(self, model: str | None = None) -> dict[str, Any]:
        """What goes to the model service: the body, or a form's fields besides its file.

        With `model` as the model's name, if there is one.
        """
        left_out = ("stream_options", FILE_FIELD) if self.is_form else ("stream_options",)
        body = {key: value for key, value in self.body.items() if key not in left_out}
        if model is not None:
            body["model"] = model
        if "stream" in body:
            body["stream"] = False
        return body

    def model_body(self, model: str | None = None) -> bytes:
        """What is `sent`, as JSON."""
        return strictjson.dumps(self.sent(model))


class InferenceResponse(BaseModel):
    """What a requester gets back: the response message's data, as JSON."""

    status_code: int = Field(description="HTTP status of the model's answer, or of the error", ge=100, le=599)
    metadata: dict = Field(  # type: ignore[type-arg]
        description="the request's own metadata; `{}` where the request's could not be read"
    )
    body: Any = Field(
        description="the model's JSON; for other content an object of `content_type`, `encoding` (base64 or utf-8) and "
        "`content`; for content that no message can hold, an object with `content_ref`: `uri`, `bytes`, "
        "`content_type` and `sha256`; for an error of the relay's own, an object with `error`"
    )


class ErrorCode(StrEnum):
    """The relay's own errors: what `body.error.code` may be."""

    INVALID_JSON = "invalid_json"
    INVALID_REQUEST = "invalid_request"
    PATH_NOT_ALLOWED = "path_not_allowed"
    MODEL_NOT_FOUND = "model_not_found"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    MODEL_UNREACHABLE = "model_unreachable"
    MODEL_TIMEOUT = "model_timeout"
    MODEL_ERROR = "model_error"
    INVALID_MODEL_RESPONSE = "invalid_model_response"
    RESPONSE_TOO_LARGE = "response_too_large"
    INVALID_REFERENCE = "invalid_reference"
    REFERENCE_NOT_ALLOWED = "reference_not_allowed"
    REFERENCE_NOT_FOUND = "reference_not_found"
    REFERENCE_TOO_LARGE = "reference_too_large"
    STORAGE_FAILED = "storage_failed"
    CANCELLED = "cancelled"
    CONTROL_DISABLED = "control_disabled"
    LEDGER_UNAVAILABLE = "ledger_unavailable"
    INTERNAL_ERROR = "internal_error"


@dataclass(frozen=True, slots=True)
class _Kind:
    status_code: int
    type: str
    meaning: str


ERRORS: Mapping[ErrorCode, _Kind] = {
    ErrorCode.INVALID_JSON: _Kind(400, "invalid_request_error", "the message's data is not JSON"),
    ErrorCode.INVALID_REQUEST: _Kind(400, "invalid_request_error", "a field is missing or has the wrong form"),
    ErrorCode.PATH_NOT_ALLOWED: _Kind(404, "invalid_request_error", "the service does not allow this `path`"),
    ErrorCode.MODEL_NOT_FOUND: _Kind(404, "invalid_request_error", "the service has no such model, or not for you"),
    ErrorCode.DEADLINE_EXCEEDED: _Kind(408, "timeout_error", "the request's own `options.deadline` has passed"),
    ErrorCode.MODEL_UNREACHABLE: _Kind(502, "server_error", "no connection to the model service, on every attempt"),
    ErrorCode.MODEL_TIMEOUT: _Kind(504, "timeout_error", "the model did not finish in time"),
    ErrorCode.MODEL_ERROR: _Kind(
        502,
        "server_error",
        "the model service failed with something else than JSON; `status_code` is its own",
    ),
    ErrorCode.INVALID_MODEL_RESPONSE: _Kind(
        502,
        "server_error",
        "the model's answer was empty, cut off, redirected or no JSON, and so again when it was asked again",
    ),
    ErrorCode.RESPONSE_TOO_LARGE: _Kind(
        502, "server_error", "the response does not fit in a Pub/Sub message, nor in what the service stores of it"
    ),
    ErrorCode.INVALID_REFERENCE: _Kind(
        400, "invalid_request_error", "`body_ref` or `body.file` is no reference, or what it names cannot be used"
    ),
    ErrorCode.REFERENCE_NOT_ALLOWED: _Kind(403, "invalid_request_error", "the service does not read this bucket"),
    ErrorCode.REFERENCE_NOT_FOUND: _Kind(404, "invalid_request_error", "no such object, or no such generation of it"),
    ErrorCode.REFERENCE_TOO_LARGE: _Kind(413, "invalid_request_error", "the object is larger than the service takes"),
    ErrorCode.STORAGE_FAILED: _Kind(
        502, "server_error", "Cloud Storage did not give or take what it had to, on every attempt"
    ),
    # 499: https://cloud.google.com/apis/design/errors#handling_errors maps CANCELLED to it
    ErrorCode.CANCELLED: _Kind(
        499, "cancelled_error", "the request, or its batch, was cancelled before the model was called for it"
    ),
    ErrorCode.CONTROL_DISABLED: _Kind(403, "invalid_request_error", "the service takes no control messages"),
    ErrorCode.LEDGER_UNAVAILABLE: _Kind(503, "server_error", "a control message came while the ledger was in trouble"),
    ErrorCode.INTERNAL_ERROR: _Kind(500, "server_error", "the service itself failed, on every attempt"),
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back to the requester, save the metadata: an HTTP status and a body that is JSON text already.

    `usage` is what the model says that it has cost; `error_code` the word of an error of the relay's own, else "".
    `wraps` is the type of the content that the body wraps, "" where it is JSON itself; `is_reference` says that
    the body only names where the content is.
    """

    status_code: int
    body: bytes
    usage: Usage = NO_USAGE
    error_code: str = ""
    wraps: str = ""
    is_reference: bool = False


class RequestError(Exception):
    """A request that no retry can mend.

    `answer` is what its sender gets, `metadata` what could be read of the request's own (`{}` otherwise), `code` the
    word for the log.
    """

    def __init__(self, code: ErrorCode, message: str, *, param: str | None = None, metadata: Any = None) -> None:
        super().__init__(message)
        self.code = code
        self.answer = error(code, message, param=param)
        self.metadata = metadata if isinstance(metadata, dict) else {}


def parse_request(
    data: bytes, allowed_paths: Collection[str], attributes: Mapping[str, str] | None = None
) -> InferenceRequest:
    """Read a message's data; `attributes` are the message's.

    Raises RequestError and nothing else, whatever the bytes.
    """
    document = _document(data, attributes or {})
    metadata = echoable(batchline.metadata(document), len(data))
    try:
        request = validated(batchline.as_request(document))
    except mistakes.Mistake as mistake:
        raise RequestError(ErrorCode.INVALID_REQUEST, str(mistake), param=mistake.param, metadata=metadata) from None
    if request.path not in allowed_paths:
        raise RequestError(
            ErrorCode.PATH_NOT_ALLOWED,
            f"This path is not allowed. Use one of: {', '.join(allowed_paths)}.",
            param="path",
            metadata=metadata,
        )
    try:
        request.find_reference()
    except mistakes.Mistake as mistake:
        raise RequestError(ErrorCode.INVALID_REFERENCE, str(mistake), param=mistake.param, metadata=metadata) from None
    return request


def validated(document: Mapping[str, Any]) -> InferenceRequest:
    """Read the fields of a request. Raises Mistake."""
    mistakes.check_names(document, InferenceRequest.model_fields, Options.model_fields)
    if document.get("body_ref") is not None:
        if document.get("body") is not None:
            raise mistakes.Mistake("body_ref", "`body` and `body_ref` are two ways to say the same: leave one out.")
        document = {**document, "body": {}}
    try:
        return InferenceRequest.model_validate(document)
    except ValidationError as problems:
        raise mistakes.explain(problems) from None


def _document(data: bytes, attributes: Mapping[str, str]) -> dict[str, Any]:
    try:
        document = strictjson.loads(data)
    except strictjson.JsonError as problem:
        hint = mistakes.looks_like(data, attributes)
        message = f"The message's data cannot be read as JSON: {problem}. {hint}".rstrip()
        raise RequestError(ErrorCode.INVALID_JSON, f"{message} Publish a JSON object encoded as UTF-8.") from None
    if not isinstance(document, dict):
        hint = mistakes.in_a_string(document, "object") or f" {mistakes.looks_like(data, attributes)}".rstrip()
        hint = " Publish each request as a message of its own." if isinstance(document, list) else hint
        raise RequestError(
            ErrorCode.INVALID_REQUEST,
            f'The message\'s data must be a JSON object: {{"metadata": {{}}, "body": {{}}}}, not '
            f"{mistakes.json_type(document)}.{hint}",
        )
    return document


def echoable(metadata: Any, size: int) -> Any:
    """The metadata, unless it is too large. Written anew it has less than eight times the `size` of the whole text."""
    may_be_large = size > MAX_METADATA_BYTES // 8 and isinstance(metadata, dict)
    if may_be_large and len(strictjson.dumps(metadata)) > MAX_METADATA_BYTES:
        raise RequestError(
            ErrorCode.INVALID_REQUEST,
            "`metadata` is larger than 1 MiB: keep the data at your side and send an id.",
            param="metadata",
        )
    return metadata


def error(code: ErrorCode, message: str, *, param: str | None = None, status_code: int | None = None) -> Answer:
    """An OpenAI-shaped error of the relay's own, with the code's status unless `status_code` says otherwise."""
    kind = ERRORS[code]
    body = {"error": {"message": message, "type": kind.type, "param": param, "code": code.value}}
    return Answer(status_code or kind.status_code, strictjson.dumps(body), error_code=code.value)


def encode_response(answer: Answer, metadata: Mapping[str, Any]) -> bytes:
    """The response message's data."""
    return response_data(answer, strictjson.dumps(metadata))


def response_data(answer: Answer, metadata: bytes) -> bytes:
    """The response message's data, of metadata that is JSON text already.

    The model's JSON goes through byte by byte, so no number or key can change.
    """
    return b'{"status_code":%d,"metadata":%b,"body":%b}' % (answer.status_code, metadata, answer.body)

"""What requesters get wrong, and what to tell them: in the words of JSON, with what to write instead. Pure."""

import base64
import difflib
import re
from collections.abc import Collection, Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

_SHOWN = 60  # characters of a field's name

# What people call a field of ours, and where it is.
_ALSO_CALLED = {
    "path": ("endpoint", "uri", "route", "api", "target", "model_path"),
    "metadata": ("meta", "id", "request_id", "context", "attributes", "labels", "key", "tags", "custom_data"),
    "body": ("payload", "request", "params", "data", "json", "content", "parameters", "request_body"),
    "body_ref": ("body_url", "body_uri", "body_file", "input_file", "ref", "reference", "gcs_uri", "content_ref"),
    "options": ("option", "settings", "config", "limits"),
    "options.timeout_seconds": ("timeout", "timeout_seconds", "timeout_s", "timeout_ms", "max_seconds", "time_limit"),
    "options.deadline": ("deadline", "expires", "expires_at", "expiry", "not_after", "ttl", "completion_window"),
    "options.priority": ("priority", "prio", "urgency", "importance"),
}
_IN_THE_BODY = re.compile(
    "model|messages|prompt|input|instructions|system|max_(completion_|output_)?tokens|temperature|top_[pk]|n|stop|seed"
    "|stream(_options)?|tools|tool_choice|response_format|logprobs|logit_bias|suffix|user|dimensions|encoding_format"
    "|query|documents|voice|file"
)


class Mistake(Exception):
    """What is wrong with a request, and what to write instead; `param` is the field."""

    def __init__(self, param: str, message: str) -> None:
        super().__init__(message)
        self.param = shown(param)


# The right form of each field, in the words of JSON.
_FORMS = {
    "path": 'a string, e.g. "/v1/chat/completions"',
    "metadata": 'a JSON object, which comes back with the response, e.g. {"id": "1"}; it may be empty ({})',
    "body": 'a JSON object, what the model\'s HTTP API takes, e.g. {"model": "...", "prompt": "..."}',
    "body_ref": 'a string, where the body is in Cloud Storage, e.g. "gs://my-bucket/body.json"',
    "options": 'a JSON object, e.g. {"timeout_seconds": 30}',
    "options.deadline": 'an RFC 3339 time with its offset, e.g. "2030-01-31T12:00:00Z"',
    "options.timeout_seconds": "a number greater than 0, e.g. 30",
    "options.priority": '"high", "normal" or "low"',
}
# Of a field that has no row: a mistake in it is the requester's all the same.
_OTHER_FORM = "as the contract has it"


def check_names(document: Mapping[str, Any], fields: Collection[str], options: Collection[str]) -> None:
    """Refuse fields that there are not, before anything else: they may be why another is missing. Raises Mistake."""
    for name in document:
        if name not in fields:
            raise Mistake(name, _unknown_field(name, fields))
    given = document.get("options")
    for name in given if isinstance(given, dict) else ():
        if name not in options:
            raise Mistake(f"options.{name}", _unknown_option(name, options))


def explain(problems: ValidationError) -> Mistake:
    """The first problem of a request whose fields are all known."""
    problem = problems.errors(include_url=False)[0]
    param = ".".join(str(part) for part in problem["loc"] if not str(part).startswith("function-"))
    form = _FORMS.get(param, _OTHER_FORM)
    if problem["type"] == "missing":
        return Mistake(param, f"`{param}` is missing: it must be {form}.")
    return Mistake(param, f"`{param}` must be {form}{_instead(problem, form)}")


def _instead(problem: ErrorDetails, form: str) -> str:
    """What there is in place of the right form."""
    if problem["type"] == "value_error":
        reason = str(problem["ctx"]["error"])
        return "." if reason in form else f": {reason}."
    is_of_its_type = problem["type"] == "enum" and isinstance(problem["input"], str)
    if is_of_its_type or problem["type"] in ("greater_than", "finite_number"):
        return "."
    return f", not {json_type(problem['input'])}.{in_a_string(problem['input'], form)}"


def _unknown_field(name: str, fields: Collection[str]) -> str:
    """Say that a request has no such field, and which is meant."""
    return f"`{shown(name)}` is not a field of a request.{_meant(name, fields)} A request has {_and(fields)}."


def _unknown_option(name: str, options: Collection[str]) -> str:
    """Say that there is no such option, and which is meant."""
    return f"`options` takes only {_and(options)}: `{shown(name)}` is none of them.{_meant(name, options)}"


def _meant(name: str, fields: Collection[str]) -> str:
    if _IN_THE_BODY.fullmatch(name) and "body" in fields:
        return " Put it inside `body`."
    plain = re.sub(r"[^a-z]+", "_", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name[:_SHOWN]).lower()).strip("_")
    near = difflib.get_close_matches(plain, fields, n=1) or _called(plain, fields)
    return f" Did you mean `{near[0]}`?" if near else ""


def _called(name: str, fields: Collection[str]) -> list[str]:
    known = {other: field for field, others in _ALSO_CALLED.items() for other in others}
    field = known.get(name, "")
    inner = field.removeprefix("options.")
    return [inner if inner in fields else field] if field else []


def _and(fields: Collection[str]) -> str:
    *most, last = (f"`{field}`" for field in fields)
    return f"{', '.join(most)} and {last}"


def shown(name: str) -> str:
    """A name as it may stand in a message: not longer than helps."""
    return name if len(name) <= _SHOWN else f"{name[:_SHOWN]}..."


def json_type(value: Any) -> str:
    """What JSON calls this."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a string"
    return "an array" if isinstance(value, list) else "an object"


def in_a_string(value: Any, wanted: str) -> str:
    """What to say of a value that was written as a string though it should not be; "" where that is not it."""
    if not isinstance(value, str):
        return ""
    if "object" in wanted and value.lstrip().startswith("{"):
        return " It is JSON inside a string: encode it once, as part of the whole."
    return " Leave the quotes out." if "number" in wanted and re.fullmatch(r"\s*[\d.]+\s*", value) else ""


# --- data that is no JSON

_BASE64 = re.compile(rb'\s*"?([A-Za-z0-9+/_-]{8,}={0,2})"?\s*')
_STARTS: tuple[tuple[bytes, str], ...] = (
    (b"\x1f\x8b", "It looks compressed by gzip: publish it as it is."),
    (b"Obj\x01", "It looks like Avro: publish JSON, or give the topic's schema the encoding JSON."),
    (b"\xc3\x01", "It looks like Avro: publish JSON, or give the topic's schema the encoding JSON."),
    (b"\xff\xfe", "It looks like UTF-16: encode the text as UTF-8."),
    (b"\xfe\xff", "It looks like UTF-16: encode the text as UTF-8."),
    (b"<", "It looks like XML or HTML."),
    (b"{'", "It looks like Python's notation: write it with json.dumps, which uses double quotes."),
)


def looks_like(data: bytes, attributes: Mapping[str, str]) -> str:
    """A sentence on what data that is no JSON object seems to be; "" where it looks like nothing known."""
    if not data.strip():
        return "It is empty."
    if attributes.get("googclient_schemaencoding") == "BINARY":
        return "It is in the binary encoding of the topic's schema: give the schema settings the encoding JSON."
    for start, sentence in _STARTS:
        if data.startswith(start):
            return sentence
    if data[1:2] == b"\0" or data[:1] == b"\0":
        return "It looks like UTF-16 or binary data: encode the text as UTF-8."
    if _is_base64_of_json(data):
        return "It looks like base64 of JSON: publish the JSON itself, client libraries encode it where that is needed."
    if len(lines := data.split(b"\n", 2)) > 1 and lines[0].rstrip().endswith(b"}") and lines[1].startswith(b"{"):
        return "It looks like several requests: publish each as a message of its own."
    return ""


def _is_base64_of_json(data: bytes) -> bool:
    match = _BASE64.fullmatch(data)
    if not match:
        return False
    start = match[1][:64].rstrip(b"=").translate(bytes.maketrans(b"-_", b"+/"))
    try:
        return base64.b64decode(start[: len(start) // 4 * 4]).lstrip()[:1] in (b"{", b"[")
    except ValueError:
        return False

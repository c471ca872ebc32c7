"""Tells the relay's own errors from a model's, in a response that was made before. Pure."""

from typing import Any

from handler.rules import strictjson
from handler.rules.message.contract import ERRORS, ErrorCode

MAX_BYTES = 16_384  # of an error of the relay's own


def error_code_in(data: bytes) -> str:
    """The code of the relay's own error in a response message's data; "" where it holds anything else."""
    # No text in JSON has an unescaped quote in it: the last such name is that of the response's field.
    body = data.rpartition(b'"body":')[2].removesuffix(b"}")
    if not body.startswith(b'{"error":{"message":') or len(body) > MAX_BYTES:
        return ""
    try:
        return _code(strictjson.loads(body)["error"])
    except strictjson.JsonError:
        return ""


def _code(error: Any) -> str:
    if not isinstance(error, dict):  # a model's answer may have the name twice, and the last one counts
        return ""
    code = error.get("code")
    kind = ERRORS.get(ErrorCode(code)) if code in tuple(ErrorCode) else None
    is_own = kind is not None and list(error) == ["message", "type", "param", "code"] and error["type"] == kind.type
    return str(code) if is_own else ""

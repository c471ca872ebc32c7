"""Fetches the content of answers that no message could hold, which the relay has put into Cloud Storage."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from handler.batch.errors import CannotRun
from handler.batch.lines import objects
from handler.batch.lines.answers import ParsedResponse, one_line, tokens_of
from handler.rules import strictjson
from handler.rules.message.content import wrap_content

# What is larger stays where it is: the output is read by others, line by line.
MAX_BODY_BYTES = 256 << 20


def fetched(answer: ParsedResponse) -> ParsedResponse:
    """The answer with its content in place of a reference to it; as it is where it has none, or a very large one.

    Raises CannotRun where the content is not to be had, or is another than the reference says.
    """
    reference = _reference(answer.body) if answer.is_reference else None
    if reference is None or int(reference["bytes"]) > MAX_BODY_BYTES:
        return answer
    uri = str(reference["uri"])
    try:
        content = objects.content(uri)
    except CannotRun as error:
        raise CannotRun(f"{error}. {_WITHOUT}") from None
    if hashlib.sha256(content).hexdigest() != reference["sha256"]:
        raise CannotRun(
            f"{uri} is not what the answer to {answer.custom_id!r} refers to: it was written anew. {_WITHOUT}"
        )
    return _filled(answer, str(reference["content_type"]), content)


_WITHOUT = "Leave --fetch-bodies out to have the reference instead."


def _reference(body: bytes) -> Mapping[str, Any] | None:
    """What a body refers to. Only where the relay says that it does: a model may write what it likes."""
    document = strictjson.loads(body)
    reference = document.get("content_ref") if isinstance(document, dict) else None
    is_one = isinstance(reference, dict) and {"uri", "bytes", "content_type", "sha256"} <= reference.keys()
    return reference if is_one else None


def _filled(answer: ParsedResponse, content_type: str, content: bytes) -> ParsedResponse:
    if content_type.partition(";")[0].strip().lower() != "application/json":
        return replace(answer, body=wrap_content(content_type, content))
    try:
        document = strictjson.loads(content, finite=False)
    except strictjson.JsonError:  # nobody has looked at it so far
        return replace(answer, body=wrap_content(content_type, content))
    tokens_in, tokens_out = tokens_of(document)
    return replace(answer, body=one_line(content), tokens_in=tokens_in, tokens_out=tokens_out)

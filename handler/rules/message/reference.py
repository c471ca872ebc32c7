"""References to what is too large for a message: `gs://BUCKET/OBJECT`, perhaps with `#GENERATION` behind it. Pure.

The pattern is the claim check: the message carries where its content lies, Cloud Storage the content.
Source of the names' rules: https://cloud.google.com/storage/docs/buckets#naming and objects#naming.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from handler.rules import strictjson
from handler.rules.message.mistakes import Mistake

# Endpoints that take a form with a file in it, and no JSON.
MULTIPART_PATHS = ("/v1/audio/transcriptions", "/v1/audio/translations")
FILE_FIELD = "file"

BUCKET = r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]"
MAX_NAME_BYTES = 1_024
MAX_GENERATION = (1 << 63) - 1
_URI = re.compile(rf"gs://({BUCKET})/(.+?)(?:#([0-9]{{1,19}}))?", re.DOTALL | re.ASCII)
_PLACE = (
    f"Put the form's fields into `body`, and the file's reference, \"gs://BUCKET/OBJECT\", into `body.{FILE_FIELD}`."
)
_FORM = 'of the form "gs://BUCKET/OBJECT" or "gs://BUCKET/OBJECT#GENERATION"'


@dataclass(frozen=True, slots=True)
class Reference:
    """An object in Cloud Storage; without `generation`, whichever is there when it is looked for."""

    bucket: str
    name: str
    generation: int | None = None

    def __str__(self) -> str:
        return f"gs://{self.bucket}/{self.name}" + (f"#{self.generation}" if self.generation else "")


@dataclass(frozen=True, slots=True)
class Stored:
    """Content that was written to Cloud Storage: `size` in bytes, `sha256` in hexadecimal."""

    uri: str
    size: int
    content_type: str
    sha256: str

    def to_json(self) -> bytes:
        """The response's body that stands for the content."""
        reference = {"uri": self.uri, "bytes": self.size, "content_type": self.content_type, "sha256": self.sha256}
        return strictjson.dumps({"content_ref": reference})


def parse(text: object) -> Reference:
    """Read a reference. Raises ValueError, which says what it must be."""
    match = _URI.fullmatch(text) if isinstance(text, str) else None
    if not match:
        raise ValueError(f"must be {_FORM}")
    bucket, name, generation = match.groups()
    if not _is_name(name):
        raise ValueError(f"must be {_FORM}: this is no name that an object can have")
    if generation is not None and not 0 < int(generation) <= MAX_GENERATION:
        raise ValueError(f"must be {_FORM}: a generation is a number above 0")
    return Reference(bucket, name, int(generation) if generation else None)


def _is_name(name: str) -> bool:
    try:
        size = len(name.encode())
    except UnicodeEncodeError:  # a lone surrogate
        return False
    return size <= MAX_NAME_BYTES and not re.search(r"[\r\n]", name) and name not in (".", "..")


def reference_of(path: str, body: Mapping[str, Any], body_ref: str | None) -> Reference | None:
    """What of a request lies in Cloud Storage. Raises Mistake where that is no reference, or in a wrong place."""
    if path not in MULTIPART_PATHS:
        return None if body_ref is None else _named("body_ref", body_ref)
    if body_ref is not None:
        raise Mistake("body_ref", f"`{path}` takes a form, and no JSON. {_PLACE}")
    if FILE_FIELD not in body:
        raise Mistake(f"body.{FILE_FIELD}", f"`body.{FILE_FIELD}` is missing. {_PLACE}")
    return _named(f"body.{FILE_FIELD}", body[FILE_FIELD])


def _named(param: str, value: object) -> Reference:
    try:
        return parse(value)
    except ValueError as problem:
        raise Mistake(param, f"`{param}` {problem}.") from None

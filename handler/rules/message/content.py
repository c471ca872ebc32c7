"""Content that is not JSON, as JSON and back. Pure."""

import base64
from contextlib import suppress

from handler.rules import strictjson

EXCERPT_CHARACTERS = 1_000

# Media types that are text though they do not begin with text/.
_TEXT_TYPES = frozenset(
    f"application/{name}"
    for name in (
        *("x-ndjson", "ndjson", "jsonl", "x-jsonl", "jsonlines", "x-jsonlines", "json-seq", "xml", "yaml", "x-yaml"),
        *("x-subrip", "csv", "javascript", "toml", "sql", "x-www-form-urlencoded"),
    )
)


def is_text_type(media_type: str) -> bool:
    """Whether content of this type, without its parameters and in lower case, is text."""
    return media_type.startswith("text/") or media_type in _TEXT_TYPES or media_type.endswith(("+xml", "+yaml"))


def wrap_content(content_type: str, content: bytes) -> bytes:
    """Content that is not JSON, as JSON: text as it is where it is UTF-8 and said to be text, else base64."""
    encoding, text = "base64", base64.b64encode(content).decode()
    if is_text_type(content_type.partition(";")[0].strip().lower()):
        with suppress(UnicodeDecodeError):
            encoding, text = "utf-8", content.decode()
    return strictjson.dumps({"content_type": content_type, "encoding": encoding, "content": text})


def unwrap_content(wrapped: bytes) -> bytes:
    """What `wrap_content` was given."""
    document = strictjson.loads(wrapped)
    text: str = document["content"]
    return text.encode() if document["encoding"] == "utf-8" else base64.b64decode(text)


def excerpt(content: bytes) -> str:
    """The start of a text that is not JSON, for an error message."""
    return content[: 4 * EXCERPT_CHARACTERS].decode(errors="replace")[:EXCERPT_CHARACTERS]

"""What a model says that an answer has cost: its `usage`, in tokens. Pure."""

from dataclasses import dataclass
from typing import Any

MAX_TOKENS = 1 << 53  # beyond it JSON's numbers are no longer exact


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens read and tokens written; None where the model does not say."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None


NO_USAGE = Usage()


def usage_of(document: Any) -> Usage:
    """What a model's whole answer says of its cost. `document` is its JSON, whatever that is.

    By the names of the chat, completions and embeddings APIs, or by those of the responses API.
    """
    usage = document.get("usage") if isinstance(document, dict) else None
    if not isinstance(usage, dict):
        return NO_USAGE
    return Usage(
        _count(usage, "prompt_tokens", "input_tokens"),
        _count(usage, "completion_tokens", "output_tokens"),
    )


def _count(usage: dict[str, Any], name: str, other: str) -> int | None:
    value = usage.get(name)
    if value is None:
        value = usage.get(other)
    is_count = type(value) is int and 0 <= value < MAX_TOKENS  # a bool is no count
    return value if is_count else None

"""What a model says that an answer has cost: its `usage`, in tokens. Pure."""

from dataclasses import dataclass
from typing import Any

MAX_TOKENS = 1 << 53  # beyond it JSON's numbers are no longer exact

# The names of the chat, completions and embeddings APIs, and those of the responses API.
_INPUT = ("prompt_tokens", "input_tokens")
_OUTPUT = ("completion_tokens", "output_tokens")


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens read and tokens written; None where the model does not say."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None


NO_USAGE = Usage()


def usage_of(document: Any) -> Usage:
    """What a model's whole answer says of its cost. `document` is its JSON, whatever that is."""
    usage = document.get("usage") if isinstance(document, dict) else None
    if not isinstance(usage, dict):
        return NO_USAGE
    return Usage(_first(usage, _INPUT), _first(usage, _OUTPUT))


def _first(usage: dict[str, Any], names: tuple[str, ...]) -> int | None:
    return next((count for name in names if (count := _count(usage.get(name))) is not None), None)


def _count(value: Any) -> int | None:
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MAX_TOKENS
    return value if is_count else None

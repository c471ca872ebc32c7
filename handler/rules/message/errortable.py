"""The relay's own errors as a table for people: docs/contract.md has it."""

from handler.rules.message.contract import ERRORS


def as_markdown() -> str:
    """Every error code with its status, type and meaning, as a Markdown table."""
    rows = (f"| `{code}` | {kind.status_code} | `{kind.type}` | {kind.meaning} |" for code, kind in ERRORS.items())
    return "\n".join(("| code | status | type | when |", "|---|---|---|---|", *rows))

"""Settings as a table for people: docs/settings.md is made of it."""

from pydantic import BaseModel
from pydantic.fields import FieldInfo


def as_markdown(settings: type[BaseModel]) -> str:
    """Every setting, its default and its meaning, as a Markdown table."""
    rows = (
        f"| `{name.upper()}` | {_default(field)} | {field.description} |"
        for name, field in settings.model_fields.items()
    )
    return "\n".join(("| variable | default | meaning |", "|---|---|---|", *rows))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.default
    if value in (None, ()):
        return "not set"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return ", ".join(f"`{one}`" for one in value)
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"

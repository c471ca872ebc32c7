"""What the pages are made of, as Markdown tables: the settings, the metrics, the relay's own errors."""

from collections.abc import Iterable

from pydantic.fields import FieldInfo

from handler.config.settings import Settings
from handler.rules.message.contract import ERRORS
from handler.telemetry.metrics import DECLARED


def of_settings() -> str:
    """Every setting, its default and its meaning, for docs/settings.md."""
    fields = Settings.model_fields.items()
    rows = (f"| `{name.upper()}` | {_default(field)} | {field.description} |" for name, field in fields)
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
        return _names(value)
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def of_errors() -> str:
    """Every error code with its status, type and meaning, for docs/contract.md."""
    rows = (f"| `{code}` | {kind.status_code} | `{kind.type}` | {kind.meaning} |" for code, kind in ERRORS.items())
    return "\n".join(("| code | status | type | when |", "|---|---|---|---|", *rows))


def of_metrics() -> str:
    """The metrics, the values of their labels, and the buckets of histograms, for docs/metrics.md."""
    rows = (f"| `{one.name}` | {one.kind.__name__.lower()} | {_names(one.labels)} | {one.help} |" for one in DECLARED)
    labels = (f"| `{label}` | {', '.join(_shown(value) for value in values)} |" for label, values in _values().items())
    buckets = (f"| `{one.name}` | {', '.join(f'{le:g}' for le in one.buckets)} |" for one in DECLARED if one.buckets)
    return "\n".join(
        (
            *("| metric | kind | labels | what it says |", "|---|---|---|---|", *rows, ""),
            *("| label | values |", "|---|---|", *labels, ""),
            *("| histogram | buckets, in seconds |", "|---|---|", *buckets),
        )
    )


def _names(labels: Iterable[str]) -> str:
    return ", ".join(f"`{label}`" for label in labels)


def _shown(value: str) -> str:
    return f"`{value}`" if value else "empty: none"


def _values() -> dict[str, tuple[str, ...]]:
    """All values of each label, `route` left out."""
    found: dict[str, dict[str, None]] = {}
    for metric in DECLARED:
        for label in metric.labels:
            if label != "route":
                found.setdefault(label, {}).update(dict.fromkeys(metric.values(label)))
    return {label: tuple(values) for label, values in found.items()}

"""A requester's own limits, and who goes ahead of whom. Pure."""

import re
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


class Priority(StrEnum):
    """Who goes ahead of whom in the line for the model."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


def _deadline(value: object) -> object:
    if not isinstance(value, str) or not _RFC3339.fullmatch(value):
        raise ValueError("an RFC 3339 time with its offset")
    return datetime.fromisoformat(value.upper())


class Options(BaseModel):
    """Limits of the requester's own. They only ever shorten the service's."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    deadline: Annotated[datetime, BeforeValidator(_deadline, json_schema_input_type=str)] | None = Field(
        default=None,
        description="RFC 3339 time after which the model is not called, and at which a call is cut short",
        json_schema_extra={"examples": ["2030-01-31T12:00:00Z"]},
    )
    timeout_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        default=None, description="the longest that the model may take for this request"
    )
    priority: Annotated[Priority, Field(strict=False)] | None = Field(
        default=None,
        description="`high` goes ahead of what came up to five minutes before, `low` lets ahead what comes up to five "
        "minutes later; without it the message's attribute `priority` counts, else `normal`",
    )


_PRIORITIES = {priority.value: priority for priority in Priority}


def priority_of(attributes: Mapping[str, str]) -> Priority:
    """The priority that a message's attributes ask for; what is none of them asks for nothing."""
    return _PRIORITIES.get(attributes.get("priority", ""), Priority.NORMAL)

"""What is wrong with settings, in words that name the variable and the fix."""

import re
from collections.abc import Iterable, Iterator, Mapping

from pydantic import BaseModel


def of_model(given: Mapping[str, str], settings: type[BaseModel]) -> Iterable[str]:
    """What is wrong with how the model service is named."""
    if "MODEL_URL" not in given and "ROUTES_FILE" not in given:
        yield f"MODEL_URL is not set ({settings.model_fields['model_url'].description})"
    for name in ("MODEL_URL", "MODEL_API_KEY", "MODEL_AUTH", "MODEL_AUDIENCE"):
        if name in given and "ROUTES_FILE" in given:
            yield f"{name} and ROUTES_FILE are both set: the file says it for each route; unset {name}"


def explain(errors: Iterable[Mapping[str, object]], settings: type[BaseModel]) -> Iterator[str]:
    """One problem a variable, in words: the variable, what is wrong, what belongs there."""
    found: dict[str, list[str]] = {}
    for error in errors:
        location = error["loc"]
        name = str(location[0]) if isinstance(location, tuple) and location else ""
        found.setdefault(name, []).append("is not set" if error["type"] == "missing" else said(error))
    for name, messages in found.items():
        message = ", or ".join(messages)
        yield f"{name} {message} ({settings.model_fields[name.lower()].description})" if name else message


def said(error: Mapping[str, object]) -> str:
    """What pydantic says of a value, as it is said after the value's name."""
    return re.sub(r"^Value error, |^\w+ (?=should )", "", str(error["msg"]))

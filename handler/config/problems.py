"""What is wrong with settings, in words that name the variable and the fix."""

from collections.abc import Iterable, Mapping

from pydantic import BaseModel


def of_model(given: Mapping[str, str], settings: type[BaseModel]) -> Iterable[str]:
    """What is wrong with how the model service is named."""
    if "MODEL_URL" not in given and "ROUTES_FILE" not in given:
        yield f"MODEL_URL is not set ({settings.model_fields['model_url'].description})"
    for name in ("MODEL_URL", "MODEL_API_KEY", "MODEL_AUTH", "MODEL_AUDIENCE"):
        if name in given and "ROUTES_FILE" in given:
            yield f"{name} and ROUTES_FILE are both set: the file says it for each route; unset {name}"


def explain(error: Mapping[str, object], settings: type[BaseModel]) -> str:
    """One problem in words: the variable, what is wrong, what belongs there."""
    location = error["loc"]
    message = str(error["msg"]).removeprefix("Value error, ")
    if not isinstance(location, tuple) or not location:
        return message
    name = str(location[0])
    if error["type"] == "missing":
        message = "is not set"
    return f"{name} {message} ({settings.model_fields[name.lower()].description})"

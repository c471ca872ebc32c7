"""What is wrong with settings, in words that name the variable and the fix."""

import re
from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pydantic import BaseModel

from handler.config import values

if TYPE_CHECKING:
    from handler.config.settings import Settings  # which says these problems


def of_model(given: Mapping[str, str], settings: type[BaseModel]) -> Iterable[str]:
    """What is wrong with how the model service is named."""
    if "MODEL_URL" not in given and "ROUTES_FILE" not in given:
        yield f"MODEL_URL is not set ({settings.model_fields['model_url'].description})"
    for name in ("MODEL_URL", "MODEL_API_KEY", "MODEL_AUTH", "MODEL_AUDIENCE"):
        if name in given and "ROUTES_FILE" in given:
            yield f"{name} and ROUTES_FILE are both set: the file says it for each route; unset {name}"


def of_access(settings: "Settings") -> Iterator[str]:
    """What does not go together in who may push, and as whom the model service is called."""
    if settings.push_auth == "verify" and not (settings.push_audience and settings.push_service_account):
        yield "PUSH_AUTH=verify needs PUSH_AUDIENCE and PUSH_SERVICE_ACCOUNT: set both"
    if settings.push_auth == "none" and not settings.pubsub_emulator_host:
        yield (
            "PUSH_AUTH=none lets anybody use the model and is only for an emulator (PUBSUB_EMULATOR_HOST): "
            "use PUSH_AUTH=platform on Cloud Run, PUSH_AUTH=verify elsewhere"
        )
    url = urlsplit(settings.push_certs_url)
    if url.scheme == "http" and not (settings.pubsub_emulator_host or values.is_loopback(url.hostname or "")):
        yield "PUSH_CERTS_URL is not https: whoever is on the way could sign pushes; use https"
    if settings.model_auth == "key" and settings.model_api_key is None:
        yield "MODEL_AUTH=key needs MODEL_API_KEY: set it"
    if settings.model_api_key is not None and settings.model_auth not in (None, "key"):
        yield f"MODEL_AUTH={settings.model_auth} has no use for MODEL_API_KEY: unset one of them"


def of_parts(settings: "Settings") -> Iterator[str]:
    """What needs something that is not there, and times that do not fit."""
    if (settings.request_buckets or settings.response_bucket) and find_spec("google.cloud.storage") is None:
        yield (
            "REQUEST_BUCKETS and RESPONSE_BUCKET need Google's library, which the image has: pip install "
            "'inference-relay[gs]'"
        )
    if settings.control_messages and settings.ledger_url is None:
        yield (
            "CONTROL_MESSAGES=true needs LEDGER_URL: an instance that cancels for itself alone would promise what "
            "the others do not keep; set LEDGER_URL, or leave CONTROL_MESSAGES out"
        )
    needed = settings.model_timeout_seconds + settings.publish_timeout_seconds + settings.margin_seconds
    if needed > settings.ack_deadline_seconds:
        yield (
            f"MODEL_TIMEOUT_SECONDS + PUBLISH_TIMEOUT_SECONDS + MARGIN_SECONDS come to {needed:g}, more than "
            f"ACK_DEADLINE_SECONDS={settings.ack_deadline_seconds:g}: Pub/Sub would deliver again while "
            "the model still works; shorten the first two"
        )


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

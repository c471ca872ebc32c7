"""Routes and streams: which model service gets which model's requests, and what each push subscription may.

The plain settings make one of each; what the file of routes makes of it is routesfile's.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import SecretStr

from handler.config import values
from handler.rules.message.options import Priority

if TYPE_CHECKING:
    from handler.config.settings import Settings  # which has one of these

ModelAuth = Literal["none", "key", "google-id-token", "google-access-token"]

# What may stand for {model} in a URL: requesters choose it, and must not choose the host or the path with it.
SAFE_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?")
MODEL_FIELD = "{model}"
ONLY_ROUTE = "default"  # the name of the route that plain settings make


@dataclass(frozen=True, slots=True)
class Route:
    """A model service, with every setting decided. Seconds are seconds; `slots` is the most calls at once."""

    name: str
    models: tuple[str, ...]
    url: str
    model: str | None
    auth: ModelAuth
    api_key: SecretStr | None
    audience: str
    ca_file: str | None
    timeout_seconds: float
    slots: int
    adapts: bool
    allowed_paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Stream:
    """What the requests of a push subscription may and get, with every setting decided."""

    subscription: str
    response_topic: str
    priority: Priority | None
    max_share: float
    models: tuple[str, ...] | None
    allowed_paths: tuple[str, ...] | None
    max_attempts: int


@dataclass(frozen=True, slots=True)
class Routing:
    """The routes, and the streams; no streams where every subscription is served alike, as `default` says."""

    routes: tuple[Route, ...]
    streams: tuple[Stream, ...]
    default: Stream

    @property
    def slots(self) -> int:
        """The most calls that are under way at once."""
        return sum(route.slots for route in self.routes)

    @property
    def allowed_paths(self) -> tuple[str, ...]:
        """The paths that some route allows."""
        return tuple(dict.fromkeys(path for route in self.routes for path in route.allowed_paths))


def plain(defaults: "Settings") -> Routing:
    """The one route and the one stream of whoever has one model."""
    url = defaults.model_url or ""
    route = Route(
        name=ONLY_ROUTE,
        models=("*",),
        url=url,
        model=None,
        auth=defaults.model_auth or ("key" if defaults.model_api_key else "none"),
        api_key=defaults.model_api_key,
        audience=defaults.model_audience or values.origin(url),
        ca_file=defaults.model_ca_file,
        timeout_seconds=defaults.model_timeout_seconds,
        slots=defaults.slots,
        adapts=defaults.adapts,
        allowed_paths=defaults.allowed_paths,
    )
    return Routing((route,), (), any_stream(defaults))


def any_stream(defaults: "Settings") -> Stream:
    """What requests may and get where no stream says more."""
    return Stream(
        subscription="any",
        response_topic=defaults.response_topic,
        priority=None,
        max_share=1.0,
        models=None,
        allowed_paths=None,
        max_attempts=defaults.max_attempts,
    )


def matcher(patterns: Mapping[str, int]) -> Callable[[str | None], int | None]:
    """A function from a model's name to the number of the pattern that fits best; None where none does."""
    starts = sorted((pattern[:-1] for pattern in patterns if pattern.endswith("*")), key=len, reverse=True)

    def match(model: str | None) -> int | None:
        if model is not None and not model.endswith("*") and model in patterns:
            return patterns[model]
        start = next((start for start in starts if not start or (model or "").startswith(start)), None)
        return None if start is None else patterns[f"{start}*"]

    return match

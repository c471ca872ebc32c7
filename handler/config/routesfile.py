"""The file of routes (ROUTES_FILE): what stands in it, and what it makes of that with the plain settings.

Imported where there is one: what reads YAML is not loaded by everybody else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

from handler.config import values, yamlfile
from handler.config.routing import MODEL_FIELD, ModelAuth, Route, Routing, any_stream
from handler.config.settings import Settings
from handler.rules.message.options import Priority


def _url(value: str) -> str:
    checked = values.base_url(value.replace(MODEL_FIELD, "model"))
    if checked.count("{") or checked.count("}"):
        raise ValueError("may have {model} in braces, and nothing else")
    return value.rstrip("/")


def _pattern(value: str) -> str:
    if "*" in value[:-1]:
        raise ValueError(f"has {value!r}: a * stands at the end or nowhere")
    return value


Slots = Annotated[int, Field(ge=1, le=2000)]
Patterns = Annotated[tuple[Annotated[str, Field(min_length=1), AfterValidator(_pattern)], ...], Field(min_length=1)]
Paths = Annotated[tuple[str, ...], AfterValidator(values.plain_paths), Field(min_length=1)]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, str_strip_whitespace=True)


class RouteEntry(_Entry):
    """A model service, and which models' requests it gets. What is left out is as the plain setting says."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]{0,39}$", description="its name in logs and metrics")
    models: Patterns = Field(
        description="names of models whose requests it gets: exact, the start of a name with `*` behind it, or `*` for "
        "all others and for requests that name none; an exact name goes before a start, a longer start before a shorter"
    )
    url: Annotated[str, AfterValidator(_url)] = Field(
        description="base URL of its model service, to which the request's path is appended; `{model}` is replaced by "
        "the model's name"
    )
    model: str | None = Field(None, min_length=1, description="the name that the model service gets instead")
    auth: ModelAuth | None = Field(None, description="as MODEL_AUTH; `key` where api_key_env is given, else `none`")
    api_key_env: str | None = Field(
        None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="the environment variable that holds its key"
    )
    audience: str | None = Field(None, min_length=1, description="as MODEL_AUDIENCE")
    ca_file: Annotated[str, AfterValidator(values.file)] | None = Field(None, description="as MODEL_CA_FILE")
    timeout_seconds: values.Seconds | None = Field(None, description="as MODEL_TIMEOUT_SECONDS")
    slots: Slots | Literal["auto"] | None = Field(None, description="as MODEL_SLOTS")
    max_slots: Slots | None = Field(None, description="as MAX_MODEL_SLOTS")
    allowed_paths: Paths | None = Field(None, description="as ALLOWED_PATHS")


class StreamEntry(_Entry):
    """A push subscription, and what its requests may and get."""

    subscription: str = Field(
        pattern=r"^(projects/[^/\s]+/subscriptions/)?[A-Za-z][A-Za-z0-9._~+%-]{2,254}$",
        description="`projects/PROJECT/subscriptions/SUBSCRIPTION`, or the last part of it",
    )
    response_topic: Annotated[str, AfterValidator(values.topic)] | None = Field(None, description="as RESPONSE_TOPIC")
    priority: Priority | None = Field(
        None, description="of all its requests: what they ask for themselves counts only without it"
    )
    max_share: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="the part of each route's slots that its requests may have at once, one at least"
    )
    models: Patterns | None = Field(None, description="models that its requests may name; all, without it")
    allowed_paths: Paths | None = Field(None, description="as ALLOWED_PATHS")
    max_attempts: Annotated[int, Field(ge=1, le=100)] | None = Field(None, description="as MAX_ATTEMPTS")


class RoutingFile(_Entry):
    """What ROUTES_FILE holds, as YAML."""

    routes: tuple[RouteEntry, ...] = Field(min_length=1, description="the model services")
    streams: tuple[StreamEntry, ...] = Field(
        (), description="the push subscriptions; where there are some, pushes of others are refused"
    )

    @model_validator(mode="after")
    def _are_told_apart(self) -> "RoutingFile":
        _no_twins("a route's name", [route.name for route in self.routes])
        _no_twins("a model", [pattern for route in self.routes for pattern in route.models])
        _no_twins("a subscription", [stream.subscription for stream in self.streams])
        return self


def _no_twins(what: str, names: Sequence[str]) -> None:
    twins = sorted({name for name in names if names.count(name) > 1})
    if twins:
        raise ValueError(f"{what} stands there twice: {', '.join(twins)}")


def read(path: str, defaults: Settings, environment: Mapping[str, str]) -> Routing:
    """The routes and streams of the file at `path`, filled up. `environment` has the keys.

    Raises ValueError with what is wrong or missing.
    """
    file = yamlfile.load(path, RoutingFile)
    routes = tuple(_route(entry, defaults, environment) for entry in file.routes)
    default = any_stream(defaults)
    streams = tuple(replace(default, **entry.model_dump(exclude_none=True)) for entry in file.streams)
    return Routing(routes, streams, default)


def _route(entry: RouteEntry, defaults: Settings, environment: Mapping[str, str]) -> Route:
    auth = entry.auth or ("key" if entry.api_key_env else "none")
    adapts = entry.slots == "auto" or (entry.slots is None and defaults.adapts)
    most = entry.max_slots or defaults.max_model_slots
    return Route(
        name=entry.name,
        models=entry.models,
        url=entry.url,
        model=entry.model,
        auth=auth,
        api_key=_key(entry, environment) if auth == "key" else None,
        audience=_audience(entry, auth),
        ca_file=entry.ca_file or defaults.model_ca_file,
        timeout_seconds=entry.timeout_seconds or defaults.model_timeout_seconds,
        slots=most if adapts else int(entry.slots or defaults.slots),
        adapts=adapts,
        allowed_paths=entry.allowed_paths or defaults.allowed_paths,
    )


def _audience(entry: RouteEntry, auth: ModelAuth) -> str:
    origin = values.origin(entry.url)
    if auth == "google-id-token" and entry.audience is None and MODEL_FIELD in origin:
        raise ValueError(
            f"route {entry.name}: its tokens are for one audience, and {MODEL_FIELD} in the host of its url makes "
            "many: give `audience`, which all of these services have to accept"
        )
    return entry.audience or origin


def _key(entry: RouteEntry, environment: Mapping[str, str]) -> SecretStr:
    value = environment.get(entry.api_key_env or "", "").strip()
    if not entry.api_key_env:
        raise ValueError(f"route {entry.name}: auth is key, so api_key_env has to name the variable that holds it")
    if not value:
        raise ValueError(f"route {entry.name}: {entry.api_key_env} (api_key_env) is not set")
    try:
        return values.header_value(SecretStr(value))
    except ValueError as problem:
        raise ValueError(f"route {entry.name}: {entry.api_key_env} (api_key_env) {problem}") from None

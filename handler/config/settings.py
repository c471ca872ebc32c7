"""Settings, read once from the environment, validated and frozen."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
)

from handler.config import google, problems, routing, values

DEFAULT_PATHS = (
    "/v1/completions",
    "/v1/chat/completions",
    "/v1/responses",
    "/v1/embeddings",
    "/v1/rerank",
    "/v1/score",
    "/v1/audio/speech",
    "/v1/audio/transcriptions",
    "/v1/audio/translations",
    "/v1/images/generations",
)

# So many copies of messages that are being worked on may wait for the verdict on them.
JOINING = 100
# So many pushes may wait for other instances, for each slot. When an instance dies, all of its messages are delivered
# to the others at once, and wait until its leases have run out.
WAITERS_PER_SLOT = 4
# Connections, or threads, beyond those of the pushes that are held: health checks and refusals are answered while every
# place is taken.
SPARE = 48

# A message of 10 MB is 13.4 MB in base64, with its attributes: no push of Pub/Sub's is larger.
MAX_PUSH_BYTES = 16 << 20


class SettingsError(Exception):
    """The environment cannot be used. The message, one line, names each variable at fault and says how to mend it.

    `problems` has them one by one.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__(f"inference-relay cannot start: {'; '.join(problems)}")
        self.problems = problems


Seconds = values.Seconds


class Settings(BaseModel):
    """Everything that can be configured; each field is the environment variable of the same name in capitals."""

    model_config = ConfigDict(
        alias_generator=str.upper, frozen=True, hide_input_in_errors=True, str_strip_whitespace=True
    )

    model_url: Annotated[str, AfterValidator(values.base_url)] | None = Field(
        None,
        description="base URL of the model service, e.g. `http://kubeai/openai`; the request's path is appended. "
        "Required, or ROUTES_FILE",
    )
    routes_file: str | None = Field(
        None,
        description="YAML file of several model services, or of what each push subscription may, in place of MODEL_URL "
        "(docs/routes.md)",
    )
    response_topic: Annotated[str, AfterValidator(values.topic)] = Field(
        description="where responses are published: `projects/PROJECT/topics/TOPIC`"
    )
    response_topics: Annotated[tuple[str, ...], BeforeValidator(values.paths), AfterValidator(values.topics)] = Field(
        (),
        description="other topics that a request may name for its response, in the attribute `response_topic`; "
        "separated by commas",
    )
    push_auth: Literal["verify", "platform", "none"] = Field(
        description="who checks the sender of a push. `verify`: this service does (Knative, any host); `platform`: "
        "the host did (Cloud Run with IAM; else the model is open); `none`: nobody (only with PUBSUB_EMULATOR_HOST)"
    )
    push_audience: str | None = Field(
        None,
        min_length=1,
        description="audience of the push subscription's token; required with PUSH_AUTH=verify",
    )
    push_service_account: str | None = Field(
        None,
        min_length=1,
        description="email of the push subscription's service account; required with PUSH_AUTH=verify",
    )
    push_certs_url: Annotated[str, AfterValidator(values.url)] = Field(
        "https://www.googleapis.com/oauth2/v1/certs",
        description="where the keys of push tokens are published (JSON of key id to PEM certificate, or a JWK Set)",
    )
    push_issuer: str = Field("https://accounts.google.com", description="issuer of push tokens")
    allowed_paths: Annotated[
        tuple[str, ...], BeforeValidator(values.paths), AfterValidator(values.plain_paths), Field(min_length=1)
    ] = Field(DEFAULT_PATHS, description="paths of the model service that requests may name, separated by commas")
    model_auth: routing.ModelAuth | None = Field(
        None,
        description="as whom the model service is called: `none`, with a `key` (MODEL_API_KEY), with a "
        "`google-id-token` (a private Cloud Run service, IAP) or a `google-access-token` (Vertex AI); `key` where "
        "MODEL_API_KEY is set, else `none`",
    )
    model_audience: str | None = Field(
        None,
        min_length=1,
        description="audience of the ID token with MODEL_AUTH=google-id-token; scheme and host of MODEL_URL if not set",
    )
    model_api_key: Annotated[SecretStr, AfterValidator(values.header_value)] | None = Field(
        None, description="bearer token for the model service; never logged"
    )
    model_ca_file: Annotated[str, AfterValidator(values.file)] | None = Field(
        None,
        description="PEM file of the authorities trusted for an https MODEL_URL, instead of the public ones",
    )
    attribute_headers: Annotated[
        tuple[tuple[str, str], ...], BeforeValidator(values.header_names), AfterValidator(values.attribute_headers)
    ] = Field(
        (),
        description="attributes of a request that the model service gets as headers, as `attribute=Header-Name` "
        "separated by commas; `priority` and `deadline` are the request's own where they are no attributes",
    )
    ack_deadline_seconds: Annotated[Seconds, Field(ge=10, le=600)] = Field(
        600.0, description="the push subscription's ack deadline, 10 to 600: the same value as the subscription's"
    )
    model_timeout_seconds: Seconds = Field(540.0, description="the longest that one call of the model may take")
    publish_timeout_seconds: Seconds = Field(30.0, description="the longest that publishing one response may take")
    connect_timeout_seconds: Seconds = Field(5.0, description="the longest that connecting to the model may take")
    receive_timeout_seconds: Seconds = Field(
        60.0, description="the longest that the body of one push may take to arrive"
    )
    patience_seconds: Annotated[float, Field(ge=0, le=60)] = Field(
        10.0,
        description="how long brief trouble of the model (no connection, 429, 503) is waited out before the message "
        "is given back, which slows the whole subscription down; 0 never waits",
    )
    max_attempts: Annotated[int, Field(ge=1, le=100)] = Field(
        10,
        description="attempts after which a failing request is answered with its error: failures that the ledger has "
        "counted; without it deliveries, where the subscription has a dead-letter policy, or else this instance's own",
    )
    max_age_seconds: Seconds = Field(
        86400.0, description="age after which a failing request is answered with its error"
    )
    ledger_url: Annotated[SecretStr, AfterValidator(values.ledger_url)] | None = Field(
        None,
        description="`redis://` or `rediss://` URL of a Redis that all instances share, so that no two of them call "
        "the model for the same message; with `?ssl_ca_certs=FILE` for authorities of its own; never logged",
    )
    answered_ttl_seconds: Seconds = Field(
        3600.0,
        description="how long an answered message is remembered, to be acknowledged if it is delivered again; an "
        "instance's own memory, which is all there is without LEDGER_URL, has the last 500,000 at most",
    )
    request_buckets: Annotated[tuple[str, ...], BeforeValidator(values.paths), AfterValidator(values.buckets)] = Field(
        (),
        description="Cloud Storage buckets, separated by commas, that requests may refer to: with `body_ref`, and with "
        "`body.file` where the model takes a form (audio transcription)",
    )
    max_file_mb: Annotated[int, Field(ge=1, le=100_000)] = Field(
        1024, description="MiB that a file which a request refers to may have; it is streamed to the model, never held"
    )
    max_body_ref_mb: Annotated[int, Field(ge=1, le=1024)] = Field(
        64,
        description="MiB that a JSON body which a request refers to may have; it is held in memory, all of them "
        "together with no more than MAX_WAITING_MB, or one of them",
    )
    response_bucket: Annotated[str, AfterValidator(values.bucket)] | None = Field(
        None,
        description="Cloud Storage bucket that responses over Pub/Sub's 10 MB are written to, under `responses/`; "
        "without it they are answered with an error",
    )
    max_response_mb: Annotated[int, Field(ge=10, le=100_000)] = Field(
        1024, description="MiB that a response in RESPONSE_BUCKET may have"
    )
    control_messages: bool = Field(
        False,
        description="`true`: whoever may publish requests may also cancel requests, anybody's, and ask where they "
        "stand, by messages with the attribute `relay_control`; needs LEDGER_URL",
    )
    model_slots: Annotated[int, Field(ge=1, le=2000)] | Literal["auto"] = Field(
        64,
        description="calls that the model gets at once from one instance; others wait in the line. `auto` starts low "
        "and follows the model's refusals (429, 503) and its own queue, up to MAX_MODEL_SLOTS",
    )
    max_model_slots: Annotated[int, Field(ge=1, le=2000)] = Field(
        256, description="the most calls at once with MODEL_SLOTS=auto"
    )
    max_waiting: Annotated[int, Field(ge=0, le=20_000)] = Field(
        3000,
        description="pushes that one instance holds in the line for a slot; the default is what Pub/Sub sends at once "
        "to a slow endpoint. More are refused with 429, which slows the whole subscription down",
    )
    max_waiting_mb: Annotated[int, Field(ge=1, le=100_000)] = Field(
        128, description="MiB that the pushes may have together that wait, in the line or for another instance"
    )
    concurrency: Annotated[int, Field(ge=1, le=2000)] | None = Field(
        None, description="the old name of MODEL_SLOTS, which it sets where that is not set; goes in the next version"
    )
    margin_seconds: Annotated[float, Field(ge=1, le=300)] = Field(
        10.0,
        description="what a push may have cost before it reached this process, in the queues of Cloud Run or Knative, "
        "on the network: so much of the ack deadline is never planned with, since a late answer does not count",
    )
    grace_seconds: Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)] = Field(
        8.0, description="how long SIGTERM waits for work in flight: 8 on Cloud Run, timeoutSeconds - 30 on Knative"
    )
    port: Annotated[int, Field(ge=1, le=65535)] = Field(8080, description="port to listen on")
    metrics_port: Annotated[int, Field(ge=1, le=65535)] | None = Field(
        None,
        description="port of `GET /metrics` (Prometheus, OpenMetrics) beside PORT; the same number as PORT serves it "
        "there, to whoever reaches that; without it nothing is served",
    )
    otel_exporter_otlp_endpoint: Annotated[str, AfterValidator(values.url)] | None = Field(
        None,
        description="base URL of an OpenTelemetry collector that takes traces by OTLP over HTTP, e.g. "
        "`http://localhost:4318`; OpenTelemetry's other OTEL_* variables count, too. It needs the extra `traces`, "
        "which the image has",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = Field(
        "INFO", description="least severity that is logged"
    )
    storage_emulator_host: Annotated[str, AfterValidator(values.url)] | None = Field(
        None, description="URL of a Cloud Storage emulator, with its `http://`; for tests and laptops"
    )
    pubsub_emulator_host: str | None = Field(None, description="`HOST:PORT` of a Pub/Sub emulator; for tests, laptops")

    _routing: routing.Routing | None = PrivateAttr(None)  # of the file of routes

    @property
    def slots(self) -> int:
        """The most calls that a model service gets at once."""
        if self.adapts:
            return self.max_model_slots
        is_set = "model_slots" in self.model_fields_set
        return self.concurrency if self.concurrency is not None and not is_set else int(self.model_slots)

    @property
    def adapts(self) -> bool:
        """Whether the number of slots follows what the model says."""
        return self.model_slots == "auto"

    @property
    def routing(self) -> routing.Routing:
        """The routes and the streams."""
        return self._routing or routing.plain(self)

    @property
    def pushes(self) -> int:
        """Pushes that are held at once: waiting, at the model, or until their answer is published."""
        return self.routing.slots + self.max_waiting

    @property
    def connections(self) -> int:
        """Connections, or threads where each push takes one, for everything that may happen at once."""
        return self.pushes + self.routing.slots * WAITERS_PER_SLOT + JOINING + SPARE

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Read `environment`; a variable set to nothing or blanks counts as not set. Raises SettingsError."""
        given = {name: value for name, value in environment.items() if value.strip()}
        wrong = [*problems.of_model(given, cls), *google.problems(environment)]
        try:
            settings = cls.model_validate(given)
        except ValidationError as error:
            raise SettingsError(*wrong, *problems.explain(error.errors(), cls)) from None
        wrong += [*problems.of_access(settings), *problems.of_parts(settings)]
        if wrong:
            raise SettingsError(*wrong)
        if settings.routes_file:
            settings._read_routes(settings.routes_file, given)
        return settings

    def _read_routes(self, path: str, environment: Mapping[str, str]) -> None:
        from handler.config import routesfile

        try:
            self._routing = routesfile.read(path, self, environment)
        except ValueError as error:
            raise SettingsError(f"ROUTES_FILE {path}: {error}") from None
        slowest = max(route.timeout_seconds for route in self._routing.routes)
        if slowest + self.publish_timeout_seconds + self.margin_seconds > self.ack_deadline_seconds:
            raise SettingsError(
                f"ROUTES_FILE {path}: a route's timeout_seconds of {slowest:g} with PUBLISH_TIMEOUT_SECONDS and "
                f"MARGIN_SECONDS comes to more than ACK_DEADLINE_SECONDS={self.ack_deadline_seconds:g}"
            )

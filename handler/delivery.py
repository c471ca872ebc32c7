"""What is held of a message while it waits and is worked on: as little as can be."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from handler.admission.intake import Held
from handler.config.routing import Stream
from handler.config.settings import Settings
from handler.ledger.origin import Origin
from handler.model.multipart import FormError, form
from handler.push.envelope import PubsubMessage
from handler.rules import strictjson
from handler.rules.message.attributes import MAX_VALUE_BYTES
from handler.rules.message.contract import ErrorCode, InferenceRequest, RequestError
from handler.rules.message.modelheaders import model_headers
from handler.rules.message.options import Options, Priority, priority_of
from handler.rules.message.streamed import File, Streamed
from handler.rules.verdict.outcome import Verdict
from handler.telemetry.record import PushRecord

TOPIC_ATTRIBUTE = "response_topic"


@dataclass(slots=True)
class Delivery:
    """One delivery of a message, which came at `arrived` and is given up by Pub/Sub at `until`, on the monotonic clock.

    `key` names the message here and in the ledger, and is the same for its copies and redeliveries; `owner` names this
    attempt at it; `held` is what it takes while it waits; `record` is told what happens to it; `origin` is by what it
    can be cancelled, if it can be; `joined` says that it is a copy, which waits for the verdict on another delivery;
    `kept` says that its response was made and kept; `confirmed` is the verdict whose response is published and
    confirmed, None before; `metadata`, as JSON, and `model` are the request's own once it is read.
    """

    message: PubsubMessage
    arrived: float
    until: float
    key: str
    owner: str
    held: Held
    stream: Stream
    topic: str
    record: PushRecord
    origin: Origin | None = None
    joined: bool = False
    kept: bool = False
    confirmed: Verdict | None = None
    metadata: bytes = field(default=b"{}", repr=False)
    model: str | None = None

    @property
    def object_name(self) -> str:
        """What an answer is called that is stored: the attempt's own, or it would replace one that is published."""
        return f"{self.key}/{self.owner}"

    def take_data(self) -> bytes:
        """The message's data, once: it may be large, and is not to be held while the model works."""
        data = self.message.data
        self.message = replace(self.message, data=b"")
        return data

    def join(self) -> None:
        """Let go of the message's data: another delivery of it is being worked on."""
        self.joined = True
        self.record.joined()
        self.take_data()
        self.held.resize(0)


@dataclass(frozen=True, slots=True)
class Inference:
    """What is left of a request while it waits and the model works on it: bytes, not the objects that it is made of."""

    path: str
    body: bytes | Streamed = field(repr=False)
    metadata: bytes = field(repr=False)
    options: Options
    model: str | None
    priority: Priority
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def size(self) -> int:
        """The bytes that it takes here."""
        return len(self.metadata) + (len(self.body) if isinstance(self.body, bytes) else self.body.held)


def inference_of(
    request: InferenceRequest,
    attributes: Mapping[str, str],
    stream: Stream,
    settings: Settings,
    model: str | None,
    file: File | None = None,
) -> Inference:
    """What is left of a request, and of its message's attributes; its model service knows the model as `model`.

    With a `file` the body is a form that holds it. Raises RequestError for fields that become no form, and for an
    attribute that goes to the model service as a header, and cannot.
    """
    priority = stream.priority or request.options.priority or priority_of(attributes)
    return Inference(
        path=request.path,
        body=request.model_body(model) if file is None else _form(request, model, file),
        metadata=strictjson.dumps(request.metadata),
        options=request.options,
        model=request.model and request.model[:MAX_VALUE_BYTES],  # it may be as long as a message, and is held on
        priority=priority,
        headers=model_headers(settings.attribute_headers, request, attributes, priority),
    )


def _form(request: InferenceRequest, model: str | None, file: File) -> Streamed:
    try:
        return form(request.sent(model), file)
    except FormError as error:
        code = ErrorCode.INVALID_REQUEST
        raise RequestError(code, str(error), param="body", metadata=request.metadata) from None


def topic_of(message: PubsubMessage, stream: Stream, allowed: Collection[str]) -> str:
    """Where the response to a message goes: to the topic that it names if that is allowed, else to its stream's."""
    named = message.attributes.get(TOPIC_ATTRIBUTE, "")
    return named if named in allowed else stream.response_topic


def check_topic(attributes: Mapping[str, str], request: InferenceRequest, allowed: Collection[str]) -> None:
    """Raise RequestError where a topic is named that is not allowed. Where none are, the attribute means nothing."""
    named = attributes.get(TOPIC_ATTRIBUTE)
    if allowed and named and named not in allowed:
        raise RequestError(
            ErrorCode.INVALID_REQUEST,
            f"The response may not go to this topic. Name one of: {', '.join(allowed)}.",
            param=f"attributes.{TOPIC_ATTRIBUTE}",
            metadata=request.metadata,
        )

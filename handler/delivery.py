"""What is held of a message while it waits and is worked on: as little as can be."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from handler import strictjson
from handler.admission.intake import Held
from handler.ledger.origin import Origin
from handler.push.envelope import PubsubMessage
from handler.rules.contract import InferenceRequest, Options, Priority, priority_of


@dataclass(slots=True)
class Delivery:
    """One delivery of a message, which came at `arrived` and is given up by Pub/Sub at `until`, on the monotonic clock.

    `key` names the message here and in the ledger, and is the same for its copies and redeliveries; `owner` names this
    attempt at it; `held` is what it takes while it waits; `origin` is by what it can be cancelled, if it can be.
    """

    message: PubsubMessage
    arrived: float
    until: float
    key: str
    owner: str
    held: Held
    origin: Origin | None = None

    def take_data(self) -> bytes:
        """The message's data, once: it may be large, and is not to be held while the model works."""
        data = self.message.data
        self.message = replace(self.message, data=b"")
        return data

    def unload(self) -> None:
        """Let go of the message's data: somebody else works on it."""
        self.take_data()
        self.held.resize(0)


@dataclass(frozen=True, slots=True)
class Inference:
    """What is left of a request while it waits and the model works on it: bytes, not the objects that it is made of."""

    path: str
    body: bytes = field(repr=False)
    metadata: bytes = field(repr=False)
    options: Options
    model: str | None
    priority: Priority

    @property
    def size(self) -> int:
        """The bytes that it takes."""
        return len(self.body) + len(self.metadata)


def inference_of(request: InferenceRequest, attributes: Mapping[str, str]) -> Inference:
    """What is left of a request, and of its message's attributes."""
    priority = request.options.priority or priority_of(attributes)
    metadata = strictjson.dumps(request.metadata)
    return Inference(request.path, request.model_body(), metadata, request.options, request.model, priority)

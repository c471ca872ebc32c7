"""What the page's buttons do: publish, break the model, kill the service."""

import asyncio
import itertools
import json
from dataclasses import dataclass
from typing import Any, Protocol

from google.cloud import pubsub_v1

from handler.local.service import ServiceFailed
from handler.local.trouble import Mode

MOST = 100
_MAX_TOKENS = 24
_LONGEST = 2000
_PRIORITIES = ("high", "normal", "low")
_DOWN_SECONDS = 2.0  # that a killed service stays away, so that one sees what happens then


class Refused(Exception):
    """What was asked for cannot be done. The message says what is wrong."""


class Model(Protocol):
    """What the page needs of the model."""

    def change(self, mode: Mode) -> None:
        """Be like this from now on."""
        ...


class Service(Protocol):
    """What the page needs of the service. Both wait until it is done."""

    def kill(self) -> None:
        """End it at once."""
        ...

    def start(self) -> None:
        """Start it. Raises ServiceFailed."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """So many requests."""

    prompt: str
    count: int
    priority: str
    model: str

    @classmethod
    def of(cls, fields: Any) -> "Order":
        """Read what the form sent. Raises Refused."""
        if not isinstance(fields, dict):
            raise Refused("an object is expected")
        prompt, count, model = fields.get("prompt"), fields.get("count"), fields.get("model")
        if not isinstance(prompt, str) or not 1 <= len(prompt.strip()) <= _LONGEST:
            raise Refused(f"a prompt of 1 to {_LONGEST} characters is needed")
        if not isinstance(count, int) or not 1 <= count <= MOST:
            raise Refused(f"1 to {MOST} requests can be published at once")
        if fields.get("priority") not in _PRIORITIES:
            raise Refused(f"the priority is one of {', '.join(_PRIORITIES)}")
        if not isinstance(model, str) or not 1 <= len(model.strip()) <= _LONGEST:
            raise Refused("the model's name is needed")
        return cls(prompt=prompt, count=count, priority=fields["priority"], model=model.strip())

    def requests(self, numbers: "itertools.count[int]") -> list[bytes]:
        """Make the messages' data."""
        return [self._request(f"page-{next(numbers)}") for _ in range(self.count)]

    def _request(self, name: str) -> bytes:
        """`user`, which models pass over, tells equal requests apart when the model is asked."""
        body = {"model": self.model, "prompt": self.prompt, "max_tokens": _MAX_TOKENS, "user": name}
        options = {"priority": self.priority}
        return json.dumps({"metadata": {"id": name}, "options": options, "body": body}).encode()


class Publisher:
    """Publishes requests as any program would: with Google's client."""

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._numbers = itertools.count(1)
        self._client = pubsub_v1.PublisherClient()

    def publish(self, order: Order) -> None:
        """Publish, and wait until Pub/Sub has taken all."""
        futures = [self._client.publish(self._topic, data) for data in order.requests(self._numbers)]
        for future in futures:
            future.result(30)

    def close(self) -> None:
        """Let the connection go."""
        self._client.stop()
        self._client.transport.close()


class Controls:
    """The buttons, and how things stand because of them. Used in one event loop; `changed` is called when they do."""

    def __init__(self, model: Model, service: Service, publisher: Publisher, changed: Any) -> None:
        self._model, self._service, self._publisher, self._changed = model, service, publisher, changed
        self._one_at_a_time = asyncio.Lock()
        self._mode = Mode.WORKS
        self._state, self._trouble, self._kills = "running", "", 0

    def view(self) -> dict[str, Any]:
        """What the browser gets."""
        service = {"state": self._state, "trouble": self._trouble, "kills": self._kills}
        return {"model": self._mode, "service": service}

    async def publish(self, fields: Any) -> None:
        """Publish one request, or many. Raises Refused."""
        await asyncio.to_thread(self._publisher.publish, Order.of(fields))

    async def change(self, fields: Any) -> None:
        """Break the model, or mend it. Raises Refused."""
        try:
            mode = Mode(fields["mode"])
        except (ValueError, KeyError, TypeError):
            raise Refused(f"the model can be one of {', '.join(Mode)}") from None
        async with self._one_at_a_time:
            await asyncio.to_thread(self._model.change, mode)
            self._mode = mode
        self._changed()

    async def kill(self) -> None:
        """Kill the service and, after a while, start it again, as Cloud Run or Knative would. Raises Refused."""
        if self._state not in ("running", "failed"):
            raise Refused("the service is down already")
        self._kills += self._state == "running"
        self._stand("killed")
        await asyncio.to_thread(self._service.kill)
        await asyncio.sleep(_DOWN_SECONDS)
        self._stand("starting")
        try:
            await asyncio.to_thread(self._service.start)
        except ServiceFailed as error:
            self._stand("failed", str(error))
        else:
            self._stand("running")

    def _stand(self, state: str, trouble: str = "") -> None:
        self._state, self._trouble = state, trouble
        self._changed()

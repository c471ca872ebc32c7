"""What the page's buttons do: publish, break the model, kill the service."""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from handler.local.page.orders import Order, Publisher, Refused
from handler.local.service import ServiceFailed
from handler.local.trouble import Mode

_DOWN_SECONDS = 2.0  # that a killed service stays away, so that one sees what happens then


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
        """Start it. Raises ServiceFailed, or OSError where there can be no process."""
        ...


class Controls:
    """The buttons, and how things stand because of them. Used in one event loop; `changed` is called when they do."""

    def __init__(self, model: Model, service: Service, publisher: Publisher, changed: Callable[[], None]) -> None:
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
        except (ServiceFailed, OSError) as error:
            self._stand("failed", str(error))
        else:
            self._stand("running")

    def _stand(self, state: str, trouble: str = "") -> None:
        self._state, self._trouble = state, trouble
        self._changed()

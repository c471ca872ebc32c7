"""Where a request goes, and for whom: the routes as they run, and the streams."""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

from handler.admission.limit import AdaptiveLimit, FixedLimit
from handler.admission.line import Line, Room
from handler.config import routing
from handler.config.settings import Settings
from handler.model.service import ModelService
from handler.rules.message.contract import ErrorCode, InferenceRequest, RequestError


class Route:
    """A model service and the line in front of it."""

    def __init__(self, settings: routing.Route, model: ModelService, line: Line) -> None:
        self.settings = settings
        self.model = model
        self.line = line

    @property
    def name(self) -> str:
        """Its name in logs and metrics."""
        return self.settings.name

    def takes(self, request: InferenceRequest) -> bool:
        """Whether the model's name may stand in the URL, where it does."""
        if routing.MODEL_FIELD not in self.settings.url:
            return True
        return request.model is not None and routing.SAFE_NAME.fullmatch(request.model) is not None


class Routes:
    """Every route. Found by the model that a request names."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes = tuple(routes)
        self._match = routing.matcher(
            {pattern: number for number, route in enumerate(routes) for pattern in route.settings.models}
        )

    def __iter__(self) -> Iterator[Route]:
        return iter(self._routes)

    @property
    def only_name(self) -> str:
        """The name of the one route that there is; "" where there are more."""
        return self._routes[0].name if len(self._routes) == 1 else ""

    def route(self, request: InferenceRequest, stream: routing.Stream) -> Route:
        """The request's route. Raises RequestError where there is none for it, or not for this stream."""
        number = self._match(request.model)
        if number is None or not self._routes[number].takes(request) or not _is_for(request.model, stream):
            raise self._unknown(request, stream)
        route = self._routes[number]
        for allowed in (route.settings.allowed_paths, stream.allowed_paths):
            if allowed is not None and request.path not in allowed:
                raise RequestError(
                    ErrorCode.PATH_NOT_ALLOWED,
                    f"This path is not allowed for this model. Use one of: {', '.join(allowed)}.",
                    param="path",
                    metadata=request.metadata,
                )
        return route

    def _unknown(self, request: InferenceRequest, stream: routing.Stream) -> RequestError:
        named = "names no model" if request.model is None else "names a model that is not served here"
        served = stream.models or tuple(pattern for route in self._routes for pattern in route.settings.models)
        return RequestError(
            ErrorCode.MODEL_NOT_FOUND,
            f"The request {named}. There are: {', '.join(served)}.",
            param="body.model",
            metadata=request.metadata,
        )

    def drain(self) -> None:
        """Send away everybody who waits for a model."""
        for route in self._routes:
            route.line.drain()

    def abort(self) -> None:
        """End every call of a model."""
        for route in self._routes:
            route.model.abort()


def _is_for(model: str | None, stream: routing.Stream) -> bool:
    if stream.models is None:
        return True
    return _matcher(stream.models)(model) is not None


@lru_cache(1_000)  # streams are configured, and each of their requests asks
def _matcher(patterns: tuple[str, ...]) -> Callable[[str | None], int | None]:
    return routing.matcher(dict.fromkeys(patterns, 0))


def made(settings: Settings) -> Routes:
    """The routes that the settings ask for; each may have an equal part of what may wait."""
    configured = settings.routing.routes
    room = Room(settings.max_waiting // len(configured), (settings.max_waiting_mb << 20) // len(configured))
    if len(configured) == 1:
        room = Room(size=room.size)  # forms are larger than the messages that were taken in
    return Routes([_made(route, settings, room) for route in configured])


def _made(route: routing.Route, settings: Settings, room: Room) -> Route:
    limit = AdaptiveLimit(route.slots) if route.adapts else FixedLimit(route.slots)
    return Route(route, ModelService(route, settings.connect_timeout_seconds), Line(limit, room=room))


class Streams:
    """Which stream a push belongs to, by its subscription."""

    def __init__(self, configured: routing.Routing) -> None:
        self._streams = {stream.subscription: stream for stream in configured.streams}
        self._default = configured.default

    def find(self, subscription: str) -> routing.Stream | None:
        """The stream; None where there are some and none is this subscription's."""
        if not self._streams:
            return self._default
        return self._streams.get(subscription) or self._streams.get(subscription.rpartition("/")[2])

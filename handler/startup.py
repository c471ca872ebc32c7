"""The startup probe: whether a new instance reaches what it calls, asked before it gets its first push.

An instance with Direct VPC egress may need a minute or more before its first connection into the VPC opens
(https://docs.cloud.google.com/run/docs/configuring/vpc-direct-vpc). Pushes that came before would be refused, as many
as an instance holds, and each refusal slows the whole subscription down. A service whose model is away has to start all
the same: its probe passes after LONGEST_START_SECONDS, since what then comes is retried and answered by the rules for
that.
"""

import logging
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from handler.config import routing
from handler.config.settings import Settings
from handler.greenlets import Deadline, DeadlinePassed
from handler.http import dial

# Google says "a minute or more"; the platform's own probe lasts for 120 s (terraform/modules/relay/cloudrun.tf).
LONGEST_START_SECONDS = 90.0
# For each destination, its look-up and all of its addresses; all side by side: the platform waits 2 s for the probe's
# answer. Within a VPC it takes milliseconds.
CONNECT_SECONDS = 1.5
DEFAULT_PORTS = {"http": 80, "https": 443, "redis": 6379, "rediss": 6379}

_resolver = dial.Resolver()
_log = logging.getLogger(__name__)

Address = tuple[str, int]


class StartupProbe:
    """Passes once each destination was connected to, or LONGEST_START_SECONDS after it was made; for good then."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._missing = destinations(settings)
        self._passed = False

    def answer(self) -> tuple[int, dict[str, object]]:
        """The HTTP status, 200 or 503, and its JSON body, which names what is not reached yet.

        That is `ledger`, and `model`, or `model of NAME` for each of several routes.
        """
        if not self._passed:
            self._look()
        if self._passed:
            return 200, {"status": "started"}
        return 503, {"status": "starting", "not_reached": sorted(self._missing)}

    def _look(self) -> None:
        self._missing = _not_reached(self._missing)
        seconds = self._clock() - self._began
        if not self._missing:
            _log.info("started: reached all that is called after %.1f s", seconds)
        elif seconds >= LONGEST_START_SECONDS:
            _log.warning("started without having reached %s in %.0f s", ", ".join(sorted(self._missing)), seconds)
        else:
            return
        self._passed = True


def destinations(settings: Settings) -> dict[str, Address]:
    """Host and port of what the service calls at an address of its operator's choice, by name."""
    urls = {_name(route): route.url.replace(routing.MODEL_FIELD, "model") for route in _fixed(settings)}
    if settings.ledger_url is not None:
        urls["ledger"] = settings.ledger_url.get_secret_value()
    return {name: _address(url) for name, url in urls.items()}


def _fixed(settings: Settings) -> Iterable[routing.Route]:
    """The routes whose host does not depend on a model's name."""
    return (route for route in settings.routing.routes if routing.MODEL_FIELD not in urlsplit(route.url).netloc)


def _name(route: routing.Route) -> str:
    return "model" if route.name == routing.ONLY_ROUTE else f"model of {route.name}"


def _not_reached(addresses: dict[str, Address]) -> dict[str, Address]:
    with ThreadPoolExecutor(max(1, len(addresses))) as side_by_side:
        reached = side_by_side.map(connects, addresses.values())
        return {
            name: address for (name, address), is_there in zip(addresses.items(), reached, strict=True) if not is_there
        }


def connects(address: Address) -> bool:
    """Whether a TCP connection opens. Nothing is sent over it."""
    try:
        with Deadline(CONNECT_SECONDS), dial.connect(_resolver.addresses(*address), CONNECT_SECONDS, ()):
            return True
    except (OSError, ValueError, DeadlinePassed):  # refused, not in time, a name that nobody knows yet or that is none
        return False


def _address(url: str) -> Address:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or DEFAULT_PORTS[parts.scheme]

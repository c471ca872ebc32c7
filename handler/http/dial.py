"""How a connection comes about: names are looked up once for all who ask, addresses tried side by side (RFC 8305)."""

import socket
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any, TypeVar

HEAD_START_SECONDS = 0.25  # of an address before the next one is tried too: RFC 8305 section 8

Options = Sequence[tuple[int, int, int | bytes]]
Addresses = Sequence[tuple[Any, ...]]
Attempt = Future[socket.socket]
_Result = TypeVar("_Result")


class Resolver:
    """Looks names up. One look-up runs for each name, however many wait for it: each takes a thread of its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flights: dict[tuple[str, int], Future[Addresses]] = {}

    def addresses(self, host: str, port: int) -> Addresses:
        """What `socket.getaddrinfo` returns, asked now or by whoever began before. Raises OSError, ValueError."""
        with self._lock:
            flight = self._flights.get((host, port))
            if flight is None:
                # Not by the caller, who may give up: the others still wait.
                flight = self._flights[host, port] = _begun(socket.getaddrinfo, host, port, 0, socket.SOCK_STREAM)
                flight.add_done_callback(lambda _: self._flights.pop((host, port)))
        return flight.result()


def connect(addresses: Addresses, seconds: float | None, options: Options) -> socket.socket:
    """A TCP connection to the first address that answers, within `seconds` for each. Raises OSError if none does.

    An address is given a head start, not a veto: one that is dead delays the next by a quarter of a second.
    """
    attempts: list[Attempt] = []
    try:
        for number, address in enumerate(addresses, 1):
            attempts.append(_begun(_connected, address, seconds, options))
            winner = _first(attempts, HEAD_START_SECONDS if number < len(addresses) else None)
            if winner is not None:
                attempts.remove(winner)
                return winner.result()
        raise (attempts[-1].exception() if attempts else None) or socket.gaierror("the name has no address")
    finally:
        for attempt in attempts:
            attempt.add_done_callback(_close)


def _begun(work: Callable[..., _Result], *arguments: Any) -> "Future[_Result]":
    """What comes of `work`, which is under way in a thread of its own."""
    future = Future[_Result]()

    def run() -> None:
        try:
            future.set_result(work(*arguments))
        except Exception as error:  # noqa: BLE001 - it is raised where the result is wanted
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def _first(attempts: Sequence[Attempt], seconds: float | None) -> Attempt | None:
    """The first that succeeds; None when all so far have failed, or nothing has come of them for so many seconds."""
    pending = set(attempts)
    while pending:
        ended, pending = wait(pending, seconds, FIRST_COMPLETED)
        if not ended:
            return None
        winner = next((attempt for attempt in ended if attempt.exception() is None), None)
        if winner is not None:
            return winner
    return None


def _close(attempt: Attempt) -> None:
    """Close a connection that lost to another one, as soon as it is there."""
    if attempt.exception() is None:
        attempt.result().close()


def _connected(address: tuple[Any, ...], seconds: float | None, options: Options) -> socket.socket:
    family, kind, protocol, _, where = address
    connection = socket.socket(family, kind, protocol)
    try:
        for option in options:
            connection.setsockopt(*option)
        connection.settimeout(seconds)
        connection.connect(where)
    except BaseException:
        connection.close()
        raise
    return connection

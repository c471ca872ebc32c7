"""How a connection comes about: names are looked up once for all who ask, addresses tried side by side (RFC 8305)."""

import queue
import socket
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

HEAD_START_SECONDS = 0.25  # of an address before the next one is tried too: RFC 8305 section 8

Options = Sequence[tuple[int, int, int | bytes]]
Addresses = Sequence[tuple[Any, ...]]
Outcome = socket.socket | OSError


class Resolver:
    """Looks names up. One look-up runs for each name, however many wait for it: each takes a thread of its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flights: dict[tuple[str, int], Future[Addresses]] = {}

    def addresses(self, host: str, port: int) -> Addresses:
        """What `socket.getaddrinfo` returns, asked now or by somebody who began before. Raises OSError."""
        with self._lock:
            flight = self._flights.get((host, port))
            if flight is None:
                flight = self._flights[host, port] = Future()
                # Not by the caller, who may give up: the others still wait.
                threading.Thread(target=self._look_up, args=(host, port, flight), daemon=True).start()
        return flight.result()

    def _look_up(self, host: str, port: int, flight: "Future[Addresses]") -> None:
        try:
            flight.set_result(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except UnicodeError:
            flight.set_exception(socket.gaierror("the name is malformed"))
        except Exception as error:  # noqa: BLE001 - it is raised where the addresses are wanted
            flight.set_exception(error)
        finally:
            with self._lock:
                del self._flights[host, port]


def connect(addresses: Addresses, seconds: float | None, options: Options) -> socket.socket:
    """A TCP connection to the first address that answers, within `seconds` for each. Raises OSError if none does.

    An address is given a head start, not a veto: one that is dead delays the next by a quarter of a second.
    """
    attempts = _Attempts(lambda address: _connected(address, seconds, options))
    try:
        for number, address in enumerate(addresses, 1):
            attempts.begin(address)
            winner = attempts.outcome(HEAD_START_SECONDS if number < len(addresses) else None)
            if winner is not None:
                return winner
    finally:
        attempts.end()
    raise attempts.error


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


class _Attempts:
    """Attempts under way, each in a thread of its own."""

    def __init__(self, attempt: Callable[[tuple[Any, ...]], socket.socket]) -> None:
        self.error: OSError = socket.gaierror("the name has no address")
        self._attempt = attempt
        self._outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._pending = 0
        self._ended = False

    def begin(self, address: tuple[Any, ...]) -> None:
        self._pending += 1
        threading.Thread(target=self._run, args=(address,), daemon=True).start()

    def _run(self, address: tuple[Any, ...]) -> None:
        try:
            outcome: Outcome = self._attempt(address)
        except OSError as error:
            outcome = error
        with self._lock:
            if not self._ended:
                self._outcomes.put(outcome)
            elif isinstance(outcome, socket.socket):  # another one was faster
                outcome.close()

    def outcome(self, seconds: float | None) -> socket.socket | None:
        """The connection of the first that succeeds; None when all so far have failed, or the seconds have passed."""
        while self._pending:
            try:
                outcome = self._outcomes.get(timeout=seconds)
            except queue.Empty:
                return None
            self._pending -= 1
            if isinstance(outcome, socket.socket):
                return outcome
            self.error = outcome
        return None

    def end(self) -> None:
        """Close what is, or will be, connected besides the one that was taken."""
        with self._lock:
            self._ended = True
            while not self._outcomes.empty():
                outcome = self._outcomes.get()
                if isinstance(outcome, socket.socket):
                    outcome.close()

"""Asks a service for its health ten times a second, and remembers how long that took."""

import threading
import time
from http.client import HTTPConnection, HTTPException
from typing import Self

_EVERY_SECONDS = 0.1
_TIMEOUT_SECONDS = 10.0


def is_alive(port: int) -> bool:
    """Whether the service on this port answers."""
    connection = HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/health/live")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


class Health:
    """Asks while its block runs. `seen`: when it asked, on the monotonic clock, and how many seconds the answer took.

    Those are infinite where there came none.
    """

    def __init__(self, port: int) -> None:
        self.seen: list[tuple[float, float]] = []
        self._port = port
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._over.wait(_EVERY_SECONDS):
            begun = time.monotonic()
            answered = is_alive(self._port)
            self.seen.append((begun, time.monotonic() - begun if answered else float("inf")))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

"""The page as a part of the stack: in a thread of its own, hearing what all the others do."""

import time
from collections.abc import Sequence
from typing import Any, Self

from handler.local.loop import LoopThread
from handler.local.page.board import Board, Names
from handler.local.page.controls import Controls, Model, Service
from handler.local.page.feed import Feed
from handler.local.page.orders import Publisher
from handler.local.page.reading import log_line_of
from handler.local.page.server import PageServer


class Page:
    """Hears events from the start, in any thread, and shows them once it serves."""

    def __init__(self, names: Names, slots: int | None, model_name: str) -> None:
        """`slots` is how many calls the model gets at once, where that is known; `model_name` fills the form."""
        self._names = names
        self.model_name = model_name
        self._feed = Feed(Board(names, slots, time.monotonic))
        self._loop = LoopThread("page")
        self._server: PageServer | None = None

    def __enter__(self) -> Self:
        self._loop.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        if self._server:
            self._loop.run(self._server.close())
            self._publisher.close()
        self._loop.__exit__()

    def hear(self, event: object) -> None:
        """Something happened to a message."""
        self._loop.soon(self._feed.tell, event)

    def hear_line(self, line: str) -> None:
        """The service has logged something."""
        if said := log_line_of(line):
            self.hear(said)

    def serve(self, ports: Sequence[int], model: Model, service: Service) -> str:
        """Serve on the first of `ports` that is free (0 always is), and return the URL. OSError when none is."""
        self._publisher = Publisher(self._names.requests)
        controls = Controls(model, service, self._publisher, self._feed.ring)
        self._feed.extra = lambda: self._view(controls)
        self._server = PageServer(self._feed, controls)
        return f"http://127.0.0.1:{self._loop.run(self._server.open(ports))}/"

    def _view(self, controls: Controls) -> dict[str, Any]:
        return {"model_name": self.model_name, **controls.view()}

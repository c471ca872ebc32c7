"""Server-sent events: first everything, then what has changed; a browser that comes back goes on where it was.

Nothing is kept for a browser: it is sent what is newer than the version it has, as often as it takes that in.
https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable
from typing import Any

from handler.local.page.board import Board

_TOGETHER_SECONDS = 0.05  # what changes within it is sent together
_QUIET_SECONDS = 15.0  # after so much silence a comment tells a vanished browser from a quiet one


class Feed:
    """The board, and whoever waits for news of it. Used in one event loop."""

    def __init__(self, board: Board) -> None:
        self.extra: Callable[[], dict[str, Any]] = dict
        """What is told along with the board's changes, every time."""
        self._board = board
        self._run = secrets.token_hex(4)  # versions of another run mean nothing here
        self._news = asyncio.Event()
        self._ticks = 0

    def tell(self, event: object) -> None:
        """Something happened to a message."""
        self._board.apply(event)
        self.ring()

    def ring(self) -> None:
        """Something that is told every time has changed."""
        self._ticks += 1
        self._news.set()
        self._news = asyncio.Event()

    async def events(self, last_id: str) -> AsyncIterator[bytes]:
        """Everything that a browser is sent, which had `last_id` last."""
        seen, ticks = self._version(last_id), -1
        yield b"retry: 500\n\n"
        while True:
            if ticks != self._ticks:
                ticks = self._ticks
                changes = {**self._board.changes(seen), **self.extra(), "all": seen == 0}
                seen = self._board.version
                yield f"id: {self._run}-{seen}\ndata: {json.dumps(changes)}\n\n".encode()
                await asyncio.sleep(_TOGETHER_SECONDS)
            elif not await self._heard():
                yield b": still here\n\n"

    def _version(self, last_id: str) -> int:
        run, _, version = last_id.partition("-")
        known = run == self._run and version.isdecimal()
        return min(int(version), self._board.version) if known else 0

    async def _heard(self) -> bool:
        try:
            async with asyncio.timeout(_QUIET_SECONDS):
                return await self._news.wait()
        except TimeoutError:
            return False

"""What is wrong with the model, on request: it never fails by itself when somebody wants to see what happens then."""

import asyncio
from contextlib import suppress
from enum import StrEnum

FAIL_ONCE = b'"fail-once"'
"""A body with `"user": "fail-once"` fails the first time that it comes."""
SLOW_SECONDS = 5.0
FAIL_SECONDS = 0.3  # that a failure takes, so that one sees it happen
_FAILURES = 1000  # bodies that are remembered


class Mode(StrEnum):
    """How the model is."""

    WORKS = "works"
    FAILS = "fails"  # 500 to everything
    BUSY = "busy"  # 503 to everything
    HANGS = "hangs"  # takes calls, and says nothing
    SLOW = "slow"  # takes so much longer
    AWAY = "away"  # takes no connection


class Cut(Exception):
    """The call gets no answer: its connection ends, as when a model is killed."""


class Trouble:
    """The mode in force, and what it does to a call. Used in one event loop."""

    def __init__(self) -> None:
        self.mode = Mode.WORKS
        self._changed = asyncio.Event()
        self._failed: dict[bytes, None] = {}

    def change(self, mode: Mode) -> None:
        """Be like this from now on. What hangs is cut, as if the model had been started anew."""
        self.mode = mode
        self._changed.set()
        self._changed = asyncio.Event()

    async def strike(self, body: bytes) -> int:
        """Delay a call as the mode says; the status that it gets instead of an answer, or 0. Raises Cut."""
        if self._fails_once(body):
            return 500
        if self.mode is Mode.HANGS:
            await self._changed.wait()
            raise Cut
        await self._wait({Mode.SLOW: SLOW_SECONDS, Mode.FAILS: FAIL_SECONDS}.get(self.mode, 0.0))
        return {Mode.FAILS: 500, Mode.BUSY: 503}.get(self.mode, 0)

    async def _wait(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    def _fails_once(self, body: bytes) -> bool:
        if FAIL_ONCE not in body or body in self._failed:
            return False
        self._failed[body] = None
        if len(self._failed) > _FAILURES:
            del self._failed[next(iter(self._failed))]
        return True

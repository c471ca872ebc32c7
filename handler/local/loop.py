"""An event loop in a thread of its own, for parts that are asynchronous in a program that is not."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, Self, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class LoopThread:
    """Runs what it is given, one thing at a time; what is left is cancelled at the end."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.run(_cancel_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, R]) -> R:
        """Wait for a coroutine, in any other thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def soon(self, call: Callable[P, object], *arguments: P.args, **named: P.kwargs) -> None:
        """Have `call` called in the loop, in the order in which this is asked; safe in any thread."""
        self._loop.call_soon_threadsafe(lambda: call(*arguments, **named))


async def _cancel_all() -> None:
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)

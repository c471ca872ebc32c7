"""What the processes around the service have in common: how the bench talks to them.

Such a process prints one line of JSON when it is ready, does its work until its standard input ends, and then prints
what it saw, as JSON. So it never outlives the bench, and nothing is written while it is measured.
"""

import asyncio
import gc
import json
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop


def run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run `work` in an event loop, without pauses for collecting garbage: there is little, and no time."""
    gc.disable()
    uvloop.run(work())


def say(record: Any) -> None:
    """Print one line for the bench."""
    print(json.dumps(record, separators=(",", ":")), flush=True)


async def told() -> str:
    """Wait for a line from the bench; it is empty at the end of the input."""
    return await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)

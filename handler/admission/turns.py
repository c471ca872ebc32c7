"""Large documents are read one at a time, and everybody else gets a turn in between.

Nothing else happens in the process while a text is parsed: tens of milliseconds for one of ten megabytes. Many at once
must not become a second in which no health check is answered.
"""

import threading
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

LARGE_BYTES = 1 << 20

_lock = threading.Lock()
_Arguments = ParamSpec("_Arguments")
_Value = TypeVar("_Value")


def in_turn(
    size: int, read: Callable[_Arguments, _Value], *args: _Arguments.args, **options: _Arguments.kwargs
) -> _Value:
    """What `read` returns, of a document of so many bytes."""
    if size < LARGE_BYTES:
        return read(*args, **options)
    with _lock:
        time.sleep(0)
        return read(*args, **options)

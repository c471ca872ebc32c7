"""What only cycles of references hold."""

import gc
from contextlib import contextmanager


@contextmanager
def uncollected():
    """A block in which nobody looks for cycles: what is gone in it was freed by its last reference."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()

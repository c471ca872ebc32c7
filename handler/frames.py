"""What an error still holds when it has been understood."""

import traceback
from collections.abc import Iterator


def let_go(error: BaseException) -> None:
    """Empty the frames that an error, and those behind it, came through; they must be done with.

    They hold what was being sent, and often the error again: such a cycle of references keeps megabytes until the
    garbage collector looks for it, and while nothing can be sent there are thousands.
    """
    for one in tuple(_behind(error)):
        traceback.clear_frames(one.__traceback__)
        one.__traceback__ = None


def _behind(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__

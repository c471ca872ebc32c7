"""What an error still holds when it has been understood."""

import traceback
from collections.abc import Iterator


def let_go(error: BaseException) -> None:
    """Forget what an error, and the errors before it, came through."""
    empty(error)
    for one in _with_those_before(error):
        if one is error or not _is_on_its_way(one):
            one.__traceback__ = None


def empty(error: BaseException) -> None:
    """Empty the frames that an error, and the errors before it, came through; those that still run are left alone.

    They hold what was being sent, and often the error again: such a cycle of references keeps megabytes until the
    garbage collector looks for it, and while nothing can be sent there are thousands. The lines for a log stay. A
    generator that had caught the error and waits to go on would be closed, before Python 3.13.
    """
    for one in _with_those_before(error):
        traceback.clear_frames(one.__traceback__)


def _is_on_its_way(error: BaseException) -> bool:
    """Whether a caller handles it meanwhile, and may log it: then the frame that it has reached still runs."""
    if error.__traceback__ is None:
        return False
    try:
        error.__traceback__.tb_frame.clear()
    except RuntimeError:
        return True
    return False


def _with_those_before(error: BaseException) -> Iterator[BaseException]:
    left, seen = [error], set[int]()
    while left:
        one = left.pop()
        if id(one) not in seen:
            seen.add(id(one))
            left += [before for before in (one.__cause__, one.__context__) if before is not None]
            yield one

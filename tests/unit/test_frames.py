"""What an error holds when it has been understood."""

import traceback
import weakref

import pytest

from handler.frames import empty, let_go


class Body:
    """Something large."""


def fails(found):
    """Fail, with a body at hand, after another error."""
    body = Body()
    found.append(weakref.ref(body))
    try:
        int("x")
    except ValueError as first:
        raise OSError from first


def names(error):
    """The functions that an error's traceback names."""
    return [frame.name for frame in traceback.extract_tb(error.__traceback__)]


@pytest.mark.parametrize("forget", [empty, let_go])
def test_what_was_at_hand_is_gone(forget):
    """While the error is still there."""
    found = []
    with pytest.raises(OSError) as caught:  # noqa: PT011 - it has no words
        fails(found)
    error = caught.value
    assert found[0]() is not None
    forget(error)
    assert found[0]() is None
    assert names(error)[-1:] == (["fails"] if forget is empty else [])


def test_the_error_of_a_caller_keeps_its_lines():
    """What fails while a bug is on its way comes after it; where the bug came from is still to be logged."""
    try:
        [][1]
    except IndexError as bug:
        try:
            fails([])
        except OSError as error:
            let_go(error)
            assert error.__cause__.__context__ is bug
            assert error.__cause__.__traceback__ is None
        assert names(bug) == ["test_the_error_of_a_caller_keeps_its_lines"]


def test_errors_in_a_circle():
    """Each may be the cause of what the other came after."""
    one, other = OSError(), ValueError()
    one.__cause__, other.__context__ = other, one
    let_go(one)

"""Deadlines by themselves."""

import time
import weakref

import pytest

from handler.greenlets import Deadline, DeadlinePassed
from tests.parts.garbage import uncollected


class Body:
    """Something large."""


def too_long(found):
    """Work with something large, which a deadline ends."""
    body = Body()
    found.append(weakref.ref(body))
    with Deadline(0.01):
        time.sleep(1)


def test_a_deadline_that_has_passed_holds_nothing():
    """What was broken off may have held megabytes."""
    found = []
    with uncollected():
        with pytest.raises(DeadlinePassed) as raised:
            too_long(found)
        del raised
        assert found[0]() is None

"""Copies of a message join the one that is worked on."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from handler.admission import Refused
from handler.admission.copies import Copies
from handler.rules.verdict.outcome import Reason, Verdict
from tests.parts.processes import until

ANSWERED = Verdict(Reason.ANSWERED)


class Work:
    """Work that goes on until the test lets it end."""

    def __init__(self, verdict=ANSWERED):
        self.begun, self.go_on, self.verdict, self.times = threading.Event(), threading.Event(), verdict, 0

    def __call__(self):
        self.times += 1
        self.begun.set()
        assert self.go_on.wait(10)
        if isinstance(self.verdict, Exception):
            raise self.verdict
        return self.verdict


@pytest.fixture
def threads():
    """Threads to work in."""
    with ThreadPoolExecutor(20) as pool:
        yield pool


def soon(seconds=10.0):
    """A time from now on."""
    return time.monotonic() + seconds


def waiting(joining, key):
    """Wait until a copy of the message waits, and return what it waits for."""
    until(lambda: joining._waiters[key] is not None)
    return joining._waiters[key]


@pytest.mark.parametrize(
    ("verdict", "told"),
    [
        (ANSWERED, Verdict(Reason.ALREADY_ANSWERED, detail="joined")),
        (Verdict(Reason.MODEL_FAILED, detail="status 500"), Verdict(Reason.MODEL_FAILED, detail="joined: status 500")),
        (ZeroDivisionError(), Verdict(Reason.IN_PROGRESS, detail="the copy that was joined failed")),
    ],
    ids=["answered", "failed", "broken off"],
)
def test_a_copy_joins(threads, verdict, told):
    """A copy of a message that is worked on gets its verdict, and no work of its own."""
    joining, work = Copies(1), Work(verdict)
    first = threads.submit(joining.answer, "a", soon(), work)
    assert work.begun.wait(10)
    copy = threads.submit(joining.answer, "a", soon(), work)
    waiting(joining, "a")
    work.go_on.set()
    assert copy.result(10) == told
    assert first.exception(10) is verdict or first.result() is verdict
    assert work.times == 1


def test_a_newer_copy_releases_the_older(threads):
    """Pub/Sub has given up on the older push; only the newest one is waited for."""
    joining, work = Copies(2), Work()
    threads.submit(joining.answer, "a", soon(), work)
    assert work.begun.wait(10)
    older = threads.submit(joining.answer, "a", soon(), work)
    waiting(joining, "a")
    newer = threads.submit(joining.answer, "a", soon(), work)
    assert older.result(10).reason is Reason.IN_PROGRESS
    work.go_on.set()
    assert newer.result(10).reason is Reason.ALREADY_ANSWERED


def test_a_copy_waits_no_longer_than_its_own_push(threads):
    """It is given back at the end of its time, and the work goes on."""
    joining, work = Copies(1), Work()
    first = threads.submit(joining.answer, "a", soon(), work)
    assert work.begun.wait(10)
    assert joining.answer("a", time.monotonic() - 1, work) == Verdict(Reason.IN_PROGRESS, detail="waited to the end")
    work.go_on.set()
    assert first.result(10) is ANSWERED


def test_room_for_copies_has_an_end(threads):
    """More copies than may wait are refused, like messages."""
    joining, work = Copies(1), Work()
    for key in "ab":
        threads.submit(joining.answer, key, soon(), work)
    until(lambda: work.times == 2)
    copy = threads.submit(joining.answer, "a", soon(), work)
    waiting(joining, "a")
    with pytest.raises(Refused):
        joining.answer("b", soon(), work)
    work.go_on.set()
    assert copy.result(10).status == 204


def test_ten_copies_at_once(threads):
    """One is worked on, one waits, the others are given back: the work is done once."""
    joining, work = Copies(10), Work()
    copies = [threads.submit(joining.answer, "a", soon(), work) for _ in range(10)]
    until(lambda: sum(copy.done() for copy in copies) == 8)
    work.go_on.set()
    verdicts = [copy.result(10).reason for copy in copies]
    assert work.times == 1
    assert verdicts.count(Reason.ANSWERED) == 1
    assert verdicts.count(Reason.IN_PROGRESS) == 8

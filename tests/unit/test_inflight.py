"""Room, copies that join, and the end of taking more."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from handler.inflight import Inflight, Refused
from handler.outcome import Reason, Verdict

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


def waiting(inflight, key):
    """Wait until a copy of the message waits, and return what it waits for."""
    deadline = soon()
    while inflight._works[key].waiter is None:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    return inflight._works[key].waiter


def test_one_after_the_other():
    """A place is free again when its message is done, however it ended."""
    inflight = Inflight(1, 1)
    with pytest.raises(ZeroDivisionError):
        inflight.answer("a", soon(), lambda: 1 // 0)
    for _ in range(3):
        assert inflight.answer("a", soon(), lambda: ANSWERED) is ANSWERED


def test_no_more_than_there_is_room_for(threads):
    """Other messages are refused at once, and taken when there is room again."""
    inflight, work = Inflight(2, 1), Work()
    first = [threads.submit(inflight.answer, key, soon(), work) for key in "ab"]
    assert work.begun.wait(10)
    while work.times < 2:
        time.sleep(0.001)
    with pytest.raises(Refused) as refused:
        inflight.answer("c", soon(), work)
    assert refused.value.reason is Reason.BUSY
    work.go_on.set()
    assert [one.result(10) for one in first] == [ANSWERED, ANSWERED]
    assert inflight.answer("c", soon(), lambda: ANSWERED) is ANSWERED


@pytest.mark.parametrize(
    ("verdict", "told"),
    [
        (ANSWERED, Verdict(Reason.ALREADY_ANSWERED, detail="joined")),
        (Verdict(Reason.MODEL_FAILED, detail="status 500"), Verdict(Reason.MODEL_FAILED, detail="joined: status 500")),
        (ZeroDivisionError(), Verdict(Reason.IN_PROGRESS, detail="the copy that was joined failed")),
    ],
)
def test_a_copy_joins(threads, verdict, told):
    """A copy of a message that is worked on gets its verdict, and no work of its own."""
    inflight, work = Inflight(1, 1), Work(verdict)
    first = threads.submit(inflight.answer, "a", soon(), work)
    assert work.begun.wait(10)
    copy = threads.submit(inflight.answer, "a", soon(), work)
    waiting(inflight, "a")
    work.go_on.set()
    assert copy.result(10) == told
    assert first.exception(10) is verdict or first.result() is verdict
    assert work.times == 1


def test_a_newer_copy_releases_the_older(threads):
    """Pub/Sub has given up on the older push; only the newest one is waited for."""
    inflight, work = Inflight(1, 2), Work()
    threads.submit(inflight.answer, "a", soon(), work)
    assert work.begun.wait(10)
    older = threads.submit(inflight.answer, "a", soon(), work)
    waiting(inflight, "a")
    newer = threads.submit(inflight.answer, "a", soon(), work)
    assert older.result(10).reason is Reason.IN_PROGRESS
    work.go_on.set()
    assert newer.result(10).reason is Reason.ALREADY_ANSWERED


def test_a_copy_waits_no_longer_than_its_own_push(threads):
    """It is given back at the end of its time, and the work goes on."""
    inflight, work = Inflight(1, 1), Work()
    first = threads.submit(inflight.answer, "a", soon(), work)
    assert work.begun.wait(10)
    assert inflight.answer("a", time.monotonic() - 1, work) == Verdict(Reason.IN_PROGRESS, detail="waited to the end")
    work.go_on.set()
    assert first.result(10) is ANSWERED


def test_room_for_copies_has_an_end(threads):
    """More copies than there are threads for are refused like messages."""
    inflight, work = Inflight(2, 1), Work()
    for key in "ab":
        threads.submit(inflight.answer, key, soon(), work)
    while work.times < 2:
        time.sleep(0.001)
    copy = threads.submit(inflight.answer, "a", soon(), work)
    waiting(inflight, "a")
    with pytest.raises(Refused):
        inflight.answer("b", soon(), work)
    work.go_on.set()
    assert copy.result(10).status == 204


def test_ten_copies_at_once(threads):
    """One is worked on, one waits, the others are given back: the work is done once."""
    inflight, work = Inflight(10, 10), Work()
    copies = [threads.submit(inflight.answer, "a", soon(), work) for _ in range(10)]
    released = [copy for copy in copies if copy.done() or _released(copy)]
    work.go_on.set()
    verdicts = [copy.result(10).reason for copy in copies]
    assert work.times == 1
    assert verdicts.count(Reason.ANSWERED) == 1
    assert verdicts.count(Reason.IN_PROGRESS) == 8
    assert len(released) == 8


def _released(copy):
    try:
        return copy.result(0.5).reason is Reason.IN_PROGRESS
    except TimeoutError:
        return False


def test_draining():
    """Nothing new is taken, and who sleeps wakes up."""
    inflight = Inflight(1, 1)
    assert not inflight.wait_for_drain(0)
    inflight.drain()
    assert inflight.draining
    assert inflight.wait_for_drain(1000)
    with pytest.raises(Refused) as refused:
        inflight.answer("a", soon(), lambda: ANSWERED)
    assert refused.value.reason is Reason.DRAINING

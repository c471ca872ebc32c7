"""Waiting for what happens on the loop: from greenlets, and from any thread."""

import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import greenlet
import pytest

from handler import eventloop
from handler.eventloop import Signal


def in_greenlet(work):
    """What `work` returns, or raises, in a greenlet of the loop's."""
    result = Future()

    def run():
        try:
            result.set_result(work())
        except Exception as error:  # noqa: BLE001
            result.set_exception(error)

    loop = eventloop.get()
    loop.call(loop.spawn, run)
    return result


def here(work):
    """The same in the thread that calls."""
    result = Future()
    result.set_result(work())
    return result


def later(seconds, value, done):
    """Report a value after some time; what `wait` is given."""
    eventloop.get().asyncio.call_later(seconds, done, value)


@pytest.mark.parametrize("run", [here, in_greenlet])
@pytest.mark.parametrize("begin", [partial(later, 0.01, 7), lambda done: done(7)], ids=["later", "at once"])
def test_wait(run, begin):
    """The value that is reported is returned, whether it is reported later or before anybody waits."""
    assert run(lambda: eventloop.get().wait(begin)).result(10) == 7


@pytest.mark.parametrize("run", [here, in_greenlet])
def test_what_cannot_begin(run):
    """Its error comes out where it was waited for."""
    with pytest.raises(ZeroDivisionError):
        run(lambda: eventloop.get().wait(lambda done: 1 // 0)).result(10)


def test_what_begins_and_reports_does_so_in_the_loops_thread():
    """What only that thread touches needs no lock."""
    threads = []
    eventloop.get().wait(lambda done: (threads.append(threading.current_thread().name), done(None)))
    assert threads == ["event-loop"]


def test_greenlets_wait_side_by_side():
    """While one waits the others go on: a hundred waits of 0.1 s need one thread."""
    threads = set()

    def work():
        threads.add(threading.get_ident())
        return eventloop.get().wait(partial(later, 0.1, 1))

    assert sum(one.result(10) for one in [in_greenlet(work) for _ in range(100)]) == 100
    assert len(threads) == 1


def test_greenlets_are_used_again():
    """Making one costs as much as a small message."""
    before = in_greenlet(lambda: id(greenlet.getcurrent())).result(10)
    assert in_greenlet(lambda: id(greenlet.getcurrent())).result(10) == before


def test_no_more_greenlets_are_kept_than_rest():
    """After a rush most of them go."""

    def work():
        return eventloop.get().wait(partial(later, 0.05, None))

    for one in [in_greenlet(work) for _ in range(300)]:
        one.result(10)
    assert len(eventloop.get()._resting) <= 100


def test_the_loop_itself_cannot_wait():
    """It would wait for itself; it is said instead."""
    result = Future()

    def callback():
        with pytest.raises(RuntimeError, match="spawn a greenlet"):
            eventloop.get().wait(lambda done: done(None))
        result.set_result(None)

    eventloop.get().call(callback)
    result.result(10)


def test_a_greenlet_that_fails(caplog):
    """Its error is logged, and the loop goes on."""
    loop = eventloop.get()
    loop.call(loop.spawn, lambda: 1 // 0)
    assert in_greenlet(lambda: 7).result(10) == 7
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("run", [here, in_greenlet])
def test_blocking(run):
    """What blocks returns its value, and does so in another thread than the loop's."""
    assert run(lambda: eventloop.get().blocking(threading.current_thread)).result(10).name != "event-loop"


def test_blocking_holds_nobody_up():
    """Twenty that wait for each other get on: each has a thread, and the loop goes on meanwhile."""
    barrier = threading.Barrier(20, timeout=10)
    waiting = [in_greenlet(lambda: eventloop.get().blocking(barrier.wait)) for _ in range(20)]
    assert sorted(one.result(10) for one in waiting) == list(range(20))


@pytest.mark.parametrize("run", [in_greenlet])
def test_blocking_raises(run):
    """What it raises comes out where it was called."""
    with pytest.raises(ZeroDivisionError):
        run(lambda: eventloop.get().blocking(lambda: 1 // 0)).result(10)


@pytest.mark.parametrize("run", [here, in_greenlet])
class TestSignal:
    """A value that comes once, or never."""

    def test_set_before(self, run):
        """Who comes later has it at once."""
        signal = Signal()
        signal.set(7)
        assert run(lambda: signal.wait(10)).result(10) == 7

    def test_set_while_waiting(self, run):
        """Everybody who waits gets it."""
        signal = Signal()
        with ThreadPoolExecutor(3) as threads:
            waiting = [threads.submit(lambda: run(lambda: signal.wait(10)).result(10)) for _ in range(3)]
            signal.set(7)
            assert [one.result(10) for one in waiting] == [7, 7, 7]

    @pytest.mark.parametrize("seconds", [-1, 0, 0.01])
    def test_never_set(self, run, seconds):
        """Waiting ends with the time, and nobody is kept who does not wait any more."""
        signal = Signal()
        assert run(lambda: signal.wait(seconds)).result(10) is None
        assert not signal._waiting


FORK = """
import os
from handler import eventloop
eventloop.get().wait(lambda done: done(1))
child = os.fork()
if not child:
    eventloop.get().wait(lambda done: done(1))
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_process_that_was_forked_makes_a_loop_of_its_own():
    """Its parent's thread did not come along."""
    output = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK], capture_output=True, text=True, timeout=60
    )
    assert output.stdout == "7\n", output.stderr

"""What is fetched and held in memory is bounded."""

import threading

import pytest

from handler.admission import Refused
from handler.rules.verdict.outcome import Reason
from handler.storage.semaphore import ByteSemaphore
from tests.parts.processes import until


def test_bodies_wait_for_room():
    """One after the other where there is no room for both; one that is too large for all of it is held alone."""
    room, seen = ByteSemaphore(10), []
    begun, end = threading.Event(), threading.Event()

    def hold():
        with room.taken(6, 10.0):
            begun.set()
            end.wait(10)
            seen.append("first")

    holder = threading.Thread(target=hold)
    holder.start()
    begun.wait(10)
    with room.taken(4, 10.0):
        pass
    with pytest.raises(Refused) as refused, room.taken(5, 0.01):
        pytest.fail("there was room")
    assert refused.value.reason is Reason.BUSY
    end.set()
    with room.taken(100, 10.0):
        seen.append("second")
    holder.join()
    assert seen == ["first", "second"]


def test_a_large_body_has_its_turn():
    """Small ones that come after it do not keep the room taken; when it has given up they go on."""
    room, entered, end = ByteSemaphore(10), threading.Event(), threading.Event()

    def hold():
        with room.taken(8, 10.0):
            entered.set()
            end.wait(10)

    with room.taken(6, 1.0):
        with pytest.raises(Refused), room.taken(5, 0.0):
            pytest.fail("there was room")
        large = threading.Thread(target=hold)
        large.start()
        until(lambda: room._turns)
        with pytest.raises(Refused) as refused, room.taken(4, 0.0):
            pytest.fail("it went ahead")
        assert refused.value.reason is Reason.BUSY
    assert entered.wait(10)
    end.set()
    large.join()
    with room.taken(10, 1.0):
        pass
    assert not room._turns


def test_who_waits_behind_one_that_gives_up_goes_on():
    """At once: it does not sleep beside room that is free."""
    room, entered = ByteSemaphore(10), threading.Event()

    def large():
        with pytest.raises(Refused), room.taken(8, 0.3):
            pytest.fail("there was room")

    def small():
        with room.taken(4, 600.0):
            entered.set()

    with room.taken(6, 1.0):
        threads = [threading.Thread(target=large), threading.Thread(target=small)]
        for number, one in enumerate(threads, 1):
            one.start()
            until(lambda number=number: len(room._turns) == number)
        assert entered.wait(10)
    for one in threads:
        one.join()


def test_there_is_room_again_after_a_failure():
    """Whatever happens to those who had it."""
    room = ByteSemaphore(10)
    with pytest.raises(ZeroDivisionError), room.taken(10, 1.0):
        raise ZeroDivisionError
    with room.taken(10, 1.0):
        pass


def test_nobody_waits_for_room_when_the_process_ends():
    """Who waits is sent away, and so is who comes; who holds something keeps it."""
    room, reasons = ByteSemaphore(10), []

    def wait():
        with pytest.raises(Refused) as refused, room.taken(10, 60.0):
            pytest.fail("there was room")
        reasons.append(refused.value.reason)

    with room.taken(10, 1.0):
        waiter = threading.Thread(target=wait)
        waiter.start()
        room.drain()
        waiter.join()
        wait()
    assert reasons == [Reason.DRAINING] * 2

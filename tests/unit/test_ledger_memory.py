"""The ledger in memory: for how long and how much it remembers."""

import pytest

from handler.ledger import Claim, State
from handler.ledger.memory import MemoryLedger


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def kept(ledger, *keys):
    return [ledger.claim(key, "owner").kept for key in keys]


def test_an_answer_is_remembered_for_its_time(clock):
    """A while after ANSWERED_TTL_SECONDS, and not before, a message is new again."""
    ledger = MemoryLedger(60, clock=clock)
    ledger.answered("a", "owner")
    clock.now = 60
    assert ledger.claim("a", "owner").state is State.ANSWERED
    clock.now = 60 + 60 / 7 + 0.01
    assert ledger.claim("a", "owner") == Claim(State.MINE)


def test_the_oldest_answers_make_room(clock):
    """So many answers are remembered and no more, and the latest seven eighths of them always."""
    ledger = MemoryLedger(60, max_answered=16, clock=clock)
    keys = [str(number) for number in range(100)]
    for key in keys:
        ledger.answered(key, "owner")
    remembered = [key for key in keys if ledger.claim(key, "owner").state is State.ANSWERED]
    assert remembered == keys[-16:]


def test_an_hour_at_a_thousand_a_minute_is_remembered(clock):
    """As many as an hour brings are remembered for the hour."""
    ledger = MemoryLedger(3600, clock=clock)
    for number in range(60_000):
        clock.now = number * 0.06
        ledger.answered(str(number), "owner")
    assert all(ledger.claim(str(number), "owner").state is State.ANSWERED for number in range(0, 60_000, 1000))


def test_the_oldest_responses_make_room():
    """What is kept has so many bytes in all at most."""
    ledger = MemoryLedger(60, max_kept_bytes=10)
    for key, size in (("a", 4), ("b", 4), ("c", 2), ("d", 3)):
        ledger.keep(key, "owner", key.encode() * size)
    assert kept(ledger, "a", "b", "c", "d") == [None, b"bbbb", b"cc", b"ddd"]


def test_a_response_that_never_fits_pushes_nothing_out():
    """A response beyond the room is not kept, and what was kept of the message before is gone: it is outdated."""
    ledger = MemoryLedger(60, max_kept_bytes=10)
    ledger.keep("a", "owner", b"1")
    ledger.keep("b", "owner", b"2")
    ledger.keep("b", "owner", b"3" * 11)
    assert kept(ledger, "a", "b") == [b"1", None]


def test_a_replaced_or_answered_response_gives_its_room_back():
    """The room is counted right after any number of changes."""
    ledger = MemoryLedger(60, max_kept_bytes=10)
    for _ in range(5):
        ledger.keep("a", "owner", b"1" * 6)
        ledger.keep("b", "owner", b"2" * 4)
        ledger.answered("c", "owner")
    assert kept(ledger, "a", "b") == [b"1" * 6, b"2" * 4]
    ledger.answered("a", "owner")
    ledger.keep("d", "owner", b"3" * 6)
    assert kept(ledger, "b", "d") == [b"2" * 4, b"3" * 6]


def test_a_response_is_kept_for_its_time(clock):
    """Nobody asks for what is older than a message can be; it is let go with the next that comes."""
    ledger = MemoryLedger(60, 100, max_kept_bytes=10, clock=clock)
    ledger.keep("a", "owner", b"1")
    clock.now = 99.9
    assert kept(ledger, "a") == [b"1"]
    clock.now = 100
    assert kept(ledger, "a") == [None]
    ledger.keep("b", "owner", b"2" * 9)
    ledger.keep("c", "owner", b"3")
    assert kept(ledger, "b", "c") == [b"2" * 9, b"3"]


def test_what_came_to_nothing_is_counted(clock):
    """Failures of the model and other deliveries without an answer, each for itself, until the message is answered."""
    ledger = MemoryLedger(60, clock=clock)
    for _ in range(2):
        ledger.claim("a", "owner")
        ledger.release("a", "owner", failed=True, detail="status 503")
    ledger.claim("a", "owner")
    ledger.release("a", "owner", failed=False)
    for _ in range(3):
        ledger.no_attempt("a")
    assert ledger.claim("a", "owner") == Claim(State.MINE, failed_here=2, before="status 503", no_attempts=3)
    assert ledger.claim("b", "owner") == Claim(State.MINE)  # how it went is known with the count, or not at all
    ledger.answered("a", "owner")
    clock.now = 1000
    assert ledger.claim("a", "owner") == Claim(State.MINE)


def test_failures_are_not_counted_for_all_instances():
    """None, rather than a count that other instances have no part in."""
    ledger = MemoryLedger(60)
    ledger.claim("a", "owner")
    ledger.release("a", "owner", failed=True)
    assert ledger.claim("a", "owner").failures is None
    assert ledger.troubles == 0

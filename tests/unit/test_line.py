"""The line in front of the model: who goes next, who waits, who is sent away, and when."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from handler.admission import Refused
from handler.admission.limit import AdaptiveLimit, FixedLimit
from handler.admission.line import HEAD_START_SECONDS, REDELIVERY_SECONDS, Line, Room, Wish
from handler.rules.message.options import Priority
from handler.rules.verdict.outcome import Reason
from tests.parts.processes import until

LONG = 1e9


class Clock:
    """Time that the test moves on."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def threads():
    with ThreadPoolExecutor(100) as pool:
        yield pool


def wish(arrived=0.0, ends=LONG, **fields):
    return Wish(**{"model": "m", "arrived": arrived, "until": ends} | fields)


def taught(line, seconds, model="m", calls=20):
    """A line that has seen calls of so many seconds."""
    for _ in range(calls):
        line._estimates.add(model, seconds)
    return line


class Crowd:
    """Waits in a line, in threads; notes who got a slot, in order, and who was sent away."""

    def __init__(self, line, threads):
        self.line, self.threads, self.order = line, threads, []
        self._lock = threading.Lock()

    def join(self, name, one):
        before = self.line.length
        future = self.threads.submit(self._wait, name, one)
        until(lambda: future.done() or self.line.length > before)
        return future

    def _wait(self, name, one):
        slot = self.line.take(one)
        with self._lock:
            self.order.append(name)
        return slot


def drained(crowd, first, futures):
    """The names in the order in which they got the one slot."""
    first.__exit__()
    for number in range(len(futures)):
        until(lambda number=number: len(crowd.order) > number)
        futures[crowd.order[number]].result(10).__exit__()
    return crowd.order


def test_first_come_first_served(threads):
    """Within a priority."""
    line = Line(FixedLimit(1))
    crowd, first = Crowd(line, threads), line.take(wish())
    futures = {number: crowd.join(number, wish(arrived=number)) for number in range(10)}
    assert drained(crowd, first, futures) == list(range(10))


def test_priorities(threads):
    """High goes ahead of normal, normal ahead of low; each in its own order."""
    line = Line(FixedLimit(1))
    crowd, first = Crowd(line, threads), line.take(wish())
    names = [(priority, number) for number in range(3) for priority in (Priority.LOW, Priority.NORMAL, Priority.HIGH)]
    futures = {name: crowd.join(name, wish(arrived=float(at), priority=name[0])) for at, name in enumerate(names)}
    expected = [
        (priority, number) for priority in (Priority.HIGH, Priority.NORMAL, Priority.LOW) for number in range(3)
    ]
    assert drained(crowd, first, futures) == expected


def test_nothing_starves(threads):
    """What has waited long enough goes ahead of whatever comes now."""
    line = Line(FixedLimit(1))
    crowd, first = Crowd(line, threads), line.take(wish())
    later = HEAD_START_SECONDS[Priority.HIGH] - HEAD_START_SECONDS[Priority.LOW] + 1
    futures = {
        "high": crowd.join("high", wish(arrived=later, priority=Priority.HIGH)),
        "low": crowd.join("low", wish(arrived=0, priority=Priority.LOW)),
    }
    assert drained(crowd, first, futures) == ["low", "high"]


def test_a_redelivery_goes_ahead(threads):
    """It has waited before."""
    line = Line(FixedLimit(1))
    crowd, first = Crowd(line, threads), line.take(wish())
    futures = {
        "new": crowd.join("new", wish(arrived=0)),
        "again": crowd.join("again", wish(arrived=10, is_redelivery=True)),
    }
    assert drained(crowd, first, futures) == ["again", "new"]


def test_no_more_calls_than_slots(threads):
    """However many want one."""
    line, lock = Line(FixedLimit(3)), threading.Lock()
    calling, most = 0, 0

    def call(number):
        nonlocal calling, most
        with line.take(wish(arrived=number)):
            with lock:
                calling += 1
                most = max(most, calling)
            time.sleep(0.002)
            with lock:
                calling -= 1

    list(threads.map(call, range(60)))
    assert (most, line.length) == (3, 0)


def test_a_slot_is_passed_on_before_the_answer_is_published(threads):
    """The model waits for nobody's publishing, as long as no more answers wait than there are slots."""
    line = Line(FixedLimit(1))
    first = line.take(wish())
    first.pass_on()
    second = line.take(wish())
    second.pass_on()  # one is being published already: this one keeps its slot
    third = threads.submit(line.take, wish())
    until(lambda: line.length == 1)
    second.__exit__()
    third.result(10).__exit__()
    first.__exit__()
    with line.take(wish()):
        pass


# --- nobody waits in vain


def test_who_could_not_be_answered_in_time_is_refused_at_once(threads):
    """By the place in the line, the slots, and how long calls take."""
    clock = Clock()
    line = taught(Line(FixedLimit(2), clock), 10.0)
    held = [line.take(wish()) for _ in range(2)]
    for number in range(10):  # they get a slot in 5, 10, ... 50 s
        threads.submit(line.take, wish(ends=clock.now + 100))
        until(lambda number=number: line.length == number + 1)
    with pytest.raises(Refused) as refused:
        line.take(wish(arrived=1, ends=clock.now + 64))  # in 55 s, for 10 s
    assert (refused.value.reason, refused.value.detail) == (Reason.BUSY, "a slot is expected 1 s too late")
    joined = threads.submit(line.take, wish(arrived=1, ends=clock.now + 66))
    until(lambda: line.length == 11)
    line.drain()
    assert isinstance(joined.exception(10), Refused)
    assert len(held) == 2


def test_before_anything_is_known_everybody_may_wait(threads):
    """A refusal is dearer than waiting in vain."""
    line = Line(FixedLimit(1), Clock())
    line.take(wish())
    for number in range(50):
        threads.submit(line.take, wish(ends=1000.0 + 20))
        until(lambda number=number: line.length == number + 1)
    line.drain()


def woken(line, clock, seconds):
    """Move time on, and let everybody in the line look whether it is worth waiting."""
    clock.now += seconds
    (stream,) = line._streams.values()
    for waiter in list(stream.waiting):
        with line._lock:
            if waiter in stream.waiting and line._gives_up(waiter):
                line._remove(stream, stream.place(waiter.key))
                waiter.changed.set()


def test_when_the_estimate_was_wrong_they_leave_in_time(threads):
    """Who will get no slot any more leaves a minute and a half before it is too late, while the others wait on."""
    clock = Clock()
    line = Line(FixedLimit(1), clock)
    line.take(wish())
    futures = []
    for number in range(10):
        futures.append(threads.submit(line.take, wish(arrived=number, ends=clock.now + 500)))
        until(lambda number=number: line.length == number + 1)
    taught(line, 50.0)  # so the last of them would have to begin 450 s from now, and would get a slot in 500 s
    woken(line, clock, 300.0)
    assert line.length == 10
    woken(line, clock, 450.0 - REDELIVERY_SECONDS - 300.0)  # 90 s are left: for the first, and no other
    assert line.length == 1
    assert [future.exception(10).reason for future in futures[1:]] == [Reason.OVERDUE] * 9
    line.drain()


def test_the_model_is_not_called_for_who_is_given_up_on(threads):
    """A slot that is free too late for the first goes to the next."""
    clock = Clock()
    line = Line(FixedLimit(1), clock)
    first = line.take(wish())
    late = threads.submit(line.take, wish(arrived=0, ends=clock.now + 50))
    until(lambda: line.length == 1)
    early = threads.submit(line.take, wish(arrived=1, ends=clock.now + 500))
    until(lambda: line.length == 2)
    clock.now += 60
    first.__exit__()
    assert late.exception(10).reason is Reason.OVERDUE
    early.result(10).__exit__()


def test_too_little_time_for_a_call_is_no_call():
    """Even with a free slot: the answer would come too late, and be paid for again."""
    clock = Clock()
    line = taught(Line(FixedLimit(1), clock), 20.0)
    with pytest.raises(Refused) as refused:
        line.take(wish(ends=clock.now + 10))
    assert refused.value.reason is Reason.OVERDUE
    with line.take(wish(ends=clock.now + 30)):
        pass


def test_a_requests_own_deadline_ends_its_waiting():
    """On the real clock: it is told at that time, and answered."""
    line = Line(FixedLimit(1))
    with line.take(wish()):
        assert line.take(wish(expires=time.monotonic() + 0.1)) is None
    assert line.length == 0


# --- the model's own word


def test_retry_after_closes_the_slots(threads):
    """For as long as the model asks, while the line holds; then it goes on by itself."""
    line = Line(FixedLimit(2))
    with line.take(wish()) as slot:
        told = time.monotonic()
        slot.called(told, succeeded=False, overloaded=True, retry_after=0.2)
        with line.take(wish()):
            assert time.monotonic() - told >= 0.2


def test_only_answers_teach():
    """A refusal is quick, and says nothing of how long calls take."""
    line = Line(FixedLimit(1))
    for _ in range(20):
        with line.take(wish()) as slot:
            slot.called(time.monotonic() - 5, succeeded=False, overloaded=True)
    assert line._estimates.mean() is None


def test_adaptive_slots_grow_and_shrink():
    """With MODEL_SLOTS=auto what the model says decides how many calls it gets."""
    limit = AdaptiveLimit(100)
    line, before = Line(limit), limit.slots
    for _ in range(200):
        slots = [line.take(wish()) for _ in range(limit.slots)]
        for slot in slots:
            slot.called(time.monotonic(), succeeded=True)
        for slot in slots:
            slot.__exit__()
        if limit.slots >= 2 * before:
            break
    grown = limit.slots
    assert grown >= 2 * before
    with line.take(wish()) as slot:
        slot.called(time.monotonic(), succeeded=False, overloaded=True)
    assert limit.slots < grown


# --- the end


def test_draining_gives_the_line_back(threads):
    """At once; who has a slot keeps it, and nobody gets another."""
    line = Line(FixedLimit(1))
    first = line.take(wish())
    waiting = [threads.submit(line.take, wish(arrived=number)) for number in range(5)]
    until(lambda: line.length == 5)
    line.drain()
    assert [one.exception(10).reason for one in waiting] == [Reason.DRAINING] * 5
    first.__exit__()
    with pytest.raises(Refused) as refused:
        line.take(wish())
    assert refused.value.reason is Reason.DRAINING


def test_a_stream_has_its_share_and_no_more(threads):
    """What a stream may not have is free at once for others, who do not wait behind it; one slot it always may have."""
    line = Line(FixedLimit(4))
    batch, crowd = {"stream": "batch", "max_share": 0.5}, Crowd(line, threads)
    first, _second = (line.take(wish(arrived=0, **batch)) for _ in range(2))
    waiting = crowd.join("batch", wish(arrived=0, **batch))
    others = [line.take(wish(arrived=9, stream="urgent")) for _ in range(2)]
    crowd.join("urgent", wish(arrived=9, stream="urgent"))
    others[0].__exit__()
    until(lambda: crowd.order == ["urgent"])
    first.__exit__()
    waiting.result(10)
    assert Line(FixedLimit(1)).take(wish(stream="small", max_share=0.01))
    line.drain()


def test_a_stream_that_waits_for_its_share_is_told_how_long(threads):
    """By its own slots, not by all: what cannot be in time is refused at once."""
    clock = Clock()
    line, batch = taught(Line(FixedLimit(10), clock), 10.0), {"stream": "batch", "max_share": 0.1}
    line.take(wish(**batch))
    threads.submit(line.take, wish(ends=clock.now + 500, **batch))
    until(lambda: line.length == 1)
    with pytest.raises(Refused) as refused:
        line.take(wish(ends=clock.now + 25, **batch))
    assert refused.value.reason is Reason.BUSY
    assert line.take(wish(ends=clock.now + 25))
    line.drain()


@pytest.mark.parametrize("room", [Room(pushes=1), Room(size=150)])
def test_a_lines_own_room(threads, room):
    """A route's part of what may wait: when it is full the next is refused, and there is room again when one leaves."""
    line = Line(FixedLimit(1), room=room)
    slot = line.take(wish(size=100))
    crowd = Crowd(line, threads)
    waiting = crowd.join("first", wish(size=100))
    with pytest.raises(Refused) as refused:
        line.take(wish(size=100))
    assert "MAX_WAITING" in refused.value.detail
    slot.__exit__()
    waiting.result(10)
    crowd.join("second", wish(size=100))
    line.drain()

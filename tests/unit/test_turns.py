"""Large documents take turns."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from handler.admission import turns
from handler.admission.turns import LARGE_BYTES, in_turn
from handler.rules.verdict import outcome, patience
from handler.rules.verdict.reply import ModelReply, read
from tests.unit.test_relay import Model, Topic, message, relayed


class Reading:
    """Counts how many read at once."""

    def __init__(self, together):
        self.now, self.most, self._lock, self._barrier = 0, 0, threading.Lock(), threading.Barrier(together)

    def __call__(self, value):
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        if self._barrier.parties > 1:
            self._barrier.wait(10)
        time.sleep(0.001)  # whoever does not wait for his turn gets in here
        with self._lock:
            self.now -= 1
        return value


def test_large_ones_are_read_one_at_a_time():
    """However many there are."""
    reading = Reading(together=1)
    with ThreadPoolExecutor(20) as threads:
        assert list(threads.map(lambda n: in_turn(LARGE_BYTES, reading, n), range(200))) == list(range(200))
    assert reading.most == 1


def test_small_ones_are_read_at_once():
    """They do not wait for anybody."""
    reading = Reading(together=3)
    with ThreadPoolExecutor(3) as threads:
        assert list(threads.map(lambda n: in_turn(LARGE_BYTES - 1, reading, n), range(3))) == [0, 1, 2]


def test_whatever_reads_a_large_reply_takes_its_turn(monkeypatch):
    """Whether to ask again is read from it, and then what it means."""
    seen = []

    def reading(reply):
        seen.append(turns._lock.locked())
        return read(reply)

    monkeypatch.setattr(outcome, "read", reading)
    monkeypatch.setattr(patience, "read", reading)
    relayed(Model(ModelReply(400, "application/json", b'{"error": "%b"}' % (b"x" * LARGE_BYTES))), Topic(), message())
    assert seen == [True, True]

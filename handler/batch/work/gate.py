"""Holds back what is to be sent: the rate, the requests in flight, the tokens that may be spent."""

import threading
import time
from collections.abc import Callable

from handler.batch.options import Options
from handler.batch.work.journal import Journal

_LOOK_SECONDS = 0.02
_MOST = 1 << 30


class Gate:
    """Says how many requests may be sent now.

    `in_vain` tells whether the answers that are missing are waited for no longer; None where nobody collects any.
    """

    def __init__(
        self, journal: Journal, options: Options, stop: threading.Event, in_vain: Callable[[], bool] | None
    ) -> None:
        self._journal, self._options, self._stop, self._in_vain = journal, options, stop, in_vain
        self._credit, self._at = 1.0, time.monotonic()
        self._expected, self._expectations = 0, 0
        self.spent = False

    def wait(self) -> int:
        """Wait until some may be sent; how many. 0 where none may, and no answer is to come that would change that."""
        while not self._stop.is_set():
            room = min(self._by_flight(), self._by_tokens())
            if room < 1 and (self.spent or self._in_vain is None or self._in_vain()):
                return 0
            room = min(room, self._by_rate())
            if room >= 1:
                return room
            self._stop.wait(_LOOK_SECONDS)
        return 0

    def expect(self, tokens: int) -> None:
        """Note what a request may cost, by its line."""
        self._expected += tokens
        self._expectations += 1

    def passed(self, number: int) -> None:
        """Note that so many are being sent."""
        self._credit -= number

    def _by_rate(self) -> int:
        rate = self._options.rate
        if rate is None:
            return _MOST
        now = time.monotonic()
        # What was not used is lost after a second: a rate is a rate, also after a pause.
        self._credit = min(self._credit + (now - self._at) * rate, max(1.0, rate))
        self._at = now
        return int(self._credit)

    def _by_flight(self) -> int:
        most = self._options.max_in_flight
        return _MOST if most is None else most - self._journal.counts().waiting

    def _by_tokens(self) -> int:
        limit = self._options.max_tokens_total
        if limit is None:
            return _MOST
        waiting = self._journal.counts().waiting
        room = int((limit - self._journal.tokens) / max(1.0, self._mean())) - waiting
        self.spent = room < 1 and not (waiting and self._in_vain)
        return room

    def _mean(self) -> float:
        """Tokens of a request: of those answered or, before there are some, as their lines let expect."""
        answered = self._journal.counts().succeeded
        return self._journal.tokens / answered if answered >= 20 else self._expected / max(1, self._expectations)

"""What a person is told while a batch's answers do not come."""

import io
import math
import re
import time
from types import SimpleNamespace

import pytest
from rich.console import Console

from handler.batch.terminal import progress
from handler.batch.terminal.progress import Display, word_of_silence
from handler.batch.work.journal import LineCounts

SENT, UNSURE = LineCounts(sent=5), LineCounts(sending=5)
DAY = 86_400.0
FOR_EVER = math.inf


def quiet(counts, seconds, **changes):
    """A session that collects, in which no answer has come for so long."""
    session = {
        "counts": counts,
        "quiet_seconds": seconds,
        "heard": False,
        "collecting": True,
        "unsure_seconds_left": 90.0,
        "give_up_seconds_left": FOR_EVER,
        "deadline_seconds_left": FOR_EVER,
    }
    return SimpleNamespace(**(session | changes))


def told(counts, quiet_seconds, **changes):
    """What is said of a session."""
    return word_of_silence(quiet(counts, quiet_seconds, **changes))


@pytest.mark.parametrize(
    ("counts", "quiet_seconds", "heard", "said"),
    [
        (SENT, 59, False, None),
        (LineCounts(pending=5, succeeded=1), 9_000, True, None),
        (SENT, 70, False, r"no answer for 70 s: .*starting.*Pub/Sub does not reach the relay.*your platform team"),
        (SENT, 70, True, r"no answer for 70 s: .*overloaded.*retries, for up to 40 minutes"),
        (SENT, 10_800, True, r"no answer for 3 h 0 min: longer than .*behind .*paused.*topic.*--give-up-after"),
        (SENT, 10_800, False, r"3 h 0 min: longer than .*platform team.*--give-up-after"),
        (SENT, 60_000, True, r"16 h 40 min: longer than .*behind .*paused.*dead letters.*--give-up-after"),
        (UNSURE, 70, False, r"5 requests.* until .*\d\d:\d\d \(--unsure-after\).*`inference-relay batch run` sends"),
        (LineCounts(sending=5, sent=1), 70, True, r"no answer for 70 s"),
    ],
)
def test_silence(counts, quiet_seconds, heard, said):
    """It says what may be wrong, for how long that is waited for, and what follows; of a short silence, nothing."""
    word = told(counts, quiet_seconds, heard=heard)
    assert word is None if said is None else re.search(said, word), word


@pytest.mark.parametrize("counts", [SENT, UNSURE])
def test_where_nobody_collects(counts):
    """That no answer comes is not said of who only sends: none is looked for."""
    assert told(counts, 70, collecting=False) is None


@pytest.mark.parametrize("quiet_seconds", [2_500, 10_800, 57_000])
def test_what_cannot_be_yet(quiet_seconds):
    """A request that is still delivered again is no dead letter."""
    assert "dead letter" not in told(SENT, quiet_seconds)


@pytest.mark.parametrize(
    ("changes", "said", "not_said"),
    [
        ({}, r"until 12:01 \(--unsure-after\).* sends again", "request_timeout"),
        ({"unsure_seconds_left": 2 * DAY}, r"until Sat 02 Feb, 12:00 \(--unsure-after\)", "Thu"),
        ({"give_up_seconds_left": 60.0}, r"until 12:01 \(--give-up-after\).*request_timeout", "sends again"),
        ({"give_up_seconds_left": 600.0}, r"until 12:01 \(--unsure-after\).* sends again", "request_timeout"),
        ({"deadline_seconds_left": 30.0}, r"until 12:00 \(--deadline\).*batch_expired", "sends again"),
        ({"unsure_seconds_left": -5.0}, r"until 12:00 \(--unsure-after\)", "11:59"),
    ],
)
def test_what_may_not_have_been_sent(monkeypatch, changes, said, not_said):
    """The time, with its day where that is not today, and what follows are those of what ends the wait first."""
    noon = time.mktime((2030, 1, 31, 12, 0, 0, 0, 0, -1))
    monkeypatch.setattr(time, "time", lambda: noon)
    word = told(UNSURE, 70, **changes)
    assert re.search(said, word), word
    assert not_said not in word


def test_errors_are_answers():
    """Whoever got nothing but errors is not told that the relay is not reached."""
    assert "does not reach" not in told(LineCounts(sent=5, failed=300), 70, heard=True)


def test_after_the_retries_nothing_is_said_of_them():
    """What has lasted longer than the relay's retries is not explained by them."""
    assert "the relay retries" not in told(SENT, 2_401, heard=True)


@pytest.mark.parametrize("is_terminal", [True, False])
def test_how_often_it_is_said(monkeypatch, is_terminal):
    """A silence is spoken of once a minute, on a terminal and elsewhere, in the words of the time."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock.now))
    written = io.StringIO()
    console = Console(file=written, force_terminal=is_terminal, width=400)
    with Display(console).shown() as display:
        for step in range(9_800):
            clock.now = step * 0.3
            display(quiet(SENT, 60 + clock.now, journal=SimpleNamespace(tokens=0)))
    words = re.findall(r"no answer for .*", written.getvalue())
    assert 48 <= len(words) <= 50
    assert "longer than retries" in words[-1]

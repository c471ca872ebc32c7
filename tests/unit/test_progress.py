"""What a person is told while a batch's answers do not come."""

import io
import re
from types import SimpleNamespace

import pytest
from rich.console import Console

from handler.batch.terminal import progress
from handler.batch.terminal.progress import Display, word_of_silence
from handler.batch.work.journal import LineCounts

SENT, UNSURE = LineCounts(sent=5), LineCounts(sending=5)


def told(counts, quiet_seconds, *, heard=False):
    """What is said of a session."""
    return word_of_silence(
        SimpleNamespace(counts=counts, quiet_seconds=quiet_seconds, heard=heard, unsure_seconds_left=90.0)
    )


@pytest.mark.parametrize(
    ("counts", "quiet_seconds", "heard", "said"),
    [
        (SENT, 59, False, None),
        (LineCounts(pending=5, succeeded=1), 9_000, True, None),
        (SENT, 70, False, r"no answer for 70 s: .*starting.*Pub/Sub does not reach the relay.*your platform team"),
        (SENT, 70, True, r"no answer for 70 s: .*overloaded.*retries, for up to 40 minutes"),
        (SENT, 10_800, True, r"no answer for 3 h 0 min: longer than .*dead letters.*--give-up-after"),
        (SENT, 10_800, False, r"3 h 0 min: longer than .*platform team.*--give-up-after"),
        (UNSURE, 70, False, r"for 5 requests.* until \d\d:\d\d \(--unsure-after\).*`inference-relay batch run` sends"),
        (LineCounts(sending=5, sent=1), 70, True, r"no answer for 70 s"),
    ],
)
def test_silence(counts, quiet_seconds, heard, said):
    """It says what may be wrong, for how long that is waited for, and what follows; of a short silence, nothing."""
    word = told(counts, quiet_seconds, heard=heard)
    assert word is None if said is None else re.search(said, word), word


def test_errors_are_answers():
    """Whoever got nothing but errors is not told that the relay is not reached."""
    assert "does not reach" not in told(LineCounts(sent=5, failed=300), 70, heard=True)


def test_after_the_retries_nothing_is_said_of_them():
    """What has lasted longer than the relay's retries is not explained by them."""
    assert "the relay retries" not in told(SENT, 2_401, heard=True)


def silent(seconds):
    """A session in which no answer has come for so long."""
    journal = SimpleNamespace(tokens=0)
    return SimpleNamespace(counts=SENT, quiet_seconds=seconds, heard=False, journal=journal)


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
            display(silent(60 + clock.now))
    words = re.findall(r"no answer for .*", written.getvalue())
    assert 48 <= len(words) <= 50
    assert "longer than retries" in words[-1]

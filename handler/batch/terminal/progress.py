"""Shows how a batch goes: a bar on a terminal, a plain line every few seconds elsewhere; on standard error."""

import math
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from handler.batch.work.journal import LineCounts
from handler.batch.work.session import Session

QUIET_SECONDS = 60.0
_RETRIED_SECONDS = 2_400.0  # a request whose model fails, by default
_BURIED_SECONDS = 57_600.0  # what is delivered again and again, by default: 16 hours
_RATE_SECONDS = 30.0
_REDRAW_SECONDS = 0.25
_FIRST_LINE_SECONDS = 1.0


class Speed:
    """Lines that ended a second, over the last half minute."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def note(self, done: int, now: float) -> float:
        """Take in how many have ended by now; the speed."""
        self._seen.append((now, done))
        while len(self._seen) > 2 and now - self._seen[0][0] > _RATE_SECONDS:
            self._seen.popleft()
        first, last = self._seen[0], self._seen[-1]
        return (last[1] - first[1]) / (last[0] - first[0]) if last[0] > first[0] else 0.0


def duration(seconds: float) -> str:
    """Seconds as a person says them: 45 s, 12 min, 3 h 20 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def figures(counts: LineCounts, speed: float, tokens: int) -> str:
    """The line of figures."""
    parts = [f"{counts.succeeded:,} completed", f"{counts.failed:,} failed", f"{counts.waiting:,} waiting"]
    if counts.pending:
        parts.append(f"{counts.pending:,} to send")
    if speed:
        parts.append(f"{speed:,.1f}/s, {duration((counts.total - counts.done) / speed)} left")
    if tokens:
        parts.append(f"{tokens:,} tokens")
    return ", ".join(parts)


def word_of_silence(session: Session) -> str | None:
    """What it may mean that nothing has come for a while, and what follows; None where nobody here collects."""
    quiet, counts = session.quiet_seconds, session.counts
    if quiet < QUIET_SECONDS or not counts.waiting or not session.collecting:
        return None
    if counts.sending and not counts.sent and not counts.pending:
        return f"no confirmation came for {counts.sending:,} requests, sent or not: {_end_of_the_wait(session)}"
    return f"no answer for {duration(quiet)}: {_meaning(quiet, heard=session.heard)}"


def _end_of_the_wait(session: Session) -> str:
    """What ends it first."""
    seconds, option, follows = min(
        (session.unsure_seconds_left, "--unsure-after", "`inference-relay batch run` sends again"),
        (session.give_up_seconds_left, "--give-up-after", "becomes `request_timeout`"),
        (session.deadline_seconds_left, "--deadline", "becomes `batch_expired`"),
    )
    until = _clock(max(0.0, seconds))
    return f"their answers are waited for until {until} ({option}); what has none then {follows}"


def _clock(seconds: float) -> str:
    """The time in so many seconds, with its day where that is another one."""
    now = time.time()
    then, today = time.localtime(now + seconds), time.localtime(now)
    return time.strftime("%H:%M" if then[:3] == today[:3] else "%a %d %b, %H:%M", then)


def _meaning(quiet: float, *, heard: bool) -> str:
    if quiet > _RETRIED_SECONDS:
        dead = ", or be dead letters by now" if quiet > _BURIED_SECONDS else ""
        return (
            "longer than retries last by default. The requests may wait behind those of others, or be paused, or the "
            f"topic of responses may take nothing{dead}: ask your platform team. --give-up-after ends the wait"
        )
    if heard:
        return "the model may be restarting or overloaded; the relay retries, for up to 40 minutes by default"
    return "the model may be starting, or Pub/Sub does not reach the relay: if it lasts, ask your platform team"


class Display:
    """Shows a session; called ten times a second."""

    def __init__(self, console: Console, every: float = 5.0) -> None:
        self._console, self._every = console, every
        self._speed, self._rate = Speed(), 0.0
        self._started = self._drawn = time.monotonic()
        self._printed = self._started + _FIRST_LINE_SECONDS - every
        self._worded = -math.inf
        self._bar: Progress | None = None
        self._task = TaskID(0)

    @contextmanager
    def shown(self) -> Iterator["Display"]:
        """Show the bar meanwhile, where there is a terminal."""
        if not self._console.is_terminal:
            yield self
            return
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self._console, transient=True) as bar:
            self._bar, self._task = bar, bar.add_task("reading", total=None)
            try:
                yield self
            finally:
                self._bar = None

    def reading(self, line: int) -> None:
        """Take in that a line of the file was read."""
        if line % 1_000 == 0:
            self._show(f"checked {line:,} lines", None, 0)

    def __call__(self, session: Session) -> None:
        """Take in how things stand."""
        now = time.monotonic()
        if now - self._drawn < _REDRAW_SECONDS:
            return
        self._drawn = now
        counts = session.counts
        self._rate = self._speed.note(counts.done, now)
        self._show(figures(counts, self._rate, session.journal.tokens), counts.total, counts.done)
        word = word_of_silence(session)
        if word and now - self._worded >= QUIET_SECONDS:
            self._worded = now
            self._console.print(word, style="yellow", highlight=False, soft_wrap=True)

    def _show(self, text: str, total: int | None, done: int) -> None:
        if self._bar:
            self._bar.update(self._task, description=text, total=total, completed=done)
        elif time.monotonic() - self._printed >= self._every:
            self._printed = time.monotonic()
            self._console.print(text, highlight=False, soft_wrap=True)

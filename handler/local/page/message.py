"""One message as the page knows it: where it is, what has been tried, what came of it. Times in seconds."""

from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from handler.local.page.reading import Request, Response

_ATTEMPTS = 20  # that are kept, of the up to a hundred that there may be
_CALLS = 10


class Stage(StrEnum):
    """Where a message is."""

    WAITING = "waiting"  # with Pub/Sub, which has not pushed it yet
    AGAIN = "again"  # with Pub/Sub, which has it back and will push it again
    LINE = "line"  # with the service, which has not called the model
    MODEL = "model"
    PAUSE = "pause"  # with the service, which keeps its slot and will call the model again
    PUBLISHING = "publishing"  # with the service: the model has answered, Pub/Sub does not know yet
    ANSWERED = "answered"  # acknowledged, with a response published
    DEAD = "dead"  # among the dead letters
    LOST = "lost"  # acknowledged without a response: what must never happen


OVER = frozenset({Stage.ANSWERED, Stage.DEAD, Stage.LOST})


@dataclass(slots=True)
class Attempt:
    """One delivery: what Pub/Sub got (None: nothing yet, 0: no answer), and why by the service's log."""

    number: int
    began: float
    seconds: float | None = None
    status: int | None = None
    trouble: str = ""
    reason: str = ""
    detail: str = ""
    calls: deque[int] = field(default_factory=lambda: deque(maxlen=_CALLS))
    """What the model said, by call."""

    def view(self) -> dict[str, Any]:
        """What the browser gets."""
        return {
            "number": self.number,
            "seconds": None if self.seconds is None else round(self.seconds, 2),
            "status": self.status,
            "trouble": self.trouble,
            "reason": self.reason,
            "detail": self.detail,
            "calls": list(self.calls),
        }


@dataclass(slots=True, eq=False)
class Message:
    """A request. `number` counts them from 1; `changed` is the version of the board with its last change."""

    number: int
    message_id: str
    request: Request
    published: float
    changed: int = 0
    stage: Stage = Stage.WAITING
    slot: int | None = None
    call: int | None = None
    due: float = 0.0
    wait: float = 0.0
    over: float | None = None
    attempts: deque[Attempt] = field(default_factory=lambda: deque(maxlen=_ATTEMPTS))
    response: Response | None = None
    responses: int = 0

    def attempt(self, number: int) -> Attempt | None:
        """Find an attempt that is kept."""
        return next((each for each in reversed(self.attempts) if each.number == number), None)

    def view(self, now: float) -> dict[str, Any]:
        """What the browser gets. Countdowns are told as what is left, so that clocks need not agree."""
        return {
            "number": self.number,
            "id": self.message_id,
            "prompt": self.request.prompt,
            "priority": self.request.priority,
            "stage": self.stage,
            "slot": self.slot,
            "due_in": round(max(0.0, self.due - now), 2),
            "wait": self.wait,
            "seconds": None if self.over is None else round(self.over - self.published, 2),
            "attempts": [attempt.view() for attempt in self.attempts],
            "answer": self.response and {"status": self.response.status, "text": self.response.text},
            "responses": self.responses,
        }

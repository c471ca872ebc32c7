"""Takes the answers of a batch as they come: into a file, into the journal, and only then acked."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from handler.batch.errors import NotAcked
from handler.batch.lines import bodies
from handler.batch.lines.answers import NotAResponse, ParsedResponse, line_not_run, line_of, origin, parse
from handler.batch.pubsub import LEASE_SECONDS, Messages, Received
from handler.batch.work.beginning import BEGUN_ATTRIBUTE, Plan
from handler.batch.work.journal import Journal, KnownLine, LineOutcome, LineState
from handler.batch.work.outputs import Outputs
from handler.rules.message.control import is_control

_ENOUGH = 2_000  # answers to be noted together; a pull's come on top
_MOST_BYTES = 32 << 20  # of them, with what was fetched: they are in memory until they are noted
_LOOK_SECONDS = 0.2
_GATHER_SECONDS = 0.05  # more may come, to share the wait for the disk
_FINAL = (LineState.SUCCEEDED, LineState.FAILED)


@dataclass(frozen=True, slots=True)
class _Answer:
    """A message of this batch, and what was read of it; None where it is no response of the relay's."""

    message: Received
    custom_id: str
    read: ParsedResponse | None

    @property
    def message_id(self) -> str:
        """Which request it answers."""
        return self.message.attributes.get("request_message_id", "")

    @property
    def succeeded(self) -> bool:
        """Whether it is what was asked for, and no error."""
        return self.read is not None and not self.read.code


class Collector:
    """Takes answers until told to stop."""

    def __init__(
        self, journal: Journal, outputs: Outputs, plan: Plan, stop: threading.Event, *, fetch_bodies: bool = False
    ) -> None:
        """With `fetch_bodies` what answers refer to is written out."""
        self._journal, self._outputs, self._plan, self._stop = journal, outputs, plan, stop
        self._fetch_bodies = fetch_bodies
        self._last_answer, self._reading = time.monotonic(), False
        self.heard = bool(journal.ask("SELECT 1 FROM lines WHERE status_code NOT NULL LIMIT 1"))  # of a model or relay

    @property
    def last_answer(self) -> float:
        """When the last answer was had, by the monotonic clock; now, while some are read and noted."""
        return time.monotonic() if self._reading else self._last_answer

    def run(self, messages: Messages) -> None:
        """Take answers. Raises CannotRun where the subscription cannot be read, or what an answer refers to."""
        while not self._stop.is_set():
            received = messages.next_ones(_ENOUGH, _LOOK_SECONDS)
            if received and len(received) < _ENOUGH and not self._stop.wait(_GATHER_SECONDS):
                received += messages.next_ones(_ENOUGH - len(received), 0.0)
            if received:
                self._take(messages, received)

    def _take(self, messages: Messages, received: Sequence[Received]) -> None:
        # Another batch's are left alone: it gets them when the lease is over.
        origins = [(message, *origin(message.data, message.attributes)) for message in received]
        mine = [
            (message, custom_id or "") for message, batch_id, custom_id in origins if batch_id == self._plan.batch_id
        ]
        left = [message for message, _ in mine]
        try:
            for portion in self._portions(mine):
                self._note(portion)
                with suppress(NotAcked):  # what comes again is known to the journal
                    messages.ack([each.message for each in portion])
                left = left[len(portion) :]
                if left and not self._stop.is_set():  # it would come again while the content of others is fetched
                    messages.lease(left, LEASE_SECONDS)
        finally:
            if left:  # whoever takes up the batch next has it at once, unless it is pulled here again
                messages.lease([*left, *messages.stop()], 0)
        if self._reading:
            self._last_answer, self._reading = time.monotonic(), False

    def _portions(self, mine: Sequence[tuple[Received, str]]) -> Iterator[list[_Answer]]:
        """What is noted together, read before that: others write the journal while Cloud Storage takes its time."""
        portion, size = list[_Answer](), 0
        for message, custom_id in mine:
            if self._stop.is_set():
                break
            read = None if is_control(message.attributes) else self._read(message, custom_id)
            portion.append(_Answer(message, custom_id, read))
            size += len(read.body) if read else 0
            if size >= _MOST_BYTES:
                yield portion
                portion, size = [], 0
        if portion:
            yield portion

    def _read(self, message: Received, custom_id: str) -> ParsedResponse | None:
        """What an answer says, with its content if that is wished and not there yet; None where it is no response."""
        self._reading = self.heard = True
        try:
            answer = parse(message.data, message.attributes, custom_id)
        except NotAResponse:
            return None
        known = self._journal.find(custom_id) if self._fetch_bodies and answer.is_reference else None
        return bodies.fetched(answer) if known and known.state not in _FINAL else answer

    def _note(self, portion: Sequence[_Answer]) -> None:
        with self._journal.transaction():
            for each in portion:
                if not is_control(each.message.attributes):
                    self._note_one(each)
            self._outputs.commit()

    def _note_one(self, answer: _Answer) -> None:
        known = self._journal.find(answer.custom_id)
        if known is None or self._is_of_another(answer):
            self._journal.add("unexpected", 1)
        elif known.state in _FINAL or (not answer.succeeded and self._journal.is_settled(answer.message_id)):
            self._journal.add("duplicates", 1)  # an error of a message that is tried again says nothing of the next one
        else:
            self._journal.end(self._written(known, answer.custom_id, answer.read), known.state)

    def _is_of_another(self, answer: _Answer) -> bool:
        """Whether it answers an earlier batch of the same id."""
        begun = answer.message.attributes.get(BEGUN_ATTRIBUTE, "")
        return bool(begun and self._plan.begun and begun != self._plan.begun)

    def _written(self, known: KnownLine, custom_id: str, answer: ParsedResponse | None) -> LineOutcome:
        """Write the answer's line; how its request ended."""
        if answer is None:
            return self._not_run(known, custom_id, "invalid_answer", "What came back is no response of the relay's.")
        if answer.is_cancelled:
            outcome = self._not_run(
                known, custom_id, "batch_cancelled", "It was cancelled before the model was called."
            )
            return replace(outcome, message_id=answer.request_message_id or None)
        state = LineState.FAILED if answer.code else LineState.SUCCEEDED
        return _outcome(known.line, state, answer, self._outputs.append(state, line_of(answer, self._plan.style)))

    def _not_run(self, known: KnownLine, custom_id: str, code: str, message: str) -> LineOutcome:
        text = line_not_run(custom_id, known.line, code, message)
        return LineOutcome(known.line, LineState.FAILED, *self._outputs.append(LineState.FAILED, text), code=code)

    def give_up(self, code: str, message: str) -> None:
        """End all lines that have no answer, with an error that says why."""
        while self._gave_up_some(code, message):
            pass

    def _gave_up_some(self, code: str, message: str) -> bool:
        with self._journal.transaction():  # read inside of it too: answers still come, and theirs stay answered
            page = self._journal.unfinished()
            for line, custom_id, state in page:
                written = self._outputs.append(LineState.FAILED, line_not_run(custom_id, line, code, message))
                self._journal.end(LineOutcome(line, LineState.FAILED, *written, code=code), state)
            self._outputs.commit()
        return bool(page)


def _outcome(line: int, state: LineState, answer: ParsedResponse, written: tuple[int, int]) -> LineOutcome:
    return LineOutcome(
        line,
        state,
        *written,
        message_id=answer.request_message_id or None,
        status_code=answer.status_code,
        code=answer.code,
        model=answer.model,
        tokens_in=answer.tokens_in,
        tokens_out=answer.tokens_out,
    )

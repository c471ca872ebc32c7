"""Publishes the lines that are to be sent, a batch of messages at a time, as fast as it may."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from handler.batch.errors import CannotRun, NotTaken, OutcomeUnknown
from handler.batch.lines import check, formats
from handler.batch.lines.answers import line_not_run
from handler.batch.lines.formats import BadLine
from handler.batch.options import Options
from handler.batch.pubsub import MAX_BATCH_BYTES, MAX_BATCH_MESSAGES, Outgoing, Topic
from handler.batch.work.beginning import Plan
from handler.batch.work.gate import Gate
from handler.batch.work.journal import Journal, LineOutcome, LineState
from handler.batch.work.outputs import Outputs

_AT_ONCE = 4  # publish requests that are under way
_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 1.0, 60.0  # before Pub/Sub is asked again
_CONNECT_SECONDS = 1.0
_FRAME_BYTES = 64  # of a message, beside its data and attributes
_TYPICAL_ANSWER = 256  # tokens, of a request that has no limit


@dataclass(frozen=True, slots=True)
class _Line:
    line: int
    custom_id: str
    message: Outgoing
    size: int


class Sender:
    """Sends what is pending. `in_vain` is the gate's."""

    def __init__(
        self,
        journal: Journal,
        outputs: Outputs,
        plan: Plan,
        options: Options,
        stop: threading.Event,
        in_vain: Callable[[], bool] | None,
    ) -> None:
        self._journal, self._outputs, self._plan, self._stop = journal, outputs, plan, stop
        self._gate = Gate(journal, options, stop, in_vain)
        self._permits = threading.BoundedSemaphore(_AT_ONCE)
        self._held_up_since: float | None = None  # since when nobody knows what became of what was published last
        self._pause = _PAUSE_SECONDS
        self._failure: BaseException | None = None

    @property
    def spent(self) -> bool:
        """Whether it ended because no more tokens may be spent."""
        return self._gate.spent

    @property
    def held_up_seconds(self) -> float:
        """For how long it has gone on line by line, since nobody knows what became of those before."""
        since = self._held_up_since
        return 0.0 if since is None else time.monotonic() - since

    def run(self, topic: Topic) -> None:
        """Send every line that is pending. Raises CannotRun.

        Returns, with nothing under way, when all are sent, when told to stop, and when the gate opens no more.
        """
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="publish") as pool:
            for batch in self._batches():
                self._permits.acquire()
                left = self._after_a_confirmation(topic, batch)
                if self._ended():
                    self._permits.release()
                    break
                pool.submit(self._publish, topic, self._begun(left))
        if self._failure:
            raise self._failure

    def _ended(self) -> bool:
        return self._stop.is_set() or self._failure is not None

    def _after_a_confirmation(self, topic: Topic, batch: Sequence[_Line]) -> Sequence[_Line]:
        """What is left of a batch, of which single lines go ahead until one is confirmed, where the last was not.

        Pub/Sub may be connected, and answer everything with an error for an hour. Each line that is published meanwhile
        is one more that may have to be paid twice.
        """
        while batch and self._held_up_since is not None and not self._ended():
            if topic.connected(_CONNECT_SECONDS) and not self._stop.wait(self._pause):
                self._try_one(topic, batch[0])
                batch = batch[1:]
        return batch

    def _try_one(self, topic: Topic, line: _Line) -> None:
        begun = self._begun([line])
        if begun:
            since, self._held_up_since = self._held_up_since, None
            self._settled(topic, begun)
            if self._held_up_since is None:
                self._pause = _PAUSE_SECONDS
            else:
                self._held_up_since, self._pause = since, min(2 * self._pause, _LONGEST_PAUSE_SECONDS)

    # --- what is sent together

    def _batches(self) -> Iterator[list[_Line]]:
        lines = self._lines()
        held = next(lines, None)
        while held is not None and (room := self._gate.wait()):
            batch, size = [held], held.size
            held = next(lines, None)
            while held and len(batch) < min(room, MAX_BATCH_MESSAGES) and size + held.size <= MAX_BATCH_BYTES:
                batch.append(held)
                size += held.size
                held = next(lines, None)
            self._gate.passed(len(batch))
            yield batch

    def _lines(self) -> Iterator[_Line]:
        for line, custom_id, text in check.again(self._plan.requests, self._journal.pending()):
            try:
                made = self._made(line, custom_id, text)
            except BadLine as bad:  # since its check: a deadline was added, or another version has other rules
                if bad.code == "invalid_json" or bad.custom_id not in (None, custom_id):
                    raise CannotRun(check.changed(self._plan.requests, line)) from None
                self._fail(line, custom_id, bad.code, bad.message, LineState.PENDING)
            else:
                yield made

    def _made(self, line: int, custom_id: str, text: bytes | None) -> _Line:
        plan = self._plan
        request = plan.rules.read(line, text, plan.form)
        if request.custom_id != custom_id:
            raise CannotRun(check.changed(plan.requests, line))
        attributes = {**plan.attributes, "custom_id": request.custom_id}
        data = formats.encode(request, plan.batch_id, plan.rules.deadline)
        size = len(data) + sum(len(key) + len(value.encode()) for key, value in attributes.items()) + _FRAME_BYTES
        self._gate.expect(formats.estimated_tokens(len(data)) + (formats.longest_answer(request) or _TYPICAL_ANSWER))
        return _Line(line, request.custom_id, Outgoing(data, attributes), size)

    def _begun(self, batch: Sequence[_Line]) -> list[_Line]:
        with self._journal.transaction():
            begun = set(self._journal.begin_sending([each.line for each in batch]))
        return [each for each in batch if each.line in begun]

    # --- one request to Pub/Sub

    def _publish(self, topic: Topic, batch: Sequence[_Line]) -> None:
        try:
            self._settled(topic, batch)
        finally:
            self._permits.release()

    def _settled(self, topic: Topic, batch: Sequence[_Line]) -> None:
        try:
            if batch:
                self._settle(topic, batch)
        except BaseException as failure:  # noqa: BLE001 - told to whoever waits for the sending to end
            self._failure = failure

    def _settle(self, topic: Topic, batch: Sequence[_Line]) -> None:
        """Publish, until it is known what became of it or nobody can know."""
        try:
            message_ids = self._ask(topic, batch)
        except OutcomeUnknown:
            self._held_up_since = self._held_up_since or time.monotonic()  # they stay `sending`: only an answer tells
        except NotTaken as refused:
            self._refused(topic, batch, refused)
        except CannotRun:
            with self._journal.transaction():
                self._journal.not_sent([each.line for each in batch])
            raise
        else:
            with self._journal.transaction():
                self._journal.confirm_sent([each.line for each in batch], message_ids)

    def _ask(self, topic: Topic, batch: Sequence[_Line]) -> list[str]:
        """Publish; while Pub/Sub says that it will take them later, ask again."""
        pause = _PAUSE_SECONDS
        while True:
            try:
                return topic.publish([each.message for each in batch])
            except NotTaken as refused:
                if not refused.worth_a_retry or self._stop.wait(pause):
                    raise
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _refused(self, topic: Topic, batch: Sequence[_Line], refused: NotTaken) -> None:
        if refused.worth_a_retry:
            with self._journal.transaction():
                self._journal.not_sent([each.line for each in batch])
        elif len(batch) > 1:  # Pub/Sub refuses a request as a whole for one bad message in it
            for each in batch:
                self._settle(topic, [each])
        else:
            why = f"Pub/Sub does not take it: {refused}"
            self._fail(batch[0].line, batch[0].custom_id, "invalid_request", why, LineState.SENDING)

    def _fail(self, line: int, custom_id: str, code: str, message: str, before: LineState) -> None:
        with self._journal.transaction():
            place = self._outputs.append(LineState.FAILED, line_not_run(custom_id, line, code, message))
            self._outputs.commit()
            self._journal.end(LineOutcome(line, LineState.FAILED, *place, code=code), before)

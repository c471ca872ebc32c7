"""One process's work on a batch: sends, collects, and decides when it is over."""

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from enum import StrEnum
from typing import Any

from handler.batch.controlling import cancelling
from handler.batch.errors import CannotRun, NotTaken, OutcomeUnknown
from handler.batch.options import DRAIN_SECONDS, EXPIRY_SECONDS, WORKING_SECONDS, Options, Paths
from handler.batch.pubsub import MOST_PULLED, Subscription, Topic, batch_filter
from handler.batch.work.beginning import Plan, plan_of
from handler.batch.work.collecting import Collector
from handler.batch.work.journal import Journal, LineCounts
from handler.batch.work.outputs import Outputs
from handler.batch.work.sending import Sender

_LOOK_SECONDS = 0.1
_MOST_FETCHED = 20  # in a pull, where each may take seconds: what waits behind others comes again when its lease ends
_CANCEL_LOOK_SECONDS = 1.0  # between looks whether another process cancelled it


class SessionEnd(StrEnum):
    """Why the work on a batch ended."""

    COMPLETED = "completed"  # every line is in one of the files
    SUBMITTED = "submitted"  # everything is sent, and nobody here collects
    STOPPED = "stopped"  # by the person
    TOKENS_SPENT = "tokens_spent"
    CANCELLED = "cancelled"  # by another process, while it sent; collecting ends the batch
    NOT_SENT = "not_sent"  # all that was sent is answered, and nobody here sends the rest
    UNSURE_LEFT = "unsure_left"  # what is left may never have been sent, and nobody here sends


class Session:
    """Sends, collects, or does both. `progress` is called ten times a second."""

    def __init__(self, paths: Paths, options: Options, progress: Callable[["Session"], None]) -> None:
        self._paths, self._options, self._progress = paths, options, progress
        self._stop, self._stop_sending = threading.Event(), threading.Event()
        self._failure: BaseException | None = None
        self._started = time.monotonic()
        self._cancel_seen, self._looked, self._told = False, 0.0, False
        self._over_since = math.inf
        self.sending, self.collecting = False, False

    @contextmanager
    def _opened(self) -> Iterator[ExitStack]:
        with ExitStack() as parts:
            self.journal = parts.enter_context(Journal(self._paths.journal))
            self.plan: Plan = plan_of(self.journal)
            self._outputs = parts.enter_context(Outputs(self.journal, self._paths.output, self._paths.errors))
            self._collector = Collector(
                self.journal, self._outputs, self.plan, self._stop, fetch_bodies=self._options.fetch_bodies
            )
            yield parts

    # --- what other modules show

    @property
    def counts(self) -> LineCounts:
        """Where the lines stand."""
        return self.journal.counts()

    @property
    def quiet_seconds(self) -> float:
        """For how long no answer has come."""
        return time.monotonic() - max(self._collector.last_answer, self._started)

    @property
    def heard(self) -> bool:
        """Whether any answer has come, now or in an earlier run, an error or not."""
        return self._collector.heard

    @property
    def unsure_seconds_left(self) -> float:
        """How long those are still waited for that may not have been sent: from the last answer, or their sending."""
        waited = min(self.quiet_seconds, time.time() - self.journal.latest_unsure())
        return self._options.unsure_seconds - waited

    @property
    def give_up_seconds_left(self) -> float:
        """How long an answer is still waited for, where none comes; infinite where that is for ever."""
        patience = self._options.give_up_seconds
        return math.inf if patience is None else patience - self.quiet_seconds

    @property
    def deadline_seconds_left(self) -> float:
        """How long until what has no answer expires; infinite where there is no deadline."""
        return EXPIRY_SECONDS - self.plan.seconds_past_deadline if self.plan.rules.deadline else math.inf

    # --- the three kinds of work

    def run(self) -> SessionEnd:
        """Send and collect until every line is in one of the files."""
        with self._opened() as parts:
            if self._nothing_to_do():
                return self._finished(SessionEnd.COMPLETED)
            self._make_subscription()
            self._see_subscription()
            sender = self._sender(self._in_vain)
            topic = parts.enter_context(Topic(self.plan.topic))
            with self._collecting(), self._threads_end():
                end = self._until_over(sender, topic)
            return self._finished(end)

    def submit(self) -> SessionEnd:
        """Send everything that is to be sent."""
        with self._opened() as parts:
            self._make_subscription()
            self._see_subscription(by_reader=False)
            sender = self._sender(None)
            topic = parts.enter_context(Topic(self.plan.topic))
            with self._threads_end():
                self._start(sender.run, topic)
                while self.sending:
                    self._look()
                    if self._cancelled():
                        self._stop_sending.set()
                self._tell(topic)
            if self._cancel_seen:
                return SessionEnd.CANCELLED
            if sender.spent:
                return SessionEnd.TOKENS_SPENT
            return SessionEnd.SUBMITTED if not self.counts.pending else SessionEnd.STOPPED

    def collect(self) -> SessionEnd:
        """Collect until every line that was sent is in one of the files."""
        with self._opened():
            if self._nothing_to_do():
                return self._finished(SessionEnd.COMPLETED)
            self._make_subscription()
            with self._collecting(), self._threads_end():
                end = self._until_over(None, None)
            return self._finished(end)

    # --- parts of it

    def _nothing_to_do(self) -> bool:
        return not (self.counts.pending or self.counts.waiting)

    def _make_subscription(self) -> None:
        if self.plan.own_subscription:
            with Subscription(self.plan.subscription) as subscription:
                subscription.create(self.plan.responses, batch_filter(self.plan.batch_id))

    def _see_subscription(self, *, by_reader: bool = True) -> None:
        """A given one may be misspelt: its answers would be paid for, and gone."""
        if not self.plan.own_subscription and self.counts.pending:
            with Subscription(self.plan.subscription) as subscription:
                subscription.see(by_reader=by_reader)

    def _sender(self, in_vain: Callable[[], bool] | None) -> Sender:
        return Sender(self.journal, self._outputs, self.plan, self._options, self._stop_sending, in_vain)

    @contextmanager
    def _collecting(self) -> Iterator[None]:
        most = _MOST_FETCHED if self._options.fetch_bodies else MOST_PULLED
        with Subscription(self.plan.subscription) as subscription, subscription.messages(most) as messages:
            thread = self._thread(self._collector.run, messages)
            self.collecting = True
            try:
                yield
            finally:
                self._stop.set()
                thread.join()

    @contextmanager
    def _threads_end(self) -> Iterator[None]:
        """Whatever happens, the sending has ended and is noted when this is left."""
        try:
            yield
        finally:
            self._stop_sending.set()
            while self.sending:
                time.sleep(_LOOK_SECONDS)
        self._raise_failure()

    def _start(self, work: Callable[..., None], *arguments: Any) -> None:
        self.sending = True

        def send() -> None:
            try:
                work(*arguments)
            finally:
                self.sending = False

        self._thread(send)

    def _thread(self, work: Callable[..., None], *arguments: Any) -> threading.Thread:
        def guarded() -> None:
            try:
                work(*arguments)
            except BaseException as failure:  # noqa: BLE001 - raised again where the person is
                self._failure = failure

        thread = threading.Thread(target=guarded, daemon=True)
        thread.start()
        return thread

    def _look(self) -> None:
        self._raise_failure()
        self._progress(self)
        time.sleep(_LOOK_SECONDS)

    def _raise_failure(self) -> None:
        if self._failure:
            raise self._failure

    def _until_over(self, sender: Sender | None, topic: Topic | None) -> SessionEnd:
        self._over()  # before anything is sent
        if sender:
            self._start(sender.run, topic)
        else:
            self._take_as_sent()
        while True:
            self._look()
            self._tell(topic)
            if self._cut_short(sender) or self._nothing_to_do():
                return SessionEnd.COMPLETED
            if self.sending:
                continue
            if not self.counts.waiting and (not sender or sender.spent):
                return SessionEnd.TOKENS_SPENT if sender else SessionEnd.NOT_SENT
            if self._only_unsure_is_left():
                if not sender:
                    return SessionEnd.UNSURE_LEFT
                self._send_again()
            if sender and self.counts.pending and not (sender.spent or self._stop_sending.is_set()):
                self._start(sender.run, topic)

    def _take_as_sent(self) -> None:
        """Where another machine sends, all that this journal has was sent or will be; not what is retried later."""
        if self.journal.number("sent_elsewhere"):
            with self.journal.transaction():
                lines = self.journal.begin_sending([line for line, _ in self.journal.pending()])
                self.journal.confirm_sent(lines, [""] * len(lines))
                self.journal.note(sent_elsewhere=None)

    def _in_vain(self) -> bool:
        """Whether what is missing was waited for as long as agreed: what only its answers let be sent waits no more."""
        return self._only_unsure_is_left() or self.give_up_seconds_left < 0

    def _only_unsure_is_left(self) -> bool:
        """Whether all that is waited for is lines that may not have been sent, for the time agreed."""
        counts = self.counts
        return bool(counts.sending and not counts.sent) and self.unsure_seconds_left < 0

    def _send_again(self) -> None:
        with self.journal.transaction():
            self.journal.add("sent_again", self.journal.send_again())

    # --- ends before every answer is there

    def _cut_short(self, sender: Sender | None) -> bool:
        """End the lines without an answer, where there is a reason to."""
        reason = self._reason(sender)
        if reason is None:
            return False
        self._stop_sending.set()
        while self.sending:
            time.sleep(_LOOK_SECONDS)
        self._collector.give_up(*reason)
        return True

    def _reason(self, sender: Sender | None) -> tuple[str, str] | None:
        over = self._over()
        if over and self._drained():
            return over
        seconds = self._options.give_up_seconds
        stuck = sender is not None and seconds is not None and sender.held_up_seconds > seconds
        if self.give_up_seconds_left < 0 and (stuck or not self.sending):
            return "request_timeout", f"No answer came, nor any other for {seconds:g} seconds."
        return None

    def _over(self) -> tuple[str, str] | None:
        """Why nothing more is sent, if so: the code and the sentence of what will have no answer."""
        if self._cancelled():
            why = "batch_cancelled", "The batch was cancelled before this request was answered."
        elif self.deadline_seconds_left < 0:
            why = "batch_expired", f"No answer came before the batch's deadline, {self.plan.rules.deadline}."
        else:
            return None
        self._stop_sending.set()
        self._over_since = min(self._over_since, time.monotonic())
        return why

    def _drained(self) -> bool:
        """Whether what was answered is taken: the answers are paid for, and may have waited long for who collects."""
        if self.sending:
            return False
        if not self.counts.waiting:
            return True
        quiet = min(self.quiet_seconds, time.monotonic() - self._over_since)
        worked_on_since = float(self.journal.fact("cancelled_while_working") or 0.0)
        return quiet > DRAIN_SECONDS and time.time() > worked_on_since + WORKING_SECONDS

    def _cancelled(self) -> bool:
        now = time.monotonic()
        if not self._cancel_seen and now - self._looked > _CANCEL_LOOK_SECONDS:
            self._looked = now
            self._cancel_seen = self.journal.fact("cancelled") is not None
        return self._cancel_seen

    def _tell(self, topic: Topic | None) -> None:
        """Have the relay cancel what was still sent while another process cancelled the batch, once nothing more is.

        Its response comes with the answers, and changes nothing here: whoever cancelled is told by one of its own.
        """
        if topic is None or self._told or self.sending or not self._cancelled():
            return
        self._told = True
        with suppress(NotTaken, OutcomeUnknown):  # then what was sent last is answered
            topic.publish([cancelling(self.plan.batch_id, self.plan.attributes)])

    def _finished(self, end: SessionEnd) -> SessionEnd:
        """When all is there: put the lines in order if wished, and remove what was made for the batch."""
        if end is SessionEnd.COMPLETED:
            if self._options.in_order:
                self._outputs.rewrite()
            if not self.journal.fact("completed"):
                self._delete_subscription()
                with self.journal.transaction():
                    self.journal.note(completed=time.time())
        return end

    def _delete_subscription(self) -> None:
        if self.plan.own_subscription:
            with Subscription(self.plan.subscription) as subscription:
                subscription.delete()


def cancel(paths: Paths) -> LineCounts:
    """Note that the batch is to end; where its lines stand. Raises CannotRun."""
    with Journal(paths.journal) as journal:
        plan_of(journal)
        if journal.fact("completed"):
            raise CannotRun("the batch is completed: there is nothing to cancel")
        with journal.transaction():
            journal.note(cancelled=journal.fact("cancelled") or time.time())
        return journal.counts()

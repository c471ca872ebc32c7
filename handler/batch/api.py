"""The commands as functions: run, submit, collect, status, retry, cancel, check."""

import time
from collections.abc import Callable
from typing import Any

from handler.batch.asking import NoAnswer, Where
from handler.batch.controlling import REPLY_SECONDS, NotDone, Reply, cancel_requests
from handler.batch.errors import CannotRun
from handler.batch.lines import files
from handler.batch.lines.check import Contents, Ids, Problem, examine
from handler.batch.options import Options, Paths, listed
from handler.batch.work import beginning, session
from handler.batch.work.journal import Journal, LineCounts
from handler.batch.work.outputs import Outputs
from handler.batch.work.session import Session, SessionEnd
from handler.batch.work.summary import Price, Summary, summarise

Wrong = Callable[[Problem], None]
Progress = Callable[[Session], None]


def _ignore(_: object) -> None:
    """Nobody wants to hear of it."""


def check(
    requests: str, options: Options | None = None, *, wrong: Wrong = _ignore, tick: Callable[[int], None] = _ignore
) -> Contents:
    """Read a request file, offline: what is in it. `wrong` gets every line that cannot be sent."""
    options, ids = options or Options(), Ids()
    try:
        return examine(requests, beginning.rules_of(options), ids.enter, wrong, tick)
    finally:
        ids.close()


def run(
    requests: str,
    answers: str,
    options: Options | None = None,
    *,
    wrong: Wrong = _ignore,
    progress: Progress = _ignore,
    price: Price | None = None,
    tick: Callable[[int], None] = _ignore,
) -> Summary:
    """Send a file of requests and collect its answers; called again, it goes on where it was.

    `requests` and `answers` are paths, `-`, or gs:// URLs; `wrong` gets each line that cannot be sent, `progress` the
    session ten times a second. Raises CannotRun; KeyboardInterrupt ends it in order.
    """
    options = options or Options()
    paths = beginning.paths_of(answers, options)
    with beginning.alone(paths.journal):
        beginning.begin(requests, paths, options, wrong, tick)
        end = _ended(paths, Session(paths, options, progress).run)
        return _summed_up(paths, end, price)


def submit(
    requests: str,
    answers: str,
    options: Options | None = None,
    *,
    wrong: Wrong = _ignore,
    progress: Progress = _ignore,
    tick: Callable[[int], None] = _ignore,
) -> Summary:
    """Send a file of requests; `collect` takes the answers. Raises CannotRun."""
    options = options or Options()
    paths = beginning.paths_of(answers, options)
    with beginning.alone(paths.journal):
        beginning.begin(requests, paths, options, wrong, tick)
        end = _ended(paths, Session(paths, options, progress).submit)
        return _summed_up(paths, end, None)


def collect(
    answers: str,
    options: Options | None = None,
    *,
    requests: str | None = None,
    wrong: Wrong = _ignore,
    progress: Progress = _ignore,
    price: Price | None = None,
) -> Summary:
    """Collect the answers of a batch that was submitted here or, given its file and batch id, elsewhere.

    Raises CannotRun.
    """
    options = options or Options()
    paths = beginning.paths_of(answers, options)
    if requests is None and not paths.journal.exists():
        copied = listed((*(path.name for path in paths.outputs), f"every {paths.journal.name}*"))
        raise CannotRun(
            f"{paths.journal} does not exist. Copy {copied} from where the batch was submitted, or give the request "
            "file and --batch-id"
        )
    with beginning.alone(paths.journal):
        if requests is not None:
            _begin_elsewhere(requests, paths, options, wrong)
        else:
            beginning.take_up(paths, options)
        end = _ended(paths, Session(paths, options, progress).collect)
        return _summed_up(paths, end, price)


def _begin_elsewhere(requests: str, paths: Paths, options: Options, wrong: Wrong) -> None:
    if not options.batch_id:
        raise CannotRun("--batch-id is needed: `batch submit` printed it")
    beginning.begin(requests, paths, options, wrong, sent_elsewhere=True)


def status(answers: str, options: Options | None = None, *, price: Price | None = None) -> Summary:
    """Where a batch stands, by its journal, also while it runs. Raises CannotRun."""
    paths = beginning.paths_of(answers, options or Options())
    with Journal(paths.journal) as journal:
        beginning.plan_of(journal)
        counts = journal.counts()
        end = "cancelled" if journal.fact("cancelled") else "in_progress" if counts.done < counts.total else "completed"
    return _summed_up(paths, end, price)


def retry(answers: str, options: Options | None = None, *, codes: tuple[str, ...] = ()) -> int:
    """Take what failed out of the error file, to be sent again by the next `run`; how many lines.

    `codes` restricts it to those errors. Lines that could not be sent as they are stay. Raises CannotRun, as where the
    batch's deadline has passed and `options` have no new one.
    """
    options = options or Options()
    paths = beginning.paths_of(answers, options)
    if not paths.journal.exists():
        raise CannotRun(f"{paths.journal} does not exist: no batch was begun with this output file here")
    with beginning.alone(paths.journal), Journal(paths.journal) as journal:
        beginning.see_that_it_can_end_well(journal, options)
        rewound = 0

        def change() -> None:
            nonlocal rewound
            rewound = journal.rewind_failed(codes)
            journal.note(completed=None, cancelled=None, cancelled_while_working=None)

        with Outputs(journal, paths.output, paths.errors) as outputs:
            outputs.rewrite(change)
        return rewound


def cancel(answers: str, options: Options | None = None) -> LineCounts:
    """Have a batch end: nothing more is sent, and what gets no answer becomes `batch_cancelled`. Raises CannotRun."""
    return session.cancel(Paths.of(answers, options or Options()))


def cancel_sent(answers: str, options: Options | None = None, *, seconds: float = REPLY_SECONDS) -> Reply | None:
    """Have the relay cancel what was sent of a batch; None where all is answered.

    Raises CannotRun, NoAnswer, and NotDone where the relay does not do it.
    """
    paths = Paths.of(answers, options or Options())
    with Journal(paths.journal) as journal:
        plan, waiting = beginning.plan_of(journal), journal.counts().waiting
    subscription = None if plan.own_subscription else plan.subscription
    if not waiting:
        return None
    where = Where(topic=plan.topic, responses=plan.responses, subscription=subscription)
    # Before the relay has said that the model works on some: whoever collects may lose patience meanwhile.
    before = _note_work(paths, asked=str(time.time()))
    try:
        reply = cancel_requests(plan.batch_id, where=where, seconds=seconds)
    except (CannotRun, NoAnswer):
        _note_work(paths, before)
        raise
    except NotDone:
        _note_work(paths, None)
        raise
    if reply.complete and not (reply.counts or {}).get("working"):
        _note_work(paths, None)
    return reply


def _note_work(paths: Paths, asked: str | None) -> str | None:
    """Note when the relay was asked to cancel, if the model works on some: those answers come, and are paid for.

    What was noted before.
    """
    with Journal(paths.journal) as journal, journal.transaction():
        before = journal.fact("cancelled_while_working")
        journal.note(cancelled_while_working=asked)
        return before


def _ended(paths: Paths, work: Callable[[], SessionEnd]) -> SessionEnd:
    try:
        end = work()
    except KeyboardInterrupt:
        return SessionEnd.STOPPED
    if end is SessionEnd.COMPLETED and paths.deliver:
        files.deliver(paths.output, paths.deliver)
    return end


def _summed_up(paths: Paths, end: str, price: Price | None) -> Summary:
    output = paths.deliver or paths.output
    errors = output if paths.errors == paths.output else paths.errors
    named: dict[str, Any] = {"output": output, "errors": errors, "journal": paths.journal}
    with Journal(paths.journal) as journal:
        return summarise(journal, end, {name: str(path) for name, path in named.items()}, price)

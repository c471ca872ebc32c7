"""Begins a batch, or takes up one that was begun: the journal, the check of the file, the names."""

import fcntl
import os
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from handler.batch import names
from handler.batch.errors import CannotRun
from handler.batch.lines import check, files, objects
from handler.batch.lines.answers import Style, line_not_run
from handler.batch.lines.check import Contents, LineRules, Problem
from handler.batch.lines.formats import LONGEST_BATCH_ID, Form, nameless
from handler.batch.options import Options, Paths, listed
from handler.batch.work.journal import Journal, LineOutcome, LineState
from handler.batch.work.outputs import Outputs

BEGUN_ATTRIBUTE = "batch_begun"
_BATCH_ID = re.compile(rf"[A-Za-z][A-Za-z0-9._-]{{0,{LONGEST_BATCH_ID - 1}}}")


@dataclass(frozen=True, slots=True)
class Plan:
    """What a batch was begun with, as its journal has it."""

    batch_id: str
    requests: str
    form: Form
    style: Style
    rules: LineRules
    topic: str
    responses: str
    subscription: str
    own_subscription: bool
    priority: str | None
    begun: str = ""
    """Tells this batch from others of its id, in the attributes; "" where another machine began it."""
    errors: str | None = None
    """The error file, where one was named."""

    @property
    def attributes(self) -> dict[str, str]:
        """The attributes of every message, beside its custom id."""
        named = {"batch_id": self.batch_id, BEGUN_ATTRIBUTE: self.begun, "priority": self.priority}
        return {name: value for name, value in named.items() if value}

    @property
    def seconds_past_deadline(self) -> float:
        """How long ago the deadline was; 0 or less where it is to come, or there is none."""
        return _seconds_past(self.rules.deadline)


def _seconds_past(deadline: str | None) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(deadline.upper())).total_seconds() if deadline else 0.0


def paths_of(answers: str, options: Options) -> Paths:
    """The files that belong to the name of an output file, in the form that the batch was begun in, if it was."""
    paths = Paths.of(answers, options)
    if not paths.journal.exists():
        return paths
    with Journal(paths.journal) as journal:
        style = Style(journal.fact("style") or options.style)
        errors = options.errors or journal.fact("errors")
    return Paths.of(answers, replace(options, style=style, errors=errors))


def begin(
    requests: str,
    paths: Paths,
    options: Options,
    wrong: Callable[[Problem], None],
    tick: Callable[[int], None] | None = None,
    *,
    sent_elsewhere: bool = False,
) -> None:
    """Begin the batch whose output is `paths.output`, unless it was begun before; then see that it is the same.

    `wrong` gets each line that cannot be sent, `tick` each line's number. Nothing is sent; with `sent_elsewhere`
    another machine does that. Raises CannotRun.
    """
    with Journal(paths.journal, create=True) as journal:
        if journal.fact("ready") is not None:
            _go_on(journal, requests, paths, options)
            return
        _claim_files(journal, paths)
        facts = {"sent_elsewhere": 1} if sent_elsewhere else {"begun": uuid.uuid4().hex[:12]}
        try:
            _import(journal, requests, paths, options, wrong, tick, facts)
        except CannotRun:
            _forget(journal, paths)
            raise


def _claim_files(journal: Journal, paths: Paths) -> None:
    """See that the output is nobody else's; then note that what stands in it is this batch's."""
    if journal.fact("began") is not None:
        return
    for path in paths.outputs:
        if path.exists() and path.stat().st_size:
            journal.remove()
            raise CannotRun(
                f"{path} exists, and no journal says that it is this batch's: choose another name (-o), or move it away"
            )
    with journal.transaction():
        journal.note(began=time.time())


def _forget(journal: Journal, paths: Paths) -> None:
    journal.remove()
    for path in (*paths.outputs, paths.spool):
        path.unlink(missing_ok=True)


def _import(
    journal: Journal,
    requests: str,
    paths: Paths,
    options: Options,
    wrong: Callable[[Problem], None],
    tick: Callable[[int], None] | None,
    facts: Mapping[str, object],
) -> None:
    if files.is_standard(requests):
        files.spool(paths.spool)
    source, rules = _source(requests, paths), rules_of(options)
    with Outputs(journal, paths.output, paths.errors) as outputs, journal.transaction():
        keep = partial(_enter_bad, journal, outputs, wrong)
        with files.unchanged(source):
            contents = check.examine(source, rules, journal.enter, keep, tick)
            fingerprint = files.fingerprint(source)
        _refuse_if_hopeless(requests, contents, options)
        outputs.commit()
        journal.note(ready=1, fingerprint=fingerprint, **_facts(source, contents, options), **facts)


def _source(requests: str, paths: Paths) -> str:
    """The file that is read: standard input's copy, or the one that was given."""
    return str(paths.spool) if files.is_standard(requests) else requests


def _enter_bad(journal: Journal, outputs: Outputs, wrong: Callable[[Problem], None], problem: Problem) -> None:
    wrong(problem)
    name = problem.custom_id or nameless(problem.line)
    text = line_not_run(name, problem.line, problem.code, str(problem), problem.param)
    offset, length = outputs.append(LineState.FAILED, text)
    journal.enter_bad(LineOutcome(problem.line, LineState.FAILED, offset, length, code=problem.code))


def _refuse_if_hopeless(requests: str, contents: Contents, options: Options) -> None:
    if reason := check.hopeless(requests, contents):
        raise CannotRun(reason)
    if options.strict and contents.bad:
        raise CannotRun(f"{requests}: {contents.bad} lines cannot be sent, and --strict was given. Nothing was sent.")


def _facts(source: str, contents: Contents, options: Options) -> dict[str, object]:
    batch_id = options.batch_id or f"batch-{uuid.uuid4().hex[:20]}"
    if not _BATCH_ID.fullmatch(batch_id):
        raise CannotRun("--batch-id is a letter and up to 99 letters, digits, dots, dashes and underscores")
    topic = names.request_topic(options.topic, options.project)
    project = options.project or names.project_of(topic)
    subscription = options.subscription or f"relay-{batch_id}"
    return {
        "batch_id": batch_id,
        "requests": _place(source),
        "form": contents.form,
        "style": options.style.value,
        "errors": options.errors and str(Path(options.errors).resolve()),
        "topic": topic,
        "responses": names.response_topic(options.responses, project),
        "subscription": names.full_name("subscriptions", subscription, project),
        "own_subscription": int(options.subscription is None),
        "priority": options.priority,
        "deadline": options.deadline,
        "model": options.model,
        "allowed_paths": ",".join(rules_of(options).allowed_paths),
    }


def _place(source: str) -> str:
    return source if objects.is_object(source) else str(Path(source).resolve())


def rules_of(options: Options) -> LineRules:
    """How the lines of a new batch are read."""
    allowed = {} if options.allowed_paths is None else {"allowed_paths": tuple(options.allowed_paths)}
    return LineRules(**allowed, deadline=options.deadline, model=options.model)


def _see_that_it_is_the_same_file(journal: Journal, requests: str, paths: Paths) -> None:
    if _fingerprint_again(requests, paths) != journal.fact("fingerprint"):
        raise CannotRun(
            f"{requests} is not the file that this batch was begun with ({journal.fact('requests')}), or was changed "
            "since. Put new or mended lines into a file of their own, with another output file (-o). Or remove "
            f"{listed((paths.journal, *paths.outputs))} to begin anew: every line of this file is sent then, and paid "
            "for, also what was sent before."
        )


def _go_on(journal: Journal, requests: str, paths: Paths, options: Options) -> None:
    _see_that_it_is_the_same_file(journal, requests, paths)
    source = _source(requests, paths)
    if not files.is_standard(requests) or Path(source).exists():
        with journal.transaction():  # what was looked at now is sent from: it may have been moved
            journal.note(requests=_place(source))
    _take_up(journal, options)


def take_up(paths: Paths, options: Options) -> None:
    """Go on with a batch that was begun: with another deadline, if one is given. Raises CannotRun for other changes."""
    with Journal(paths.journal) as journal:
        _take_up(journal, options)


def _take_up(journal: Journal, options: Options) -> None:
    plan = plan_of(journal)
    _see_that_it_was_begun_so(plan, options)
    if options.deadline not in (None, plan.rules.deadline):
        with journal.transaction():
            journal.note(deadline=options.deadline)


def _see_that_it_was_begun_so(plan: Plan, options: Options) -> None:
    asked_paths = None if options.allowed_paths is None else ",".join(sorted(set(options.allowed_paths)))
    for name, asked, begun in (
        ("--topic", options.topic, _as_long_as(options.topic, plan.topic)),
        ("--responses", options.responses, _as_long_as(options.responses, plan.responses)),
        ("--subscription", options.subscription, _as_long_as(options.subscription, plan.subscription)),
        ("--errors", options.errors and Path(options.errors).name, plan.errors and Path(plan.errors).name),
        ("--batch-id", options.batch_id, plan.batch_id),
        ("--format", None if options.style is Style.OPENAI else options.style, plan.style),
        ("--model", options.model, plan.rules.model),
        ("--priority", options.priority, plan.priority),
        ("--allowed-paths", asked_paths, ",".join(sorted(set(plan.rules.allowed_paths)))),
    ):
        if asked and asked != begun:
            how = f"with {name} {begun}" if begun else f"without {name}"
            raise CannotRun(f"this batch was begun {how}: leave {name} out, or give another output file")


def _as_long_as(asked: str | None, name: str) -> str:
    """A full name, or its last part where a short one was asked for."""
    return name if asked and "/" in asked else name.rsplit("/", 1)[-1]


def see_that_it_can_end_well(journal: Journal, options: Options) -> None:
    """Take up a batch whose failed lines are to be sent again. Raises CannotRun where its deadline has passed."""
    deadline = options.deadline or plan_of(journal).rules.deadline
    if _seconds_past(deadline) > 0:
        raise CannotRun(
            f"the batch's deadline, {deadline}, has passed: what is sent again would only expire. Give a new one to "
            "`batch retry`: --deadline 8h"
        )
    _take_up(journal, options)


def _fingerprint_again(requests: str, paths: Paths) -> str:
    if not files.is_standard(requests):
        return files.fingerprint(requests)
    again = paths.spool.with_name(paths.spool.name + ".again")
    files.spool(again)
    try:
        return files.fingerprint(str(again))
    finally:
        again.unlink()


def plan_of(journal: Journal) -> Plan:
    """What a batch was begun with. Raises CannotRun where it was not."""
    if journal.fact("ready") is None:
        raise CannotRun(f"{journal.path}: the batch was not begun; its file was still being checked. Run it again.")
    facts = {key: journal.fact(key) or "" for key in ("batch_id", "requests", "topic", "responses", "subscription")}
    return Plan(
        **facts,
        form=Form(journal.fact("form") or ""),
        style=Style(journal.fact("style") or ""),
        rules=LineRules(
            tuple((journal.fact("allowed_paths") or "").split(",")), journal.fact("deadline"), journal.fact("model")
        ),
        own_subscription=bool(journal.number("own_subscription")),
        priority=journal.fact("priority"),
        begun=journal.fact("begun") or "",
        errors=journal.fact("errors"),
    )


@contextmanager
def alone(journal: Path) -> Iterator[None]:
    """See that no other process works on this batch; the lock ends with the process, however that ends."""
    try:
        handle = os.open(journal, os.O_RDONLY | os.O_CREAT, 0o644)
    except OSError as error:
        raise CannotRun(
            f"the journal {journal} cannot be made: {error.strerror}. It stands beside the output file: give one in a "
            "folder that is there and yours to write to, or --journal"
        ) from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise CannotRun(f"another process works on {journal}: let it finish, or end it first") from None
    try:
        yield
    finally:
        os.close(handle)

"""Tells somebody that a batch is over: a topic, or a command."""

import shlex
import subprocess

from handler.batch.errors import CannotRun, NotTaken, OutcomeUnknown
from handler.batch.pubsub import Outgoing, Topic
from handler.batch.work.summary import Summary
from handler.rules import strictjson

_SECONDS = 300.0


def notify(target: str, summary: Summary) -> None:
    """Publish the summary to projects/ID/topics/NAME, or run a command with it as its standard input.

    Raises CannotRun; the batch itself is over by then.
    """
    text = strictjson.dumps(summary.as_dict())
    if target.startswith("projects/"):
        _publish(target, text, summary)
    else:
        _run(target, text)


def _publish(topic: str, text: bytes, summary: Summary) -> None:
    attributes = {"batch_id": summary.batch_id, "end": str(summary.end)}
    try:
        with Topic(topic) as opened:
            opened.publish([Outgoing(text, attributes)])
    except (NotTaken, OutcomeUnknown) as error:
        raise CannotRun(f"--notify: {topic} did not take the message: {error}") from None


def _run(command: str, text: bytes) -> None:
    try:
        subprocess.run(shlex.split(command), input=text, check=True, timeout=_SECONDS)  # noqa: S603 - the person's own
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise CannotRun(f"--notify: {error}") from None

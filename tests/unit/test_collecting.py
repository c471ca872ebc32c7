"""How answers are taken into a batch's files and its journal, beside others who write there."""

import hashlib
import json
import threading
from contextlib import contextmanager

from handler.batch.lines.answers import Style
from handler.batch.lines.check import LineRules
from handler.batch.lines.formats import Form
from handler.batch.pubsub import Received
from handler.batch.work.beginning import Plan
from handler.batch.work.collecting import Collector
from handler.batch.work.journal import Journal, LineOutcome, LineState
from handler.batch.work.outputs import Outputs

PLAN = Plan("b", "r.jsonl", Form.OPENAI, Style.OPENAI, LineRules(), "t", "r", "s", True, None)
CONTENT = b'{"n": 1}'


class Acks:
    """What was acked, in one go each."""

    def __init__(self):
        self.acked = []

    def ack(self, received):
        self.acked.append([each.ack_id for each in received])


def answer(custom_id, body, **attributes):
    """A response of the relay's."""
    document = {"status_code": 200, "metadata": {}, "body": body}
    named = {"batch_id": "b", "custom_id": custom_id, "request_message_id": f"m-{custom_id}", **attributes}
    return Received(f"ack-{custom_id}", json.dumps(document).encode(), named, "", "1", 0.0)


def large(custom_id):
    """One that refers to its content."""
    digest = hashlib.sha256(CONTENT).hexdigest()
    uri, kind = f"gs://bucket/{custom_id}", "application/json"
    reference = {"uri": uri, "bytes": len(CONTENT), "content_type": kind, "sha256": digest}
    return answer(custom_id, {"content_ref": reference}, content_ref="true")


@contextmanager
def collecting_to(folder, lines=2, kind=Journal, **options):
    """A collector of a batch whose lines, "1" and so on, were sent; its journal and its outputs."""
    with (
        kind(folder / "j", create=True) as journal,
        Outputs(journal, folder / "a.jsonl", folder / "e.jsonl") as outputs,
    ):
        with journal.transaction():
            for line in range(1, lines + 1):
                journal.enter(line, f"{line}")
            journal.confirm_sent(journal.begin_sending(range(1, lines + 1)), [""] * lines)
        yield Collector(journal, outputs, PLAN, threading.Event(), **options), journal, outputs


class Overtaken(Journal):
    """A journal in which an answer to line 1 is noted just before a transaction that somebody else begins."""

    late = None

    @contextmanager
    def transaction(self):
        late, self.late = self.late, None
        if late:
            late()
        with super().transaction():
            yield


def test_an_answer_that_comes_while_the_rest_is_given_up(tmp_path):
    """What an answer has ended stays answered, and is in one file alone."""
    with collecting_to(tmp_path, kind=Overtaken) as (collector, journal, outputs):

        def end_line_1():
            with journal.transaction():
                place = outputs.append(LineState.SUCCEEDED, b"paid for\n")
                outputs.commit()
                journal.end(LineOutcome(1, LineState.SUCCEEDED, *place), LineState.SENT)

        journal.late = end_line_1
        collector.give_up("batch_cancelled", "It was cancelled.")
        assert journal.find("1").state is LineState.SUCCEEDED
        assert journal.find("2").state is LineState.FAILED
        counts = journal.counts()
        assert (counts.sent, counts.succeeded, counts.failed) == (0, 1, 1)
    assert [json.loads(line)["custom_id"] for line in (tmp_path / "e.jsonl").read_text().splitlines()] == ["2"]

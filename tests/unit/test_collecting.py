"""How answers are taken into a batch's files and its journal, beside others who write there."""

import hashlib
import json
import sqlite3
import threading
from contextlib import contextmanager
from dataclasses import replace

import pytest

from handler.batch.errors import CannotRun
from handler.batch.lines import objects
from handler.batch.lines.answers import Style
from handler.batch.lines.check import LineRules
from handler.batch.lines.formats import Form
from handler.batch.options import DRAIN_SECONDS
from handler.batch.pubsub import LEASE_SECONDS, Received
from handler.batch.work import collecting, journal
from handler.batch.work.beginning import Plan
from handler.batch.work.collecting import Collector
from handler.batch.work.journal import Journal, LineOutcome, LineState
from handler.batch.work.outputs import Outputs

PLAN = Plan("b", "r.jsonl", Form.OPENAI, Style.OPENAI, LineRules(), "t", "r", "s", True, None)
CONTENT = b'{"n": 1}'


class Acks:
    """What was acked, in one go each, and what was leased anew; `pulled` waits behind what was taken."""

    def __init__(self, *pulled):
        self.acked, self.leased, self.pulled = [], [], pulled

    def stop(self):
        return self.pulled

    def lease(self, received, seconds):
        self.leased.append(([each.ack_id for each in received], seconds))

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


def test_others_write_while_content_is_fetched(tmp_path, monkeypatch):
    """The journal is free for other threads and processes for as long as Cloud Storage takes."""
    fetched = []

    def content(uri):
        other = sqlite3.connect(tmp_path / "j", timeout=0)
        other.execute("INSERT OR REPLACE INTO facts VALUES ('other', ?)", (uri,))
        other.commit()
        other.close()
        fetched.append(uri)
        return CONTENT

    monkeypatch.setattr(objects, "content", content)
    acks = Acks()
    with collecting_to(tmp_path, fetch_bodies=True) as (collector, journal, _):
        collector._take(acks, [large("1"), answer("2", {"small": True}), large("1"), large("3")])
        assert set(fetched) == {"gs://bucket/1"}
        fetched.clear()
        collector._take(acks, [large("1")])
        assert journal.counts().succeeded == 2
        assert (journal.number("duplicates"), journal.number("unexpected")) == (2, 1)
    assert not fetched
    assert [json.loads(line)["response"]["body"] for line in (tmp_path / "a.jsonl").read_text().splitlines()] == [
        {"n": 1},
        {"small": True},
    ]
    assert [each for acked in acks.acked for each in acked] == ["ack-1", "ack-2", "ack-1", "ack-3", "ack-1"]


def test_large_answers_are_noted_in_portions(tmp_path, monkeypatch):
    """What is read is bounded: so many bytes are in their file, and acked, before more is fetched.

    What waits for its turn is leased anew, or it would come again meanwhile.
    """
    acks, seen = Acks(), []

    def content(uri):
        seen.append((uri, len(acks.acked)))
        return CONTENT

    monkeypatch.setattr(objects, "content", content)
    monkeypatch.setattr(collecting, "_MOST_BYTES", len(CONTENT))
    with collecting_to(tmp_path, lines=3, fetch_bodies=True) as (collector, _, _):
        collector._take(acks, [large("1"), large("2"), large("3")])
    assert seen == [("gs://bucket/1", 0), ("gs://bucket/2", 1), ("gs://bucket/3", 2)]
    assert acks.leased == [(["ack-2", "ack-3"], LEASE_SECONDS), (["ack-3"], LEASE_SECONDS)]


def test_what_is_leased_comes_before_a_batch_is_drained():
    """What a killed process had comes again before the next one takes it for never answered."""
    assert LEASE_SECONDS <= DRAIN_SECONDS


def test_what_a_failure_leaves_is_given_back(tmp_path, monkeypatch):
    """Whoever takes up the batch next gets it at once; this process pulls it no more."""
    acks = Acks(large("4"))

    def content(uri):
        if uri == "gs://bucket/2":
            raise CannotRun(uri)
        return CONTENT

    monkeypatch.setattr(objects, "content", content)
    monkeypatch.setattr(collecting, "_MOST_BYTES", len(CONTENT))
    with collecting_to(tmp_path, lines=3, fetch_bodies=True) as (collector, _, _), pytest.raises(CannotRun):
        collector._take(acks, [large("1"), large("2"), large("3")])
    assert acks.acked == [["ack-1"]]
    assert acks.leased[-1] == (["ack-2", "ack-3", "ack-4"], 0)


def test_told_to_stop_it_fetches_no_more(tmp_path, monkeypatch):
    """What it has by then is noted, and the rest is given back."""
    acks, fetched = Acks(), []
    with collecting_to(tmp_path, lines=3, fetch_bodies=True) as (collector, journal, _):

        def content(uri):
            fetched.append(uri)
            collector._stop.set()
            return CONTENT

        monkeypatch.setattr(objects, "content", content)
        collector._take(acks, [large("1"), large("2"), large("3")])
        assert journal.counts().succeeded == 1
    assert fetched == ["gs://bucket/1"]
    assert (acks.acked, acks.leased) == ([["ack-1"]], [(["ack-2", "ack-3"], 0)])


def test_content_that_is_gone(tmp_path, monkeypatch):
    """Where what an answer refers to is not to be had, the sentence says how to go on without it."""

    def content(uri):
        raise CannotRun(f"{uri}: 404")

    monkeypatch.setattr(objects, "content", content)
    with (
        collecting_to(tmp_path, fetch_bodies=True) as (collector, _, _),
        pytest.raises(CannotRun, match=r"404\. Leave --fetch-bodies out"),
    ):
        collector._take(Acks(), [large("1")])


def test_a_journal_that_another_process_holds(tmp_path, monkeypatch):
    """The advice is for what is wrong: to wait for the other process, and not to make room."""
    connect = sqlite3.connect
    monkeypatch.setattr(journal.sqlite3, "connect", lambda path, **given: connect(path, **{**given, "timeout": 0}))
    with (
        Journal(tmp_path / "j", create=True) as first,
        Journal(tmp_path / "j") as second,
        first.transaction(),
        pytest.raises(CannotRun, match="another process holds it") as told,
        second.transaction(),
    ):
        pass
    assert "room" not in str(told.value)


def test_the_lines_are_counted_when_somebody_asks(tmp_path, monkeypatch):
    """To look up a fact reads no whole table; the counts are right whenever they are asked for first."""
    asked, connect = [], journal._connect

    def traced(path):
        db = connect(path)
        db.set_trace_callback(asked.append)
        return db

    with collecting_to(tmp_path, lines=3):
        pass
    monkeypatch.setattr(journal, "_connect", traced)
    with Journal(tmp_path / "j") as opened:
        opened.fact("style")
        with opened.transaction():
            opened.end(LineOutcome(1, LineState.SUCCEEDED, 0, 1, tokens_in=2, tokens_out=3), LineState.SENT)
        assert not [query for query in asked if "count(*)" in query or "sum(" in query]
        assert (opened.counts().sent, opened.counts().succeeded, opened.tokens) == (2, 1, 5)
        with opened.transaction():
            opened.end(LineOutcome(2, LineState.FAILED, 0, 1, tokens_in=1), LineState.SENT)
        assert (opened.counts().sent, opened.counts().failed, opened.tokens) == (1, 1, 6)


def test_errors_are_heard(tmp_path):
    """An error is an answer; a line that could not be sent is none. The next run knows of it."""
    with collecting_to(tmp_path) as (collector, journal, outputs):
        with journal.transaction():
            journal.enter_bad(LineOutcome(3, LineState.FAILED, *outputs.append(LineState.FAILED, b"bad\n"), code="x"))
            outputs.commit()
        assert not Collector(journal, outputs, PLAN, threading.Event()).heard
        document = {"status_code": 503, "metadata": {}, "body": {"error": {"code": "model_failed"}}}
        message = replace(answer("1", {}), data=json.dumps(document).encode())
        collector._take(Acks(), [message])
        assert collector.heard
        assert Collector(journal, outputs, PLAN, threading.Event()).heard

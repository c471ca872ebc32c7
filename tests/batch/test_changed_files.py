"""Files that are moved, changed or damaged between the steps of a batch: nothing wrong is sent or written for it."""

import gzip
import hashlib
import json
import os
import shutil
import sqlite3
from contextlib import closing, suppress

import pytest

from handler import batch
from handler.batch.work.journal import Journal, LineState
from handler.batch.work.outputs import Outputs

from .conftest import openai_line, read_lines, states, write_lines


@pytest.fixture
def begun(local_place, files):
    """A batch of two requests that is begun, with nothing sent."""
    write_lines(files.requests, [openai_line("a"), openai_line("b")])
    assert local_place.run("batch", "submit", *files.command[2:], "--max-tokens-total", 1).returncode == 1
    assert states(files.journal)["pending"] == 2
    return files


def prompts(place):
    """What the model was asked, by custom id."""
    return {custom_id: request["body"]["prompt"] for custom_id, *_, request in place.calls()}


def test_the_file_that_is_given_now_is_sent(local_place, begun):
    """It may have been moved, and another one stand where it was."""
    moved = local_place.folder / "moved.jsonl"
    shutil.copy(begun.requests, moved)
    write_lines(begun.requests, [openai_line("a", "another"), openai_line("b", "another")])
    done = local_place.run("batch", "run", moved, "-o", begun.answers)
    assert done.returncode == 0, done.stderr
    assert prompts(local_place) == {"a": "Say hello.", "b": "Say hello."}


def test_the_same_file_on_standard_input(local_place, begun):
    """It is known again, and what is sent is the file that the batch was begun with."""
    done = local_place.run("batch", "run", "-", "-o", begun.answers, stdin=begun.requests.read_text())
    assert done.returncode == 0, done.stderr
    assert local_place.asked() == {"a": 1, "b": 1}


@pytest.mark.parametrize(
    ("lines", "number"),
    [([openai_line("b"), openai_line("a")], 1), ([openai_line("a")], 2), ([openai_line("a"), "{cut off"], 2)],
    ids=["moved", "fewer", "cut off"],
)
def test_a_file_that_changes_after_it_was_checked(local_place, begun, lines, number):
    """No line is sent for another one, nor looked for without end."""
    write_lines(begun.requests, lines)
    with closing(sqlite3.connect(begun.journal)) as database, database:
        digest = hashlib.sha256(begun.requests.read_bytes()).hexdigest()
        database.execute("UPDATE facts SET value = ? WHERE key = 'fingerprint'", (digest,))
    done = local_place.run(*begun.command)
    assert (done.returncode, f"line {number} is not the request that it was" in done.stderr) == (2, True), done.stderr
    assert local_place.calls() == []
    assert states(begun.journal)["pending"] == 2


def test_a_file_that_is_still_written(local_place, files, monkeypatch):
    """What comes while it is read would be missing without a word."""
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", local_place.project)
    write_lines(files.requests, [openai_line("a"), openai_line("b")])

    def more(line):
        if line == 1:
            write_lines(files.requests, [openai_line(name) for name in ("a", "b", "c")])

    with pytest.raises(batch.CannotRun, match="was changed while it was read"):
        batch.submit(str(files.requests), str(files.answers), tick=more)
    assert not files.journal.exists()
    assert local_place.calls() == []


@pytest.mark.parametrize("ending", ["gz", "zst"])
def test_a_damaged_file(local_place, files, ending):
    """It is said in a sentence."""
    text = b"".join(json.dumps(openai_line(os.urandom(20).hex())).encode() + b"\n" for _ in range(500))
    if ending == "zst":
        zstd = pytest.importorskip("backports.zstd")
    packed = bytearray(gzip.compress(text) if ending == "gz" else zstd.compress(text))
    packed[10:60] = b"\xff" * 50
    name = local_place.folder / f"requests.jsonl.{ending}"
    name.write_bytes(packed)
    done = local_place.run("batch", "run", name, "-o", files.answers)
    assert (done.returncode, f"{name} is damaged" in done.stderr) == (2, True), done.stderr


@pytest.mark.parametrize("sizes", [{"a": 5, "b": 50}, {"a": 5, "b": 5}], ids=["of any length", "of one length"])
def test_an_output_that_somebody_has_sorted(local_place, files, sizes):
    """Its lines are not where the journal has them: it is left as it is."""
    lines = [openai_line(name, json.dumps({"size": size})) for name, size in sizes.items()]
    write_lines(files.requests, [*lines, openai_line("bad", json.dumps({"status": 400}))])
    assert local_place.run(*files.command).returncode == 1
    changed = "".join(reversed(files.answers.read_text().splitlines(keepends=True)))
    files.answers.write_text(changed)
    done = local_place.run("batch", "retry", files.answers)
    assert (done.returncode, f"{files.answers} was changed" in done.stderr) == (2, True), done.stderr
    assert files.answers.read_text() == changed
    assert [line["custom_id"] for line in read_lines(files.errors)] == ["bad"]


def test_where_the_errors_go(local_place, files):
    """To the file that the batch was begun with, without a word in the later commands."""
    write_lines(files.requests, [openai_line("a", json.dumps({"status": 400}))])
    errors = local_place.folder / "what-failed.jsonl"
    assert local_place.run(*files.command, "--errors", errors).returncode == 1
    assert len(read_lines(errors)) == 1
    done = local_place.run(*files.command, "--errors", files.answers.with_name("others.jsonl"))
    assert (done.returncode, "begun with --errors what-failed.jsonl" in done.stderr) == (2, True), done.stderr
    assert local_place.run("batch", "retry", files.answers).returncode == 0
    assert read_lines(errors) == []
    assert not files.errors.exists()


def test_what_is_written_in_vain(tmp_path):
    """What stands in a file from a transaction that came to nothing is not there for the next one."""
    output, errors = tmp_path / "answers.jsonl", tmp_path / "errors.jsonl"
    with Journal(tmp_path / "journal", create=True) as journal, Outputs(journal, output, errors) as outputs:
        outputs.rewrite()
        with suppress(KeyboardInterrupt), journal.transaction():
            outputs.append(LineState.FAILED, b"gone\n")
            raise KeyboardInterrupt
        with journal.transaction():
            assert outputs.append(LineState.FAILED, b"there\n") == (0, 6)
            outputs.commit()
    assert errors.read_bytes() == b"there\n"

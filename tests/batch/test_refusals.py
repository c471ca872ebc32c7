"""What keeps a batch from being sent, and what is said of it."""

import json
import resource

from .conftest import openai_line, states, until, write_lines


def test_dry_run_and_check(local_place, files):
    """They say what is in the file, every problem at once, and send nothing."""
    write_lines(files.requests, [openai_line("a"), openai_line("a"), "{bad", openai_line("b")])
    done = local_place.run(*files.command, "--dry-run", "--slots", 2, "--seconds", 60)
    assert done.returncode == 1
    assert "It would take: 60 s." in done.stdout
    assert "Nothing was sent." in done.stdout
    assert not files.journal.exists()
    done = local_place.run("batch", "check", files.requests)
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == "line 2: `custom_id` 'a' was given to an earlier line already."
    assert done.stderr.splitlines()[1].startswith("line 3: Not JSON")
    done = local_place.run(*files.command, "--strict")
    assert (done.returncode, "Nothing was sent" in done.stderr) == (2, True)
    assert not files.journal.exists()
    assert not files.answers.exists()
    assert local_place.calls() == []


def test_what_cannot_run_says_why(local_place, files):
    """Each reason has a sentence and exit status 2, and nothing is sent or overwritten."""

    def fails(*arguments):
        done = local_place.run(*arguments)
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr
        assert local_place.calls() == []
        return done.stderr

    assert "No such file" in fails("batch", "run", "missing.jsonl", "-o", files.answers)
    write_lines(files.requests, ["id,prompt", "1,hello"])
    for command in (files.command, (*files.command, "--dry-run")):
        assert "none of its 2 lines can be sent. Nothing was sent. A request is a line of JSON" in fails(*command)
    write_lines(files.requests, [])
    for command in (files.command, ("batch", "check", files.requests)):
        assert "it has no requests" in fails(*command)
    assert {each.name for each in local_place.folder.iterdir()} <= {files.requests.name, local_place.calls_file.name}
    for folder in ("missing", files.requests):  # not there; no folder
        assert "the journal" in fails("batch", "run", files.requests, "-o", f"{folder}/answers.jsonl")
    write_lines(files.requests, [openai_line("a")])
    assert "No such file" in fails(*files.command, "--errors", "missing/errors.jsonl")
    files.journal.unlink()
    write_lines(files.requests, [openai_line("a")])
    assert "Ask your platform team" in fails(*files.command, "--topic", "missing")
    files.journal.unlink()
    files.answers.write_text("somebody's\n")
    assert "no journal says that it is this batch's" in fails(*files.command)
    assert files.answers.read_text() == "somebody's\n"
    assert "no batch was begun" in fails("batch", "status", files.answers)
    missing = fails("batch", "run", files.requests, "-o", "b.jsonl", "--responses", "missing")
    assert "--responses" in missing
    assert "Its topics are in the project `local`" in missing


def test_a_disk_that_is_full(local_place, files):
    """It is a sentence, and once there is room the same command goes on: each line is sent once, and answered."""
    count, room = 1_000, 100 << 10
    write_lines(files.requests, [openai_line(str(number), "x" * 300) for number in range(count)])
    full = local_place.start(*files.command, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room, room)))
    assert full.returncode == 2
    assert "cannot be written" in full.stderr.splitlines()[-1]
    assert "Traceback" not in full.stderr
    with local_place.relay():
        done = local_place.run(*files.command, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["answered"] == count
    assert set(local_place.asked().values()) == {1}


def test_another_file_or_another_process(local_place, files):
    """A journal is for one file, one topic, one form and one process at a time."""
    write_lines(files.requests, [openai_line(f"{n}") for n in range(100)])
    with local_place.running(*files.command, "--rate", 5):
        until(lambda: states(files.journal)["sent"] > 0)
        done = local_place.run(*files.command)
        assert (done.returncode, "another process works on" in done.stderr) == (2, True)
    for option, other in (("--topic", "other"), ("--topic", "projects/other/topics/requests"), ("--format", "vllm")):
        done = local_place.run(*files.command, option, other)
        assert (done.returncode, f"begun with {option}" in done.stderr) == (2, True)
    write_lines(files.requests, [openai_line("other")])
    done = local_place.run(*files.command)
    assert (done.returncode, "not the file that this batch was begun with" in done.stderr) == (2, True)
    assert "Put new or mended lines into a file of their own" in done.stderr

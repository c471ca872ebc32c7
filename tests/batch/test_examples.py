"""The examples work as they say, and the library does what the commands do."""

import subprocess
import sys

from tests.parts.processes import ROOT

from .conftest import read_lines

EXAMPLES = ROOT / "examples"


def example(place, name, *arguments, stdin=None):
    """Run an example."""
    done = subprocess.run(
        [sys.executable, EXAMPLES / name, *map(str, arguments)],
        env={**place.environment(), "PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        input=stdin,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_from_prompts_to_answers(local_place):
    """A batch file made with openai's types, run from Python, and read with openai's types."""
    batch, answers = local_place.folder / "batch.jsonl", local_place.folder / "answers.jsonl"
    batch.write_text(example(local_place, "make_batch.py", "m", stdin="Name a colour.\nName a fruit.\n"))
    assert [line["custom_id"] for line in read_lines(batch)] == ["prompt-1", "prompt-2"]
    with local_place.relay():
        assert "2 of 2 answered, 0 failed" in example(local_place, "run_batch.py", batch, answers)
    assert example(local_place, "read_answers.py", answers) == "prompt-1: xxxxx\nprompt-2: xxxxx\n"

"""Which files a person is told to remove, or to bring, for a batch to begin anew or to go on elsewhere."""

import json

import pytest

from handler.batch import CannotRun, Options, collect
from handler.batch.lines.answers import Style
from handler.batch.options import Paths
from handler.batch.work import beginning
from handler.batch.work.journal import Journal
from handler.batch.work.outputs import Outputs

LINE = {"custom_id": "1", "method": "POST", "url": "/v1/completions", "body": {"model": "m", "prompt": "hello"}}
OUTPUTS = {Style.OPENAI: ["a.jsonl", "a.errors.jsonl"], Style.VLLM: ["a.jsonl"]}


@pytest.fixture(params=Style)
def options(request):
    """Of a batch in each form, for which there are two files, or one."""
    return Options(style=request.param, project="p")


def names(told, folder):
    """The files that a sentence speaks of, in its order."""
    words = str(told.value).replace(f"{folder}/", "").replace(",", " ").replace(":", " ").split()
    return [word for word in words if word.startswith("a.")]


def begun(folder, options):
    """A batch."""
    requests, paths = folder / "r.jsonl", Paths.of(str(folder / "a.jsonl"), options)
    requests.write_text(json.dumps(LINE) + "\n")
    beginning.begin(str(requests), paths, options, lambda _: None)
    return requests, paths


def test_a_file_that_is_gone(tmp_path, options):
    """All of a batch's files go, or the next run refuses what is left."""
    requests, paths = begun(tmp_path, options)
    with Journal(paths.journal) as journal:
        with journal.transaction():
            journal.note(output_length=1)
        with pytest.raises(CannotRun, match="to begin anew") as told:
            Outputs(journal, paths.output, paths.errors)
    assert names(told, tmp_path) == ["a.jsonl", "a.jsonl.journal", *OUTPUTS[options.style]]
    for name in names(told, tmp_path):
        (tmp_path / name).unlink(missing_ok=True)
    beginning.begin(str(requests), paths, options, lambda _: None)


def test_a_file_that_has_changed(tmp_path, options):
    """Each is named once."""
    requests, paths = begun(tmp_path, options)
    requests.write_text(json.dumps(LINE | {"custom_id": "2"}) + "\n")
    with pytest.raises(CannotRun, match="to begin anew") as told:
        beginning.begin(str(requests), paths, options, lambda _: None)
    assert names(told, tmp_path) == ["a.jsonl.journal", *OUTPUTS[options.style]]


def test_a_journal_that_is_elsewhere(tmp_path, options):
    """Each that is to be copied is named once."""
    with pytest.raises(CannotRun, match="Copy") as told:
        collect(str(tmp_path / "a.jsonl"), options)
    assert names(told, tmp_path) == ["a.jsonl.journal", *OUTPUTS[options.style], "a.jsonl.journal*"]

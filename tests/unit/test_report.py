"""What a person is told when a command of the batch client ends."""

import pytest

from handler.batch import api, asking
from handler.batch.asking import NoAnswer, Where
from handler.batch.controlling import Reply
from handler.batch.lines.answers import Style
from handler.batch.options import Options, Paths
from handler.batch.terminal import cli, report
from handler.batch.work.journal import Journal


@pytest.mark.parametrize(
    ("style", "answers", "said"),
    [
        (Style.OPENAI, "a.jsonl", "every line is in one of the two files"),
        (Style.VLLM, "a.jsonl", "every line is in the output"),
        (Style.VLLM, "a.jsonl.gz", "every line is in the output"),
    ],
)
def test_a_batch_of_one_file_has_no_second(tmp_path, style, answers, said):
    """A summary names the files that there are."""
    paths = Paths.of(str(tmp_path / answers), Options(style=style))
    Journal(paths.journal, create=True).__exit__()
    summary = api._summed_up(paths, "completed", None)
    assert report.table(summary).title.endswith(said)
    assert summary.files["output"] == str(tmp_path / answers)
    assert (summary.files["errors"] == summary.files["output"]) is (style is Style.VLLM)


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (None, "Everything that was sent is answered: the relay has nothing to cancel."),
        (
            Reply("2030-01-31T12:00:00Z", {"answered": 2}, True, None, {}),
            "the model is not called any more for what was published before 2030-01-31T12:00:00Z. So far:",
        ),
    ],
)
def test_what_the_relay_says_to_a_cancel(monkeypatch, reply, said):
    """It says whether there was anything to cancel, and what the model is still called for."""
    monkeypatch.setattr(api, "cancel_sent", lambda *_, **__: reply)
    assert said in cli._told("a.jsonl", Options(), 1.0)


@pytest.mark.parametrize(
    ("where", "said"), [(Where(), "will be dropped"), (Where(subscription="mine"), "stays in mine")]
)
def test_what_becomes_of_an_answer_that_comes_late(monkeypatch, where, said):
    """A subscription made for one request goes with it; a given one keeps the answer."""
    monkeypatch.setattr(asking, "exchange", lambda *_: None)
    with pytest.raises(NoAnswer, match=said):
        asking.ask("/v1/completions", {}, where)

"""What a batch that is taken up again may change, and what it may not."""

import json
import sqlite3
from contextlib import closing
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handler import batch
from handler.batch import CannotRun, Options
from handler.batch.lines import formats
from handler.batch.work import session
from handler.rules.message import options as contract
from tests.parts.processes import until

from .conftest import openai_line, read_lines, write_lines

BATCH = "b" * 100


def test_a_deadline_that_has_passed(local_place, files, monkeypatch):
    """What expired is sent again with a new deadline, and not without one, when it could only expire once more."""
    write_lines(files.requests, [openai_line("a", json.dumps({"lose": 1}))])
    submit = ("batch", "submit", files.requests, "-o", files.answers, "--deadline", "2020-01-01T00:00:00Z")
    assert local_place.run(*submit).returncode == 0
    until(lambda: local_place.asked() == {"a": 1})
    monkeypatch.setattr(session, "DRAIN_SECONDS", 0.1)
    assert batch.run(str(files.requests), str(files.answers)).failed_by_code == {"batch_expired": 1}
    assert read_lines(files.errors)[0]["error"]["code"] == "batch_expired"

    for other in ((), ("--deadline", "2021-01-01T00:00Z")):
        done = local_place.run("batch", "retry", files.answers, *other)
        assert (done.returncode, "has passed" in done.stderr, "--deadline 8h" in done.stderr) == (2, True, True)
    done = local_place.run("batch", "retry", files.answers, "--deadline", "2099-01-31T12:00+01:00")
    assert done.returncode == 0, done.stderr
    assert local_place.run(*files.command).returncode == 0
    deadlines = [request["options"]["deadline"] for *_, request in local_place.calls()]
    assert deadlines == ["2020-01-01T00:00:00Z", "2099-01-31T11:00:00Z"]


def test_what_a_batch_was_begun_with(local_place, files):
    """A run that goes on takes another deadline; another model, priority or set of paths is refused."""
    write_lines(files.requests, [openai_line("a"), openai_line("b")])
    begun = ("--model", "m", "--allowed-paths", "/v1/completions,/v1/embeddings")
    assert local_place.run("batch", "submit", *files.command[2:], *begun).returncode == 0
    for option, other, said in (
        ("--model", "other", "begun with --model m"),
        ("--priority", "low", "begun without --priority"),
        ("--allowed-paths", "/v1/completions", "begun with --allowed-paths /v1/completions,/v1/embeddings"),
    ):
        for command in (files.command, ("batch", "collect", "-o", files.answers)):
            done = local_place.run(*command, option, other)
            assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    same = ("--model", "m", "--allowed-paths", "/v1/embeddings, /v1/completions")
    done = local_place.run(*files.command, *same, "--deadline", "2020-01-01T00:00:00Z")
    assert done.returncode == 0, done.stderr
    done = local_place.run("batch", "retry", files.answers)
    assert (done.returncode, "2020-01-01T00:00:00Z, has passed" in done.stderr) == (2, True), done.stderr


def test_a_line_that_no_longer_fits(local_place, files):
    """What a new deadline makes larger than a message may be fails with its code; the others are sent."""
    large = openai_line("large", "")
    made = formats.RequestLine(1, "large", "/v1/completions", {}, large["body"])
    large["body"]["prompt"] = "x" * (formats.MAX_DATA_BYTES - len(formats.encode(made, "b" * 100)))
    write_lines(files.requests, [large, openai_line("small")])
    submit = ("batch", "submit", *files.command[2:], "--max-tokens-total", 1, "--batch-id", BATCH)
    assert local_place.run(*submit).returncode == 1
    assert local_place.calls() == []
    done = local_place.run(*files.command, "--deadline", "2099-01-31T12:00:00Z", "--batch-id", BATCH)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    (line,) = read_lines(files.errors)
    assert (line["custom_id"], line["response"], line["error"]["code"]) == ("large", None, "request_too_large")
    assert local_place.asked() == {"small": 1}


def test_a_line_that_is_good_no_longer(local_place, files):
    """What this version refuses, and the one that checked the file took, fails with its code and its id."""
    write_lines(files.requests, [openai_line("a"), openai_line("odd", url="/v1/embeddings"), openai_line("b")])
    assert local_place.run("batch", "submit", *files.command[2:], "--max-tokens-total", 1).returncode == 1
    assert local_place.calls() == []
    with closing(sqlite3.connect(files.journal)) as database, database:
        database.execute("UPDATE facts SET value = '/v1/completions' WHERE key = 'allowed_paths'")
    done = local_place.run(*files.command)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False), done.stderr
    (line,) = read_lines(files.errors)
    assert (line["custom_id"], line["response"], line["error"]["code"]) == ("odd", None, "path_not_allowed")
    assert line["error"]["line"] == 2
    assert local_place.asked() == {"a": 1, "b": 1}


# A day and more from the ends of time: in UTC too it is in a year that there is.
TIMES = st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29), timezones=st.timezones())


@given(TIMES.map(lambda time: time.isoformat(timespec="minutes")))
def test_the_contract_takes_every_deadline(text):
    """Whatever form of a time with an offset is given, what is sent is one that the service takes, of the same time."""
    made = Options(deadline=text).deadline
    assert contract.Options(deadline=made).deadline == datetime.fromisoformat(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2030-01-31T12:00Z", "2030-01-31T12:00:00Z"),
        ("2030-01-31 12:00:00.5+01:00", "2030-01-31T11:00:00.500000Z"),
        ("20300131T120000Z", "2030-01-31T12:00:00Z"),
        ("2030-01-31t12:00:00z", "2030-01-31T12:00:00Z"),
        ("2030-01-31T12:00:00+01:00:30", "2030-01-31T10:59:30Z"),
        ("2030-01-31T12:00:00", None),
        ("2030-01-31", None),
        ("tomorrow", None),
        ("", None),
        ("0001-01-01T00:00:00+01:00", None),
    ],
)
def test_deadlines(text, expected):
    """A time with an offset becomes the form of the contract; what has none, or is none, is refused."""
    if expected is None:
        with pytest.raises(CannotRun):
            Options(deadline=text)
    else:
        assert Options(deadline=text).deadline == expected

"""A line is JSON, whatever is in it."""

import json
import logging
from datetime import datetime

import pytest

from handler.telemetry import logs


def line(**fields):
    """What is written of a record with these fields."""
    record = logging.makeLogRecord({"name": "handler.push", "levelname": "INFO", "msg": "answered", **fields})
    text = logs.formatter().format(record)
    assert text.isascii()
    assert "\n" not in text
    return json.loads(text)


@pytest.mark.parametrize("value", ["m", "a\nb", '"', "\u65e5\u672c", "\ud800", "\x00", 1, 0.5, None, True])
def test_any_value(value):
    """It comes back as it was, in ASCII: whatever a requester calls his model."""
    assert line(model=value)["model"] == value


def test_the_names_that_cloud_logging_knows():
    """Severity, message, and a time with its offset."""
    written = line()
    assert (written["severity"], written["message"], written["logger"]) == ("INFO", "answered", "handler.push")
    assert datetime.fromisoformat(written["time"]).tzinfo is not None


def test_what_is_no_plain_value():
    """It is written in words, and the line is not lost."""
    assert line(thing=object())["thing"]


def test_gunicorns_configuration_leaves_warnings_out():
    """They quote what strangers send."""
    assert {one["level"] for one in logs.for_gunicorn()["loggers"].values()} == {"ERROR"}


def test_explaining_costs_nothing_unless_it_is_asked_for(caplog):
    """Steps are lines at DEBUG, with the message's id."""
    caplog.set_level(logging.INFO, "handler.push")
    logs.explain({"message_id": "1"}, "a step %d", 1)
    assert caplog.records == []
    caplog.set_level(logging.DEBUG, "handler.push")
    logs.explain({"message_id": "1"}, "a step %d", 2)
    (record,) = caplog.records
    assert (record.getMessage(), record.message_id) == ("a step 2", "1")

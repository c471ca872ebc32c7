"""What the pages say is what the code does."""

import logging
import re
from pathlib import Path

from handler.rules.message.contract import ERRORS
from handler.rules.verdict.outcome import STATUS_AND_LEVEL

DOCS = Path(__file__).parents[2] / "docs"


def rows(page):
    """The tables of a page, a row a tuple of its cells."""
    lines = (DOCS / page).read_text().splitlines()
    return [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines if line.startswith("|")]


def test_every_error_code_is_on_the_page():
    """docs/contract.md lists the codes with their status, type and meaning."""
    listed = rows("contract.md")
    for code, kind in ERRORS.items():
        assert (f"`{code}`", str(kind.status_code), f"`{kind.type}`", kind.meaning) in listed


def test_every_reason_is_on_the_page():
    """docs/behaviour.md lists the reasons with their status and severity, in the order of the code."""
    listed = [(row[0], row[3], row[4]) for row in rows("behaviour.md") if re.fullmatch(r"`\w+`", row[0])]
    assert listed == [
        (f"`{reason}`", str(status), logging.getLevelName(level))
        for reason, (status, level) in STATUS_AND_LEVEL.items()
    ]

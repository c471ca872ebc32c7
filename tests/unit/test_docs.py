"""What the pages say is what the code does."""

import logging
import re
from pathlib import Path

from handler.commands import tables
from handler.config.settings import Settings
from handler.ledger.memory import MAX_ANSWERED
from handler.rules.message.contract import InferenceRequest
from handler.rules.message.options import Options
from handler.rules.verdict.outcome import FACTS

DOCS = Path(__file__).parents[2] / "docs"


def rows(page):
    """The tables of a page, a row a tuple of its cells."""
    lines = (DOCS / page).read_text().splitlines()
    return [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines if line.startswith("|")]


def test_the_table_of_error_codes_is_that_of_the_code():
    """docs/contract.md has what `make docs` writes there: each code with its status, type and meaning, and no other."""
    (table,) = re.findall(r"^\| code \| .*?(?=\n\n)", (DOCS / "contract.md").read_text(), re.M | re.S)
    assert table == tables.of_errors()


def test_how_much_is_remembered_is_on_the_pages():
    """The bound of an instance's own memory, where somebody relies on it."""
    pages = [(DOCS / page).read_text() for page in ("reliability.md", "behaviour.md", "settings.md")]
    described = Settings.model_fields["answered_ttl_seconds"].description
    assert all(f"the last {MAX_ANSWERED:,} at most" in " ".join(text.split()) for text in (*pages, described))


def test_every_field_of_a_request_is_on_the_page():
    """docs/contract.md has a row for each, and for each of the options."""
    listed = {row[0].strip("`") for row in rows("contract.md")}
    fields = InferenceRequest.model_fields.keys() - {"options"}
    assert fields | {f"options.{name}" for name in Options.model_fields} <= listed


def test_every_reason_is_on_the_page():
    """docs/behaviour.md lists the reasons with their status and severity, in the order of the code."""
    listed = [(row[0], row[3], row[4]) for row in rows("behaviour.md") if re.fullmatch(r"`\w+`", row[0])]
    assert listed == [
        (f"`{reason}`", str(facts.status), logging.getLevelName(facts.level)) for reason, facts in FACTS.items()
    ]


def test_what_is_another_in_each_project_is_in_one_line():
    """docs/publish.md's program has each name that a reader has to change in the first line after its imports."""
    (script,) = re.findall(r"^```python\n(.*?)^```$", (DOCS / "publish.md").read_text(), re.M | re.S)
    _, names, rest = re.split(r"^(PROJECT, .*)$", script, flags=re.M)
    values = re.findall(r'"([^"]+)"', names)
    assert {"local", "requests", "responses", "smollm2"} <= set(values)
    assert [value for value in values if f'"{value}"' in rest] == []

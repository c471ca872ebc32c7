"""docs/dependencies.md is the list of what pyproject.toml asks for."""

import re
import tomllib

import pytest
from packaging.requirements import Requirement

from tests.docs.pages import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ASKED = {"The service": PROJECT["dependencies"]} | {
    f"The extra `{name}`": lines for name, lines in PROJECT["optional-dependencies"].items()
}


def sections():
    """The rows of each section's table."""
    parts = re.split(r"^## (.*)$", (ROOT / "docs/dependencies.md").read_text(), flags=re.M)
    return {
        title: [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| `")]
        for title, text in zip(parts[1::2], parts[2::2], strict=True)
    }


def test_the_sections_are_the_extras():
    """One for the service, one for each extra."""
    assert list(sections()) == list(ASKED)


@pytest.mark.parametrize("title", ASKED)
def test_every_dependency_is_listed_and_no_other(title):
    """By name, in its section, once."""
    listed = [name for row in sections()[title] for name in re.findall(r"`([^`]+)`", row[0])]
    assert sorted(listed) == sorted({Requirement(line).name for line in ASKED[title]})


def test_every_row_says_what_for():
    """An empty cell would say nothing."""
    assert all(row[1].strip() for rows in sections().values() for row in rows)

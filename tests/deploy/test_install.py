"""The release: a source distribution, the wheel that is built from it, and what works where only that is installed."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from email.parser import HeaderParser

import pytest
from packaging.requirements import Requirement

from tests.docs.pages import blocks
from tests.parts.processes import BIN, ROOT, free_port, reap, until
from tests.parts.service import SERVERS, Service, push_of

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# What an installer says where there is no way to a package index.
OFFLINE = re.compile(r"NewConnectionError|name resolution|dns error|Failed to fetch|error sending request", re.I)


def run(*command, cwd=ROOT, **variables):
    """Run a step to its end; what it printed. A laptop without a network need not, CI must."""
    command = [str(part) for part in command]
    around = os.environ | variables
    done = subprocess.run(command, cwd=cwd, env=around, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode and OFFLINE.search(done.stderr) and not os.environ.get("CI"):
        pytest.skip("nothing is installed: no package index can be reached")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def environment(directory, *installations):
    """A new environment with what each of these installs, by pip's arguments; where its commands are."""
    venv.create(directory, with_pip=False)
    for arguments in installations:
        run(BIN / "uv", "pip", "install", "--quiet", "--python", directory, *arguments)
    return directory / "bin"


TOGETHER = """
import json, sys
from click.testing import CliRunner
from handler.commands.cli import main
ended = [CliRunner().invoke(main, line.split(), prog_name="inference-relay") for line in sys.argv[1:]]
print(json.dumps([[one.exit_code, one.output] for one in ended]))
"""


def asked(commands, *lines, cwd):
    """How each of these command lines ends, and what it says, by line. In one process, since to start takes longest."""
    ended = json.loads(run(commands / "python", "-c", TOGETHER, *lines, cwd=cwd))
    return dict(zip(lines, ended, strict=True))


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """What `make dist` makes: the source distribution, and the wheel that is built from it and nothing else."""
    directory = tmp_path_factory.mktemp("dist")
    run("make", "--old-file=.venv/.dev", "--old-file=.venv/.local", f"BIN={BIN}", f"DIST={directory}", "dist")
    return directory


@pytest.fixture(scope="module")
def wheel(released):
    """The project's wheel."""
    (made,) = released.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def sources(released, tmp_path_factory):
    """The directory that the source distribution unpacks to."""
    (made,) = released.glob("*.tar.gz")
    directory = tmp_path_factory.mktemp("sources")
    run("tar", "-xf", made, "-C", directory)
    (found,) = directory.iterdir()
    return found


def tracked():
    """Every file of the project, by git; there is none in a source distribution."""
    if not (ROOT / ".git").exists():
        pytest.skip("what belongs to the project is not known: this is no checkout")
    command = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = run(*command).split("\0")
    return {name for name in listed if name and (ROOT / name).exists()}


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The commands of an environment in which only `pip install inference-relay` was run."""
    return environment(tmp_path_factory.mktemp("environment"), [wheel])


@pytest.mark.timeout(300)  # the first of these tests builds
def test_what_is_in_the_wheel(wheel):
    """Every file of handler/, the page's and `py.typed` too, and its metadata; no test, and nothing else."""
    names = zipfile.ZipFile(wheel).namelist()
    metadata = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}
    inside = {name for name in names if name.startswith("handler/")}
    assert inside == {name for name in tracked() if name.startswith("handler/")}
    assert {"handler/py.typed", "handler/local/page/static/index.html"} <= inside
    about = wheel.name.rsplit("-", 3)[0] + ".dist-info/"
    assert set(names) - inside == {about + name for name in metadata}
    assert not [name for name in names if re.search(r"test_|conftest|__pycache__", name)]


@pytest.mark.timeout(300)
def test_what_is_in_the_source_distribution(sources):
    """All of the project, so that whoever has it can build, test and deploy; and the metadata."""
    found = {str(path.relative_to(sources)) for path in sources.rglob("*") if path.is_file()}
    assert found == tracked() | {"PKG-INFO"}


@pytest.mark.timeout(300)
def test_the_tests_run_from_the_source_distribution(sources):
    """Every test is found there with all that it imports, and some that read the project's files pass."""
    pytest_there = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "addopts="]
    # Assertions are not rewritten, and of the plugins here only those are loaded that pyproject.toml asks for: what is
    # imported is the same, in half of the time.
    plain = ["--import-mode=importlib", "--assert=plain", "-p", "pytest_timeout"]
    some = ["-k", "test_docs.py or test_dependencies.py"]
    ran = run(*pytest_there, *plain, "tests", *some, cwd=sources, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    assert re.search(r"\d{2,} passed, \d{4} deselected", ran)


@pytest.mark.timeout(300)
def test_what_the_metadata_says(wheel):
    """Name, version and dependencies are those of pyproject.toml; the page about it is the README."""
    archive = zipfile.ZipFile(wheel)
    (path,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    head = HeaderParser().parsestr(archive.read(path).decode())
    assert (head["Name"], head["Version"]) == (PROJECT["name"], PROJECT["version"])
    assert head["License-Expression"] == PROJECT["license"]
    needed = [Requirement(line) for line in head.get_all("Requires-Dist") if "extra ==" not in line]
    assert set(needed) == {Requirement(line) for line in PROJECT["dependencies"]}
    assert head.get_payload() == (ROOT / "README.md").read_text()


def test_the_version_is_in_one_place():
    """In pyproject.toml, and, once it is released, as a heading of the CHANGELOG; no other file has to follow."""
    number = re.compile(rf"(?<![\d.]){re.escape(PROJECT['version'])}(?![\d.])")
    files = (name for name in tracked() if not name.startswith(("requirements/", "tests/", "docs/benchmarks/")))
    texts = {name: (ROOT / name).read_bytes().decode(errors="replace") for name in files}
    found = {name for name, text in texts.items() if number.search(text)}
    assert found - {"CHANGELOG.md"} == {"pyproject.toml"}


@pytest.mark.timeout(300)  # the first of these tests installs
def test_the_commands_work(installed, tmp_path):
    """The command line says what it can, in the version that was built, and prints the contract."""
    relay, pages = installed / "inference-relay", ROOT / "docs/schemas"
    assert run(relay, "--version", cwd=tmp_path).split()[-1] == PROJECT["version"]
    said = asked(installed, "--help", "schema request", cwd=tmp_path)
    assert " check " in said["--help"][1]
    assert said["schema request"] == [0, (pages / "request.json").read_text()]
    run(installed / "python", "-W", "error::ImportWarning", "-c", "import handler.app, handler.server", cwd=tmp_path)


@pytest.fixture(scope="module")
def tools(wheel, tmp_path_factory):
    """The commands of an environment made as docs/batch.md says that the tools are installed alone."""
    (text,) = (block.text for block in blocks("sh") if block.page == "docs/batch.md" and "--no-deps" in block.text)
    (needed,) = re.findall(r"^relay-tools/bin/pip install ([\w -]+)$", text, re.M)
    assert "--no-deps .\n" in text
    return environment(tmp_path_factory.mktemp("tools"), needed.split(), ["--no-deps", wheel])


@pytest.mark.timeout(300)
def test_the_tools_work_without_the_service(tools, tmp_path):
    """A file is checked, each command for requesters teaches, and the operator's say what they miss."""
    relay = tools / "inference-relay"
    service = ("flask", "gevent", "gunicorn", "redis")
    assert not [name for name in service if list(tools.parent.rglob(f"{name}-*.dist-info"))]
    file = tmp_path / "requests.jsonl"
    file.write_text('{"metadata": {"id": 1}, "body": {"model": "my-model", "prompt": "hi"}}\n')
    assert "my-model" in run(relay, "batch", "check", file, cwd=tmp_path)
    helps = [f"{name} --help" for name in ("batch", "ask", "cancel", "status", "replay")]
    said = asked(tools, *helps, "check", cwd=tmp_path)
    assert said.pop("check") == [1, "Error: this needs what the service needs: pip install 'inference-relay'\n"]
    assert [line for line, (code, text) in said.items() if code or "Usage:" not in text] == []


@pytest.mark.timeout(300)  # the first of these tests installs
@pytest.mark.parametrize("server", SERVERS)
def test_the_service_needs_no_extras(installed, server, local_topics, model, tmp_path):
    """Either command becomes ready and answers a push, with the package that the wheel brought."""
    for name in ("main.py", "gunicorn.conf.py"):
        shutil.copy(ROOT / name, tmp_path)
    port = free_port()
    settings = {
        "MODEL_URL": model.url,
        "RESPONSE_TOPIC": local_topics.topic("responses"),
        "PUBSUB_EMULATOR_HOST": local_topics.address,
        "PUSH_AUTH": "none",
        "PORT": str(port),
    }
    command = [installed / SERVERS[server][0].name, *SERVERS[server][1:]]
    log = tmp_path / "service.log"
    with log.open("w") as file:
        child = subprocess.Popen(
            command, cwd=tmp_path, env={**os.environ, **settings}, stdout=file, stderr=subprocess.STDOUT
        )
    service = Service(f"http://127.0.0.1:{port}", child, log)
    try:
        until(lambda: child.poll() is not None or service.is_ready(), 60)
        assert child.poll() is None, service.output()
        assert service.push(push_of({"metadata": {"id": 1}, "body": {"prompt": "hello"}})) == 204
        content, _, _ = local_topics.response()
        assert content == {"status_code": 200, "metadata": {"id": 1}, "body": {"echo": "hello"}}
    finally:
        child.terminate()
        reap(child)


@pytest.mark.timeout(300)
def test_what_needs_an_extra_says_so(installed, tmp_path):
    """`local`, `batch`, `ask` and `replay` name what to install; the other commands are there."""
    command = [installed / "inference-relay", "local", "run", "requests.jsonl"]
    variables = {"PATH": os.environ["PATH"]}
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install 'inference-relay[local]'" in done.stderr
    assert "Traceback" not in done.stderr
    said = asked(installed, "batch something", "ask something", "replay something", "settings", cwd=tmp_path)
    assert said.pop("settings")[1].startswith("| variable |")
    for code, text in said.values():
        assert (code, "pip install 'inference-relay[batch]'" in text) == (1, True), text

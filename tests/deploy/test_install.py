"""The wheel, and the service started from an installation that has nothing but it and what it depends on."""

import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile

import pytest

from tests.e2e.conftest import ROOT, SERVERS, Service, free_port, push_of, reap, until


def pip(*arguments):
    """Run pip; what it printed is shown if it fails."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The project's wheel."""
    directory = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--quiet", "--no-deps", "--wheel-dir", directory, ROOT)
    (made,) = directory.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The commands of an environment in which only `pip install inference-relay` was run."""
    directory = tmp_path_factory.mktemp("environment")
    venv.create(directory, with_pip=False)
    pip("--python", directory, "install", "--quiet", "--no-compile", wheel)  # most of it is never imported here
    return directory / "bin"


def test_what_is_in_the_wheel(wheel):
    """The package and its metadata; no tests, and nothing else of the project."""
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"handler", wheel.name.rsplit("-", 3)[0] + ".dist-info"}
    assert not [name for name in names if re.search(r"test|conftest|__pycache__", name)]
    assert {"handler/app.py", "handler/local/page/static/index.html", "handler/local/page/static/main.js"} <= set(names)
    assert [name for name in names if name.endswith("LICENSE")]


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
    relay = installed / "inference-relay"
    environment = {"PATH": os.environ["PATH"]}

    def run(*arguments):
        command = [relay, *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    done = run("local", "run", "requests.jsonl")
    assert done.returncode == 1
    assert "pip install 'inference-relay[local]'" in done.stderr
    assert "Traceback" not in done.stderr
    for name in ("batch", "ask", "replay"):
        done = run(name, "something")
        assert (done.returncode, "pip install 'inference-relay[batch]'" in done.stderr) == (1, True), done.stderr
    assert run("settings").stdout.startswith("| variable |")
    assert run("schema", "request").returncode == 0

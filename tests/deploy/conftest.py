"""What the tests of the deployment share: Terraform; and Pub/Sub, model and helpers, which are the black-box tests'."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.terraform_run import RELAY, Terraform
from tests.deploy.watched import Watched, runs
from tests.e2e.conftest import brokers, ended, kept, local_topics, model
from tests.parts.processes import missing

__all__ = ["brokers", "ended", "kept", "local_topics", "model"]


@pytest.fixture(scope="session")
def provider() -> Iterator[str]:
    """What attaches Terraform to the stand-in provider."""
    if shutil.which("terraform") is None:
        missing("there is no terraform on the PATH")
    command = [sys.executable, str(Path(__file__).with_name("terraform_google.py"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process.stdout.readline()
        process.stdin.close()  # which ends it
        assert process.wait(10) == 0


@pytest.fixture(scope="session")
def terraform(provider: str, tmp_path_factory: pytest.TempPathFactory) -> Terraform:
    made = Terraform(provider, tmp_path_factory.mktemp("terraform"))
    made.init()
    return made


@pytest.fixture
def broken(provider: str, tmp_path: Path) -> Terraform:
    """One to make mistakes in. It has no modules, so that it needs no init."""
    return Terraform(provider, tmp_path)


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[], Any]], Any]:
    """Gives what a function returns, as JSON has it: of the workers that want it one asks, and the others wait."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # which is all workers'

    def one(name: str, ask: Callable[[], Any]) -> Any:
        kept = folder / f"{name}.json"
        with (folder / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not kept.exists():
                kept.write_text(json.dumps(ask()))
        return json.loads(kept.read_text())

    return one


@pytest.fixture(scope="session")
def monitoring(request: pytest.FixtureRequest, once, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What terraform test says of tests/monitoring.tftest.hcl, line by line. The relay needs no init either."""

    def ask() -> list[str]:
        terraform = Terraform(request.getfixturevalue("provider"), tmp_path_factory.mktemp("watched"))
        return terraform.test("-json", "-verbose", "-filter=tests/monitoring.tftest.hcl", at=RELAY).splitlines()

    return [json.loads(line) for line in once("monitoring", ask)]


@pytest.fixture(scope="session")
def watched(monitoring: list[dict[str, Any]]) -> dict[str, Watched]:
    """What is made to watch the relay, by these runs."""
    return runs(monitoring)

"""What the tests of the deployment share: Terraform; and Pub/Sub, model and helpers, which are the black-box tests'."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.terraform_run import Terraform
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
def watched(provider: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Watched]:
    """What is made to watch the relay, by the run of tests/monitoring.tftest.hcl. The relay needs no init either."""
    return runs(Terraform(provider, tmp_path_factory.mktemp("watched")))

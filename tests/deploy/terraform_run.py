"""Terraform, with the stand-in provider, on copies of terraform/."""

import os
import shutil
import subprocess
from pathlib import Path

TERRAFORM = Path(__file__).resolve().parents[2] / "terraform"
RELAY = Path("modules/relay")
EXAMPLES = sorted(path.parent.name for path in (TERRAFORM / "examples").glob("*/main.tf"))


class Terraform:
    """The binary, with the stand-in provider, on a copy of terraform/ that has no values of the developer's own."""

    def __init__(self, provider: str, scratch: Path) -> None:
        self.root = scratch / "terraform"
        shutil.copytree(TERRAFORM, self.root, ignore=shutil.ignore_patterns(".terraform*", "*.tfstate*", "*.tfvars"))
        kept = {name: value for name, value in os.environ.items() if not name.startswith("TF_")}
        self.environment = kept | {
            "CHECKPOINT_DISABLE": "1",
            "TF_CLI_CONFIG_FILE": os.devnull,
            "TF_IN_AUTOMATION": "1",
            "TF_REATTACH_PROVIDERS": provider,
        }

    def __call__(self, command: str, *arguments: str, at: Path = Path()) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["terraform", f"-chdir={self.root / at}", command, *arguments],
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=280,  # what plans a hundred mistakes takes a minute of a processor
            check=False,
        )

    def init(self) -> None:
        for at in (Path(), RELAY, *(Path("examples") / name for name in EXAMPLES)):
            initialised = self("init", "-backend=false", "-input=false", "-no-color", at=at)
            assert initialised.returncode == 0, initialised.stdout

    def test(self, *arguments: str, at: Path = Path()) -> str:
        tested = self("test", "-no-color", *arguments, at=at)
        assert tested.returncode == 0, tested.stdout
        return tested.stdout

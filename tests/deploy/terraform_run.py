"""Terraform, with the stand-in provider, on copies of terraform/."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Collection
from pathlib import Path

TERRAFORM = Path(__file__).resolve().parents[2] / "terraform"
RELAY = Path("modules/relay")
# What judges a value: these files of the relay need none of the others.
LIMITS = ("variables*.tf", "capacity.tf", "versions.tf")
COMMAND = "  command = plan"
TESTS = ".tftest.hcl"
RUN = re.compile(r'^run "(\w+)" \{\n.*?^\}\n', re.M | re.S)
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
            # Half of a test run's time was Go's garbage collector, which a process of a minute needs less often.
            "GOGC": "800",
        }

    def __call__(self, command: str, *arguments: str, at: Path = Path()) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["terraform", f"-chdir={self.root / at}", command, *arguments],
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=110,
            check=False,
        )

    def init(self) -> None:
        for at in (Path(), *(Path("examples") / name for name in EXAMPLES)):  # the relay has no modules, and needs none
            initialised = self("init", "-backend=false", "-input=false", "-no-color", at=at)
            assert initialised.returncode == 0, initialised.stdout

    def test(self, *arguments: str, at: Path = Path()) -> str:
        tested = self("test", "-no-color", *arguments, at=at)
        assert tested.returncode == 0, tested.stdout
        return tested.stdout

    def keep_runs(self, file: str, wanted: Callable[[str, str], bool]) -> list[str]:
        """Leave only some runs in a test file of the relay, by their name and text; their names."""
        path = self.root / RELAY / "tests" / file
        text = path.read_text()
        found = list(RUN.finditer(text))
        kept = [one for one in found if wanted(one[1], one[0])]
        assert kept, f"{file} has no such run"
        path.write_text(text[: found[0].start()] + "\n".join(one[0] for one in kept))
        return [one[1] for one in kept]

    def single_out(self, runs: Collection[tuple[str, str]]) -> None:
        """Put some runs, by test file and name, into a file each, and leave no other: none sees what another made."""
        files = {path.name.removesuffix(TESTS): path for path in (self.root / RELAY / "tests").iterdir()}
        texts = {name: path.read_text() for name, path in files.items()}
        for path in files.values():
            path.unlink()
        for file, wanted in runs:
            found = list(RUN.finditer(texts[file]))
            (run,) = (one[0] for one in found if one[1] == wanted)
            head = texts[file][: found[0].start()]
            (self.root / RELAY / "tests" / f"{file}.{wanted}{TESTS}").write_text(head + run)

    def plan_alone(self, file: str, but: Collection[str] = ()) -> None:
        """Let the runs in a test file of the relay make plans and nothing else, but for those with these names."""
        path = self.root / RELAY / "tests" / file

        def planned(run: re.Match[str]) -> str:
            head, body = run[0].split("\n", 1)
            return run[0] if run[1] in but or COMMAND in body else f"{head}\n{COMMAND}\n{body}"

        path.write_text(RUN.sub(planned, path.read_text()))

    def keep_limits(self) -> None:
        """Leave of the relay what judges values. A plan stops there for a wrong one, before whatever depends on it."""
        kept = {path for pattern in LIMITS for path in (self.root / RELAY).glob(pattern)}
        for path in set((self.root / RELAY).glob("*.tf")) - kept:
            path.unlink()

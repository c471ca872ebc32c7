"""Asks whether what the service needs has known vulnerabilities, with pip-audit: python tests/supply/audit.py

It asks of what is installed here, the newest that fits, and of what requirements/ names, which is what ships. It fails
on any that is known. Where the database cannot be reached nothing is known, and it says so.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from licences import PROJECT, SHIPPED_EXTRAS, closure
from locked import pins

UNREACHABLE = re.compile(r"ConnectionError|ConnectTimeout|ReadTimeout|ProxyError|SSLError|HTTPError|timed out")


def ask(pinned, folder):
    """What pip-audit says of these packages: its findings, one for each package; None where it could not ask."""
    requirements, findings = Path(folder, "requirements.txt"), Path(folder, "findings.json")
    requirements.write_text("\n".join(pinned))
    options = ["--requirement", requirements, "--no-deps", "--disable-pip", "--progress-spinner=off", "--timeout=10"]
    asked = subprocess.run(
        [sys.executable, "-m", "pip_audit", *options, "--format=json", "--output", findings],
        capture_output=True,
        text=True,
        check=False,
    )
    if findings.exists():
        return json.loads(findings.read_text())["dependencies"]
    if UNREACHABLE.search(asked.stderr):
        return None
    sys.exit(asked.stderr)


def asked(pinned):
    """The findings on these packages; none where it could not ask."""
    with tempfile.TemporaryDirectory() as folder:
        return ask(pinned, folder) or ()


def known(findings):
    """The vulnerabilities among the findings, a line for each."""
    return [f"{one['name']} {one['version']}: {flaw['id']}" for one in findings for flaw in one.get("vulns", ())]


def main():
    packages = closure(PROJECT, SHIPPED_EXTRAS)
    packages.pop(PROJECT)
    installed = {f"{name}=={package.version}" for name, package in packages.items()}
    findings = [one for pinned in (installed, pins("service")) for one in asked(sorted(pinned))]
    audited = [one for one in findings if "skip_reason" not in one]
    if not audited:
        print("Not audited: the database of known vulnerabilities cannot be reached from here.")
        return
    if flaws := known(audited):
        sys.exit("\n".join(["known vulnerabilities:", *flaws]))
    print(f"No known vulnerabilities in {len(audited)} of {len(findings)} packages, installed and locked.")


if __name__ == "__main__":
    main()

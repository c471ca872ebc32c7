"""Where and with what the figures were taken."""

import importlib.metadata
import os
import platform
import re
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from bench.processes import ROOT

# What the bench itself is made of, and what others bring along that matters here.
_MORE_PACKAGES = ("grpcio", "httptools", "psutil", "uvloop")


def machine() -> Mapping[str, Any]:
    """The machine, the software and the moment."""
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "packages": _packages(),
        "revision": _revision(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "load_average": [round(load, 2) for load in os.getloadavg()],
    }


def _cpu() -> str:
    with suppress(OSError):
        if found := re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE):
            return found[1]
    return platform.machine()


def _packages() -> Mapping[str, str]:
    """The versions of what the service depends on directly."""
    required = [line for line in importlib.metadata.requires("inference-relay") or () if "extra ==" not in line]
    names = {re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0] for line in required} | set(_MORE_PACKAGES)
    versions = {}
    for name in sorted(names):
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def _revision() -> str:
    """The commit, and whether there were changes that are not in it."""
    revision, changes = _git("rev-parse", "--short=12", "HEAD"), _git("status", "--porcelain", "--untracked-files=no")
    return f"{revision or 'unknown'}{' with changes' if changes else ''}"


def _git(*arguments: str) -> str:
    with suppress(OSError, subprocess.CalledProcessError):
        command = ["git", "--no-optional-locks", "-C", str(ROOT), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    return ""

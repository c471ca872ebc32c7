"""How the process is made cooperative: in a process of its own, since that cannot be undone."""

import subprocess
import sys

COUNTED = """
from importlib import metadata

from handler import greenlets

looked, distributions = [], metadata.distributions
metadata.distributions = lambda **context: looked.append(context) or distributions(**context)
entry_points = metadata.entry_points
assert greenlets.patch() and not greenlets.patch()
assert metadata.entry_points is entry_points
import socket
print(len(looked), socket.socket.__module__)
"""


def test_a_start_reads_the_installed_packages_once():
    """gevent looks for plugins among them for each module that it patches: most of the time that patching takes."""
    child = subprocess.run([sys.executable, "-c", COUNTED], capture_output=True, text=True, check=True)
    assert child.stdout.split() == ["1", "gevent._socket3"]

"""Prints the lowest versions that pyproject.toml allows of what the service and its stand-ins depend on, for pip.

What is pinned to one version has no lowest, and is left out.
"""

import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


def lowest(requirement):
    """One dependency at its lowest version; one without a lower bound is an error."""
    bounds = [one.version for one in requirement.specifier if one.operator == ">="]
    if not bounds:
        sys.exit(f"{requirement.name} has no lower bound in pyproject.toml")
    return f"{requirement.name}=={bounds[0]}"


def requirements(project):
    """The dependencies that may have more than one version."""
    extras = project["optional-dependencies"]
    stated = [*project["dependencies"], *extras["local"], *extras["gs"], *extras["traces"]]
    parsed = [Requirement(text) for text in stated]
    return [one for one in parsed if not str(one.specifier).startswith("==")]


if __name__ == "__main__":
    print(*map(lowest, requirements(tomllib.loads(PYPROJECT.read_text())["project"])), sep="\n")

"""Fails on a package that is installed for the service under a licence that its users may not be able to accept.

Looks at what the service needs to run, and at what those packages need: python tests/supply/licences.py
"""

import re
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution

from packaging.requirements import Requirement

PROJECT = "inference-relay"
SHIPPED_EXTRAS = frozenset({"gs"})  # which are in the image
# Whoever uses these may run, change and sell what is built with them, and need only name the authors. The Mozilla
# licence asks for more, but of changes to the package's own files alone. By SPDX names, and as packages write them.
ALLOWED = {
    *("Apache-2.0", "Apache Software License", "Apache 2.0", "Apache License 2.0"),
    *("MIT", "MIT-0", "MIT License", "ISC", "ISC License (ISCL)", "0BSD", "Unlicense", "Zlib"),
    *("BSD-2-Clause", "BSD-3-Clause", "BSD License", "3-Clause BSD License"),
    "ZPL-2.1",
    *("PSF-2.0", "Python Software Foundation License", "MPL-2.0", "Mozilla Public License 2.0 (MPL 2.0)"),
}


def closure(name, extras=frozenset(), seen=None):
    """A package and all that it needs here, by name."""
    seen = {} if seen is None else seen
    try:
        package = distribution(name)
    except PackageNotFoundError:  # needed on another system, or for another Python
        return seen
    if seen.setdefault(package.name.lower(), package) is not package and not extras:
        return seen
    for text in package.requires or ():
        needed = Requirement(text)
        wanted = needed.marker is None or any(needed.marker.evaluate({"extra": one}) for one in {"", *extras})
        if wanted and (needed.name.lower() not in seen or needed.extras):
            closure(needed.name, frozenset(needed.extras), seen)
    return seen


def stated(package: Distribution):
    """What a package says of its licence: an SPDX expression, or what was common before there were those."""
    metadata = package.metadata
    if "License-Expression" in metadata:
        return metadata["License-Expression"]
    classifiers = [one.rpartition(" :: ")[2] for one in metadata.get_all("Classifier", ()) if "License ::" in one]
    return " AND ".join(classifiers) or metadata.get("License", "").partition("\n")[0] or "none"


def allowed(expression):
    """Whether one of the licences that may be chosen is on the list; what is joined by AND has to be, all of it."""
    if expression in ALLOWED:
        return True
    choices = re.split(r"\s+OR\s+", expression.strip("() "))
    return any(all(one.strip("() ") in ALLOWED for one in re.split(r"\s+AND\s+", choice)) for choice in choices)


def main():
    packages = closure(PROJECT, SHIPPED_EXTRAS)
    if PROJECT not in packages:
        sys.exit(f"{PROJECT} is not installed here")
    wrong = {name: stated(package) for name, package in sorted(packages.items()) if not allowed(stated(package))}
    if wrong:
        sys.exit("\n".join(["not on the list of tests/supply/licences.py:", *map(": ".join, wrong.items())]))
    print(f"The licences of {len(packages)} packages are on the list.")


if __name__ == "__main__":
    main()

"""Reads requirements/: what the image and Cloud Build install, by version and hash (`make lock`)."""

import re
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]


def entries(name: str) -> Iterator[tuple[Requirement, frozenset[str]]]:
    """Each requirement of requirements/NAME.txt, and the hashes of the files that may be installed for it."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    for entry in re.split(r"\n(?=\S)", text.replace("\\\n", "")):
        stated, *hashes = re.split(r"\s+--hash=", entry.strip())
        yield Requirement(stated), frozenset(hashes)


def pins(name: str) -> list[str]:
    """The requirements that apply here, as NAME==VERSION."""
    found = (one for one, _hashes in entries(name))
    return sorted(f"{one.name}{one.specifier}" for one in found if not one.marker or one.marker.evaluate())

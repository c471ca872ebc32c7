"""What counts for every test."""

import gc

import pytest
from hypothesis import settings

gc.disable()  # until everything is collected: looking for garbage among all that stays takes a third as long again

# How long an example takes says how busy the machine is: speed is for bench/.
settings.register_profile("tests", deadline=None)
settings.load_profile("tests")

# The files that take longest. They are begun first, so that no worker has one left when the others are done.
LONGEST = (
    "deploy/test_image.py",
    "batch/test_kills.py",
    "batch/test_cancel.py",
    "unit/test_cooperative.py",
    "deploy/test_terraform_runs.py",
    "deploy/test_terraform_changes.py",
    "faults/test_faults.py",
    "deploy/test_install.py",
)


@pytest.fixture(scope="session")
def forks():
    """Starts services and commands that are loaded once: processes of their own, without their second of imports."""
    from tests.parts.forks import Forks  # not for those tests that start nothing

    with Forks() as started:
        yield started


def pytest_collection_finish():
    """From here on garbage is looked for, among what the tests make."""
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items):
    """Put the longest files in front; the others keep their order."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get("/".join(item.path.parts[-2:]), len(places)))

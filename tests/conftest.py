"""What counts for every test."""

import gc

import pytest
from hypothesis import settings

gc.disable()  # until everything is collected: looking for garbage among all that stays takes a third as long again

# How long an example takes says how busy the machine is: speed is for bench/.
settings.register_profile("tests", deadline=None)
settings.load_profile("tests")

# The files that take longest. They are begun first, so that no worker has one left when the others are done; those that
# compute and those that wait in turn, so that the cores have always enough to do and never much too much.
LONGEST = (
    "deploy/test_image.py",
    "batch/test_kills.py",
    "deploy/test_terraform_runs.py",
    "batch/test_cancel.py",
    "faults/test_faults.py",
    "unit/test_cooperative.py",
    "deploy/test_terraform_changes.py",
    "batch/test_run.py",
    "e2e/test_hostile.py",
    "batch/test_service_kills.py",
    "deploy/test_install.py",
    "batch/test_single.py",
    "batch/test_replay.py",
    "e2e/test_commands.py",
    "batch/test_storage.py",
    "page/test_chromium.py",
    "pubsub/test_contract.py",
    "fuzz/test_fuzz.py",
    "e2e/test_relay.py",
    "page/test_server.py",
    "deploy/test_terraform.py",
    "unit/test_ledger.py",
    "deploy/test_pages.py",
    "e2e/test_control.py",
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

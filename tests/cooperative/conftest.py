"""What only works where everything waits in greenlets, as in the service; tests/unit/test_cooperative.py runs it."""

import pytest
from gevent import monkey

from .metadata import MetadataServer, running

IS_PATCHED = monkey.is_module_patched("socket")
collect_ignore_glob = [] if IS_PATCHED else ["test_*.py"]


def pytest_runtest_setup():
    """A file that is named on the command line is not ignored: it would wait for ever."""
    if not IS_PATCHED:
        pytest.exit("these tests need: python -m gevent.monkey --module pytest tests/cooperative", 4)


@pytest.fixture(scope="session")
def one_metadata_server():
    """google-auth reads its address once in a process."""
    with running(MetadataServer()) as server:
        yield server


@pytest.fixture
def metadata(one_metadata_server, monkeypatch, tmp_path):
    """A metadata server, as an instance on Google Cloud has one, and no other credentials."""
    one_metadata_server.reset()
    for name in ("GCE_METADATA_HOST", "GCE_METADATA_IP"):
        monkeypatch.setenv(name, one_metadata_server.address)
    for name in ("PUBSUB_EMULATOR_HOST", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    return one_metadata_server

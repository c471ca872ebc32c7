"""gunicorn's worker is still the one that ours builds on."""

from gunicorn.workers.gthread import TConn, ThreadWorker

from handler.server import Worker

OWN = {"_hang_up", "_drop_one"}


def test_everything_that_is_overridden_is_there():
    """A method that gunicorn no longer has would never be called, and its protection be gone without a word."""
    overridden = {name for name, one in vars(Worker).items() if callable(one)} - OWN
    assert overridden == {"init_process", "handle", "handle_request", "_keepalive_after", "murder_pending"}
    assert all(callable(getattr(ThreadWorker, name, None)) for name in overridden)
    assert callable(TConn.wait_for_data)

"""What Cloud Storage keeps waiting when the process is to end, or a push has little time left."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from handler.admission import Refused
from handler.config.settings import DEFAULT_PATHS, Settings
from handler.rules.message.contract import Answer, parse_request
from handler.rules.message.reference import Reference
from handler.rules.verdict.outcome import Reason
from handler.storage import Found, StorageFailed
from handler.storage.claimcheck import ClaimCheck

SETTINGS = Settings.from_environment(
    {
        "MODEL_URL": "http://model",
        "RESPONSE_TOPIC": "projects/p/topics/responses",
        "PUSH_AUTH": "platform",
        "REQUEST_BUCKETS": "inputs",
        "RESPONSE_BUCKET": "outputs",
    }
)
REQUEST = parse_request(json.dumps({"metadata": {}, "body_ref": "gs://inputs/x"}).encode(), DEFAULT_PATHS)


class Silent:
    """Objects that are there, and say nothing when they are asked for this."""

    def __init__(self, when):
        self.when, self.asked = when, threading.Event()

    def _wait(self, what):
        if what == self.when:
            self.asked.set()
            threading.Event().wait()

    def find(self, reference):
        self._wait("find")
        return Found(Reference("inputs", "x", 1), 2, "application/json", "")

    def read(self, found):
        self._wait("read")
        yield b"{}"

    def write(self, reference, content_type, parts, limit):
        self._wait("write")


def fetch(claim_check, seconds=60.0):
    """Fetch what a request refers to."""
    with claim_check.fetched(REQUEST, seconds):
        pass


def store(claim_check):
    """Store an answer."""
    return claim_check.stored("key", Answer(200, b"{}"), 60.0)


@pytest.mark.parametrize(
    ("when", "work", "end"),
    [
        ("find", fetch, ClaimCheck.drain),
        ("read", fetch, ClaimCheck.drain),
        ("write", store, ClaimCheck.abort),
    ],
)
def test_what_takes_too_long_is_given_back(when, work, end):
    """What is under way ends at once, and nothing else begins; Cloud Storage has not failed."""
    objects = Silent(when)
    claim_check = ClaimCheck(SETTINGS, objects)
    with ThreadPoolExecutor(1) as thread:
        working = thread.submit(work, claim_check)
        assert objects.asked.wait(10)
        end(claim_check)
        with pytest.raises(Refused) as refused:
            working.result(10)
    assert refused.value.reason is Reason.DRAINING
    with pytest.raises(Refused):
        work(claim_check)


def test_what_is_at_the_model_may_still_be_stored():
    """Until the end of its grace."""
    claim_check = ClaimCheck(SETTINGS, Silent(None))
    claim_check.drain()
    assert store(claim_check) is None


@pytest.mark.parametrize("when", ["find", "read"])
@pytest.mark.parametrize(("model_seconds", "error"), [(540.0, Refused), (0.3, StorageFailed)])
def test_who_is_at_fault_where_time_runs_out(when, model_seconds, error):
    """Cloud Storage where it had a good part of what a push has that has just come, and else nobody: it was late."""
    claim_check = ClaimCheck(SETTINGS.model_copy(update={"model_timeout_seconds": model_seconds}), Silent(when))
    with pytest.raises(error) as raised:
        fetch(claim_check, 0.2)
    assert error is StorageFailed or raised.value.reason is Reason.OVERDUE

"""The whole way, with the real service: its instances and the requester's command are killed in turn."""

import os
import signal
import subprocess
from contextlib import contextmanager

import pytest

from tests.e2e.conftest import BIN, SERVERS, listening, spawn

from .conftest import Place, free_port, openai_line, process, read_lines, states, until, write_lines

LINES = 3_000
SLOTS, WAITING = 100, 200
AT_ONCE = SLOTS + WAITING  # no more pushes are in an instance when it is killed


@contextmanager
def service(place, model, port):
    """An instance of the service, killed with SIGKILL when left."""
    environment = {
        "MODEL_URL": model.url,
        "RESPONSE_TOPIC": place.name("topics", "responses"),
        "PUBSUB_EMULATOR_HOST": place.address,
        "PUSH_AUTH": "none",
        "MODEL_SLOTS": str(SLOTS),
        "MAX_WAITING": str(WAITING),
        "PORT": str(port),
    }
    log = (place.folder / "service.log").open("a")
    child = spawn(SERVERS["gunicorn"], environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        until(lambda: listening(port), 60)
        yield
    finally:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        log.close()


@pytest.fixture
def steady_place(monkeypatch, tmp_path):
    """A Pub/Sub that does not slow a subscription down after failed pushes: the kills here are close together."""
    port = free_port()
    command = [BIN / "inference-relay", "local", "pubsub", "--port", port, "--no-push-backoff"]
    with process(command, stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", f"127.0.0.1:{port}")
        with Place(f"127.0.0.1:{port}", tmp_path) as made:
            yield made


@pytest.mark.timeout(500)
def test_killed_on_both_sides(steady_place, model):
    """Every line is in the output once; the model is asked again for no more than was in flight at a kill."""
    requests = write_lines(steady_place.folder / "r.jsonl", [openai_line(f"{n}", f"prompt {n}") for n in range(LINES)])
    answers, journal = steady_place.folder / "a.jsonl", steady_place.folder / "a.jsonl.journal"
    command = ("batch", "run", requests, "-o", answers, "--unsure-after", 20)
    port = free_port()
    steady_place.subscribe(
        "push",
        "requests",
        ack_deadline_seconds=600,
        push_config={"push_endpoint": f"http://127.0.0.1:{port}/"},
        retry_policy={"minimum_backoff": {"nanos": 100_000_000}, "maximum_backoff": {"seconds": 1}},
    )
    kills = 0
    with steady_place.running(*command, "--rate", 1000):
        for part in (8, 4):
            with service(steady_place, model, port):
                until(lambda part=part: states(journal)["succeeded"] > LINES / part, 120)
            kills += 1
    with service(steady_place, model, port):
        with steady_place.running(*command):
            until(lambda: states(journal)["succeeded"] > LINES / 2, 120)
        done = steady_place.run(*command)
    assert done.returncode == 0, done.stderr
    assert sorted((each["custom_id"] for each in read_lines(answers)), key=int) == [f"{n}" for n in range(LINES)]
    assert all(each["response"]["body"] == {"echo": f"prompt {each['custom_id']}"} for each in read_lines(answers))
    asked = [body["prompt"] for _, body in model.calls]
    assert set(asked) == {f"prompt {n}" for n in range(LINES)}
    assert len(asked) - LINES <= kills * AT_ONCE

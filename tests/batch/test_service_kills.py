"""The whole way, with the real service: its instances and the requester's command are killed in turn."""

import pytest

from tests.parts.processes import free_port, until

from .conftest import openai_line, read_lines, service, states, write_lines

LINES = 2_000
SLOTS, WAITING = 100, 100
ROOM = {"MODEL_SLOTS": str(SLOTS), "MAX_WAITING": str(WAITING)}
AT_ONCE = SLOTS + WAITING  # no more pushes are in an instance when it is killed


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
            with service(steady_place, model, port, **ROOM):
                until(lambda part=part: states(journal)["succeeded"] > LINES / part, 120)
            kills += 1
    with service(steady_place, model, port, **ROOM):
        with steady_place.running(*command):
            until(lambda: states(journal)["succeeded"] > LINES / 2, 120)
        done = steady_place.run(*command)
    assert done.returncode == 0, done.stderr
    assert sorted((each["custom_id"] for each in read_lines(answers)), key=int) == [f"{n}" for n in range(LINES)]
    assert all(each["response"]["body"] == {"echo": f"prompt {each['custom_id']}"} for each in read_lines(answers))
    asked = [body["prompt"] for _, body in model.calls]
    assert set(asked) == {f"prompt {n}" for n in range(LINES)}
    assert len(asked) - LINES <= kills * AT_ONCE

"""What the page knows, made from events: by tables, and by whatever may happen in any order."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handler.local.page.board import KEPT, Board, Names
from handler.local.page.reading import LogLine
from handler.local.proxy import CallBegan, CallEnded
from handler.local.pubsub.core.watch import Acked, Delivered, Failed, Paced, Published, PushAnswered

NAMES = Names("requests", "responses", "push")


class Scene:
    """A board, and a clock that the test holds."""

    def __init__(self, slots=4):
        self.now = 100.0
        self.board = Board(NAMES, slots, lambda: self.now)

    def publish(self, name, prompt=None):
        data = json.dumps({"metadata": {}, "body": {"prompt": prompt or name}}).encode()
        self.tell(Published("requests", name, data, {}))

    def call(self, number, prompt):
        self.tell(CallBegan(number, json.dumps({"stream": False, "prompt": prompt}).encode()))

    def answer(self, name, status=200, text="yes"):
        data = json.dumps({"status_code": status, "metadata": {}, "body": {"choices": [{"text": text}]}}).encode()
        self.tell(Published("responses", f"r{name}", data, {"request_message_id": name}))

    def tell(self, *events):
        for event in events:
            self.board.apply(event)

    def all(self):
        return self.board.changes(0)

    def message(self, number=1):
        return next(each for each in self.all()["messages"] if each["number"] == number)

    def stage(self, number=1):
        return self.message(number)["stage"]


@pytest.fixture
def scene():
    """A board of which nothing is known yet."""
    return Scene()


def test_the_way_of_a_message(scene):
    """From published to answered, each stage at its event."""
    stages = []
    for step in (
        lambda: scene.publish("a"),
        lambda: scene.tell(Delivered("push", "a", 1)),
        lambda: scene.call(1, "a"),
        lambda: scene.tell(CallEnded(1, 200)),
        lambda: scene.answer("a"),
        lambda: scene.tell(PushAnswered("push", "a", 204, "")),
        lambda: scene.tell(Acked("push", "a")),
    ):
        step()
        stages.append(scene.stage())
    assert stages == ["waiting", "line", "model", "publishing", "publishing", "publishing", "answered"]
    assert scene.message()["answer"] == {"status": 200, "text": "yes"}
    assert scene.all()["totals"]["answered"] == 1


def test_a_redelivery_and_why(scene):
    """What Pub/Sub got, what the log says of it, and how long it takes until the next."""
    scene.publish("a")
    scene.tell(Delivered("push", "a", 1))
    scene.call(1, "a")
    scene.tell(CallEnded(1, 500), LogLine("a", "push", 1, "model_failed", "status 500"))
    scene.now += 0.5
    scene.tell(PushAnswered("push", "a", 503, ""), Failed("push", "a", 1, 2.0))
    scene.now += 0.5
    message = scene.message()
    assert (message["stage"], message["due_in"], message["wait"], message["slot"]) == ("again", 1.5, 2.0, None)
    (attempt,) = message["attempts"]
    assert attempt == {
        "number": 1,
        "seconds": 0.5,
        "status": 503,
        "trouble": "",
        "reason": "model_failed",
        "detail": "status 500",
        "calls": [500],
    }
    scene.tell(Delivered("push", "a", 2))
    assert (scene.stage(), scene.all()["totals"]["redelivered"]) == ("line", 1)


def test_brief_trouble_keeps_its_slot(scene):
    """While the service waits to ask again in place the slot is taken; the next call is in the same."""
    scene.publish("a")
    scene.tell(Delivered("push", "a", 1))
    scene.call(1, "a")
    scene.tell(CallEnded(1, 503))
    assert (scene.stage(), scene.all()["slots"]["taken"]) == ("pause", {0: 1})
    scene.call(2, "a")
    assert (scene.stage(), scene.all()["slots"]["taken"]) == ("model", {0: 1})
    scene.tell(CallEnded(2, 200))
    assert scene.all()["slots"]["taken"] == {}
    assert scene.message()["attempts"][0]["calls"] == [503, 200]


def test_a_killed_service(scene):
    """The push breaks off before its call does: the slot is freed by the call's end, the stage is not touched by it."""
    scene.publish("a")
    scene.tell(Delivered("push", "a", 1))
    scene.call(1, "a")
    scene.tell(PushAnswered("push", "a", 0, "the connection broke"), Failed("push", "a", 1, 2.0))
    assert (scene.stage(), scene.all()["slots"]["taken"]) == ("again", {0: 1})
    scene.tell(CallEnded(1, 0))
    assert (scene.stage(), scene.all()["slots"]["taken"]) == ("again", {})


def test_messages_with_the_same_body(scene):
    """Each call is one of theirs, and as many are at the model as there are calls."""
    for name in "abc":
        scene.publish(name, "same")
        scene.tell(Delivered("push", name, 1))
    scene.call(1, "same")
    scene.call(2, "same")
    assert [scene.stage(number) for number in (1, 2, 3)] == ["model", "model", "line"]


def test_a_call_of_nobody_known_takes_a_slot(scene):
    """A push that was posted by hand is no message of the topic's; the model works on it all the same."""
    scene.call(1, "by hand")
    assert scene.all()["slots"] == {"limit": 4, "taken": {0: 0}}
    scene.tell(CallEnded(1, 200))
    assert scene.all()["slots"]["taken"] == {}


@pytest.mark.parametrize(
    ("events", "stage", "totals"),
    [
        ([Acked("push", "a")], "lost", {"lost": 1}),
        ([Failed("push", "a", 100, None)], "dead", {"dead": 1}),
        ([Acked("elsewhere", "a")], "waiting", {"answered": 0, "lost": 0}),
    ],
)
def test_other_ends(scene, events, stage, totals):
    """An acknowledgement without a response would be a loss, and is shown as one."""
    scene.publish("a")
    scene.tell(*events)
    assert scene.stage() == stage
    assert scene.all()["totals"].items() >= totals.items()


def test_a_response_that_comes_twice(scene):
    """The first counts; that there was another is told."""
    scene.publish("a")
    scene.answer("a", 502, "first")
    scene.answer("a", 200, "second")
    scene.tell(Acked("push", "a"))
    assert scene.message()["answer"] == {"status": 502, "text": "first"}
    assert scene.all()["totals"].items() >= {"twice": 1, "errors": 1, "answered": 1}.items()


def test_only_what_has_changed_is_told(scene):
    """A browser that knows a version gets what is newer."""
    scene.publish("a")
    scene.publish("b")
    known = scene.board.version
    assert scene.board.changes(known)["messages"] == []
    scene.tell(Delivered("push", "a", 1), Paced("push", 6, 0.4))
    changes = scene.board.changes(known)
    assert [message["id"] for message in changes["messages"]] == ["a"]
    assert changes["pace"] == {"window": 6, "backoff": 0.4}


def test_memory_is_bounded(scene):
    """The oldest are forgotten one by one, and counted all the same."""
    for number in range(KEPT + 50):
        scene.publish(str(number), "same")
    everything = scene.all()
    assert (len(everything["messages"]), everything["first"], everything["beyond"]) == (KEPT, 51, 50)
    scene.tell(Delivered("push", "0", 1), PushAnswered("push", "0", 204, ""), Acked("push", "0"))
    scene.tell(Failed("push", "1", 100, None), LogLine("2", "push", 1, "answered", ""))
    everything = scene.all()
    assert everything["totals"].items() >= {"published": KEPT + 50, "answered": 1, "dead": 1}.items()
    assert everything["beyond"] == 48


def test_what_is_forgotten_at_the_model_frees_its_slot(scene):
    """Nothing is left behind of a message that is forgotten in the middle."""
    scene.publish("a")
    scene.tell(Delivered("push", "a", 1))
    scene.call(1, "a")
    for number in range(KEPT):
        scene.publish(f"later-{number}")
    assert scene.all()["slots"]["taken"] == {0: 1}
    scene.tell(CallEnded(1, 200))
    assert scene.all()["slots"]["taken"] == {}


def test_what_is_no_event(scene):
    """A mistake in the program is heard of."""
    with pytest.raises(TypeError, match="not an event"):
        scene.tell("hello")


STEPS = ("publish", "deliver", "call", "end", "fail", "bury", "answer", "ack", "log")


@given(st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 5), st.sampled_from([200, 500, 503, 0])), max_size=60))
def test_nothing_is_lost_from_the_sum(steps):
    """Whatever happens in whatever order: each published message is in one place, and each call in one slot."""
    scene, published, calls = Scene(), set(), {}
    for step, number, status in steps:
        name = str(number)
        if step == "publish" and name not in published:
            published.add(name)
            scene.publish(name, f"prompt {number % 3}")
        elif step == "call":
            calls[len(calls) + 1] = True
            scene.call(len(calls), f"prompt {number % 3}")
        elif step == "end" and (open_calls := [call for call, is_open in calls.items() if is_open]):
            calls[open_calls[0]] = False
            scene.tell(CallEnded(open_calls[0], status))
        elif step in OTHERS and name in published:
            OTHERS[step](scene, name, published)
        check(scene.all(), sum(calls.values()))


def bury(scene, name, published):
    scene.tell(Failed("push", name, 5, None))
    published.discard(name)


def ack(scene, name, published):
    scene.tell(Acked("push", name))
    published.discard(name)


OTHERS = {
    "deliver": lambda scene, name, _: scene.tell(Delivered("push", name, 1)),
    "fail": lambda scene, name, _: scene.tell(PushAnswered("push", name, 503, ""), Failed("push", name, 1, 1.0)),
    "bury": bury,
    "ack": ack,
    "answer": lambda scene, name, _: scene.answer(name),
    "log": lambda scene, name, _: scene.tell(LogLine(name, "push", 1, "answered", "")),
}


def check(told, open_calls):
    totals = told["totals"]
    over = totals["answered"] + totals["dead"] + totals["lost"]
    assert totals["published"] == sum(told["stages"].values()) + over + told["beyond"]
    assert len(told["slots"]["taken"]) == open_calls + told["stages"]["pause"]
    assert min(told["stages"].values()) >= 0

"""Control messages: how they are read, and what becomes of them and of what they mean."""

import json
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handler.admission.limit import FixedLimit
from handler.admission.line import Line
from handler.config.settings import Settings, SettingsError
from handler.ledger import Claim, Counts, Stage, State
from handler.ledger.origin import origin_of, target_of
from handler.publisher import OutgoingMessage, PublishFailed
from handler.relay import Relay
from handler.routes import Route, Routes
from handler.rules.message.contract import RequestError
from handler.rules.message.control import ControlMessage, Verb, parse_control
from handler.rules.verdict.outcome import ModelFailure, Reason
from handler.rules.verdict.reply import ModelReply
from tests.unit.test_relay import REPLY, REQUEST, SETTINGS, STREAM, Model, Notes, Pauses, Topic, held, message

ON = SETTINGS.model_copy(update={"control_messages": True})
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
NOON_MS = 1893499200000


# --- reading


@pytest.mark.parametrize(
    ("document", "verb", "batch_id", "request_id"),
    [
        ({"cancel": {"batch_id": "b"}}, Verb.CANCEL, "b", None),
        ({"status": {"batch_id": "b"}, "metadata": {"id": 7}}, Verb.STATUS, "b", None),
        ({"cancel": {"request_id": "r"}, "status": None}, Verb.CANCEL, None, "r"),
        ({"cancel": {"batch_id": "b", "request_id": "r"}}, Verb.CANCEL, "b", "r"),
    ],
)
def test_what_is_asked(document, verb, batch_id, request_id):
    """A verb, and which requests are meant; the schema says the same."""
    asked = parse_control(json.dumps(document).encode(), {"relay_control": verb})
    assert (asked.verb, asked.meant.batch_id, asked.meant.request_id) == (verb, batch_id, request_id)
    assert asked.metadata == document.get("metadata", {})
    jsonschema.validate(document, ControlMessage.model_json_schema())


@pytest.mark.parametrize(
    ("data", "code", "says"),
    [
        (b"cancel it", "invalid_json", "not JSON"),
        (b"[]", "invalid_request", "valid dictionary"),
        (b"{}", "invalid_request", "one of cancel and status"),
        (b'{"cancel": {}}', "invalid_request", "neither batch_id nor request_id"),
        (b'{"cancel": {"batch_id": ""}}', "invalid_request", "`cancel.batch_id`"),
        (b'{"cancel": {"batch_id": 7}}', "invalid_request", "`cancel.batch_id`"),
        (b'{"cancel": {"batch": "b"}}', "invalid_request", "`cancel.batch`"),
        (b'{"cancel": {"batch_id": "b"}, "status": {"batch_id": "b"}}', "invalid_request", "one of cancel and status"),
        (b'{"status": {"batch_id": "b"}}', "invalid_request", "differ"),
        (b'{"cancel": "b"}', "invalid_request", "`cancel`"),
        (b'{"cancel": {"batch_id": "b"}, "metadata": 7}', "invalid_request", "`metadata`"),
    ],
)
def test_what_cannot_be_read(data, code, says):
    """The error says what is wrong and what to write."""
    with pytest.raises(RequestError, match="Write") as refused:
        parse_control(data, {"relay_control": "cancel"})
    assert refused.value.code == code
    assert says in str(refused.value)


@pytest.mark.parametrize(
    "document",
    [
        {"metadata": {"a": "x" * 2_000_000}, "cancel": {"batch_id": "b"}},
        {"metadata": {"a": "x" * 2_000_000}},
        {"metadata": {"a": "\u00e9" * 200_000, "b": "\ud800"}, "cancel": {"batch_id": "b"}},
    ],
)
def test_metadata_that_is_too_large(document):
    """It is refused as a request's is, by what it is when written back; the reply has to hold it."""
    data = json.dumps(document, ensure_ascii=False).encode(errors="surrogatepass").replace(b"\xed\xa0\x80", b"\\ud800")
    with pytest.raises(RequestError, match="1 MiB") as refused:
        parse_control(data, {"relay_control": "cancel"})
    assert (refused.value.code, refused.value.metadata) == ("invalid_request", {})


def test_a_long_name_is_not_quoted_back():
    """Twice as much as came would not fit into the reply."""
    data = json.dumps({"x" * 1_000_000: 1, "cancel": {"batch_id": "b"}}).encode()
    with pytest.raises(RequestError, match="xxx") as refused:
        parse_control(data, {"relay_control": "cancel"})
    assert len(refused.value.answer.body) < 1_000


@given(st.binary() | st.recursive(st.none() | st.text() | st.integers(), lambda inner: st.dictionaries(
    st.sampled_from(["cancel", "status", "metadata", "batch_id", "request_id"]), inner
)).map(lambda document: json.dumps(document).encode()))  # fmt: skip
def test_nothing_else_is_raised(data):
    """Whatever the bytes."""
    try:
        asked = parse_control(data, {"relay_control": "status"})
    except RequestError as refused:
        assert json.loads(refused.answer.body)["error"]["message"]
    else:
        assert asked.verb is Verb.STATUS


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"CONTROL_MESSAGES": "true"}, "needs LEDGER_URL"),
        ({"CONTROL_MESSAGES": "perhaps", "LEDGER_URL": "redis://r"}, "CONTROL_MESSAGES"),
    ],
)
def test_settings_that_cannot_be(given, says):
    """Without a ledger that is shared an instance would promise what others do not keep."""
    good = {"MODEL_URL": "http://model", "RESPONSE_TOPIC": "projects/p/topics/responses", "PUSH_AUTH": "platform"}
    assert not Settings.from_environment(good).control_messages
    assert Settings.from_environment(good | {"CONTROL_MESSAGES": "true", "LEDGER_URL": "redis://r"}).control_messages
    with pytest.raises(SettingsError, match=says):
        Settings.from_environment(good | given)


# --- doing


class Book(Notes):
    """A ledger that notes cancels and gives these counts; `goes` is what `grant_call` says, the last word for ever."""

    spread_seconds = 6.0

    def __init__(self, *claims, counts=None, stages=(), goes=(True,), **options):
        super().__init__(*claims, **options)
        self.found, self.found_stages, self.goes = counts, list(stages), list(goes)
        self.cancelled, self.asked, self.origins, self.ended = [], [], [], []

    def claim(self, key, owner, origin=None):
        self.origins.append(origin)
        return super().claim(key, owner)

    def grant_call(self, key, owner):
        return self.goes.pop(0) if len(self.goes) > 1 else self.goes[0]

    def answered(self, key, owner, stage=Stage.ANSWERED):
        super().answered(key, owner)
        self.ended.append(stage)

    def cancel(self, target, published):
        self.cancelled.append((target, published))
        return self.found

    def counts(self, target):
        self.asked.append(target)
        return self.found

    def stages(self, target):
        return self.found_stages


def relayed(incoming, ledger, *, settings=ON, model=None, topic=None, pause=None):
    """The verdict on a message, and what was published."""
    topic = topic or Topic()
    route = Route(settings.routing.routes[0], model or Model(), Line(FixedLimit(10)))
    relay = Relay(settings, Routes([route]), topic, ledger, pause or Pauses())
    verdict = relay.answer(relay.delivery(incoming, STREAM, time.monotonic(), held()))
    return verdict, topic


def control(verb="cancel", metadata=None, **meant):
    """A control message."""
    return message(
        {verb: meant, "metadata": metadata or {"id": 7}}, attributes={"relay_control": verb}, publish_time=NOON
    )


SCOPE = SETTINGS.response_topic
COUNTS = Counts(waiting=1, working=2, answered=3, failed=4, cancelled=5, cancelled_before=NOON_MS)
NUMBERS = {"waiting": 1, "working": 2, "answered": 3, "failed": 4, "cancelled": 5}
AT_NOON = "2030-01-01T12:00:00.000Z"


def test_a_batch_is_cancelled():
    """By the time that Pub/Sub took the control message; the reply has the counts, and nothing is called."""
    ledger, model, pause = Book(counts=COUNTS), Model(), Pauses()
    verdict, topic = relayed(control(batch_id="b"), ledger, model=model, pause=pause)
    assert (verdict.reason, verdict.status, verdict.detail) == (Reason.CONTROL, 204, "cancel")
    assert ledger.cancelled == [(target_of(SCOPE, "b", None), NOON_MS)]
    assert topic.response == {
        "status_code": 200,
        "metadata": {"id": 7},
        "body": {"cancel": {"batch_id": "b"}, "cancelled_before": AT_NOON, "counts": NUMBERS, "complete": True},
    }
    assert topic.messages[0].attributes["relay_control"] == "cancel"
    assert (model.calls, pause.seconds, ledger.origins) == ([], [], [None])


def test_where_a_batch_stands():
    """A look changes nothing."""
    ledger = Book(counts=Counts(waiting=1, complete=False))
    verdict, topic = relayed(control("status", batch_id="b"), ledger)
    assert (verdict.reason, verdict.detail, ledger.cancelled) == (Reason.CONTROL, "status", [])
    assert ledger.asked == [target_of(SCOPE, "b", None)]
    expected = {"counts": dict.fromkeys(NUMBERS, 0) | {"waiting": 1}, "complete": False, "cancelled_before": None}
    assert topic.response["body"] == {"status": {"batch_id": "b"}} | expected


@pytest.mark.parametrize(
    ("stages", "cancelled_before", "state"),
    [
        ([Stage.WAITING], 0, "waiting"),
        ([Stage.WAITING, Stage.ANSWERED], NOON_MS, "answered"),
        ([Stage.WORKING, Stage.CANCELLED], NOON_MS, "cancelled"),
        ([], NOON_MS, "cancelled"),
        ([], 0, "unknown"),
    ],
)
def test_where_one_request_stands(stages, cancelled_before, state):
    """By what came furthest."""
    ledger = Book(counts=Counts(cancelled_before=cancelled_before), stages=stages)
    _, topic = relayed(control("status", batch_id="b", request_id="r"), ledger)
    assert topic.response["body"]["state"] == state
    assert "counts" not in topic.response["body"]


def test_one_request_is_cancelled_when_every_instance_knows():
    """A request without a batch is not asked for again before its call unless its instance has heard of a cancel."""
    ledger, pause = Book(counts=COUNTS), Pauses()
    verdict, topic = relayed(control(request_id="r"), ledger, pause=pause)
    assert (verdict.reason, pause.seconds) == (Reason.CONTROL, [6.0])
    assert topic.response["body"]["state"] == "cancelled"
    ending, topic = relayed(control(request_id="r"), ledger, pause=Pauses(ending=True))
    assert (ending.reason, topic.messages) == (Reason.DRAINING, [])


@pytest.mark.parametrize("verb", ["cancel", "status"])
def test_the_ledger_is_in_trouble(verb):
    """Nothing is confirmed, and the reply says what to do."""
    verdict, topic = relayed(control(verb, batch_id="b"), Book(counts=None))
    assert (verdict.reason, verdict.detail) == (Reason.CONTROL, "ledger_unavailable")
    assert topic.response["status_code"] == 503
    assert "again in a while" in topic.response["body"]["error"]["message"]


@pytest.mark.parametrize("verb", ["cancel", "status"])
def test_the_ledger_is_in_trouble_half_way(verb):
    """Where a request stands is not made up from what was asked before."""
    ledger = Book(counts=COUNTS)
    ledger.found_stages = None
    verdict, topic = relayed(control(verb, request_id="r"), ledger)
    assert (verdict.detail, topic.response["status_code"]) == ("ledger_unavailable", 503)


def test_control_messages_are_switched_off():
    """They are by default: the answer says who can switch them on, and no message can be found or is counted."""
    ledger = Book(counts=COUNTS)
    verdict, topic = relayed(control(batch_id="b"), ledger, settings=SETTINGS)
    assert (verdict.reason, ledger.cancelled, topic.response["status_code"]) == (Reason.REQUEST_REFUSED, [], 403)
    assert "CONTROL_MESSAGES=true" in topic.response["body"]["error"]["message"]
    relayed(message(attributes={"batch_id": "b"}), ledger, settings=SETTINGS)
    assert ledger.origins == [None, None]


def test_a_control_message_that_cannot_be_read():
    """Its sender gets an error, with the metadata."""
    verdict, topic = relayed(control(batch_id=""), Book())
    assert (verdict.reason, verdict.detail) == (Reason.REQUEST_REFUSED, "invalid_request")
    assert (topic.response["status_code"], topic.response["metadata"]) == (400, {"id": 7})


# --- what is cancelled


def test_who_is_cancelled_is_answered_without_a_call():
    """With its metadata and attributes, and the answer is remembered as such."""
    ledger, model = Book(Claim(State.MINE, cancelled=True)), Model()
    incoming = message(attributes={"batch_id": "b"}, publish_time=NOON)
    verdict, topic = relayed(incoming, ledger, model=model)
    assert (verdict.reason, verdict.status, model.calls) == (Reason.CANCELLED, 204, [])
    assert (topic.response["status_code"], topic.response["metadata"]) == (499, {"id": 7})
    assert topic.response["body"]["error"]["code"] == "cancelled"
    assert topic.messages[0].attributes["batch_id"] == "b"
    assert ledger.ended == [Stage.CANCELLED]
    assert ledger.origins == [origin_of(SCOPE, "1", {"batch_id": "b"}, NOON)]


@pytest.mark.parametrize(
    ("replies", "goes", "calls"),
    [
        ([REPLY], [False], 0),  # while it waited for its slot
        ([ModelReply(503, "text/plain", b""), REPLY], [True, False], 1),  # while the model's trouble was waited out
        ([ModelFailure.UNREACHABLE, REPLY], [True, True], 2),
    ],
)
def test_who_is_cancelled_meanwhile(replies, goes, calls):
    """It is asked before each call."""
    model = Model(*replies)
    verdict, _ = relayed(message(attributes={"batch_id": "b"}), Book(goes=goes), model=model)
    assert (verdict.reason, len(model.calls)) == (Reason.ANSWERED if calls == 2 else Reason.CANCELLED, calls)


def test_what_is_done_stays_done():
    """A response that is made is published, whatever was cancelled since."""
    kept = OutgoingMessage(b'{"status_code":200}', {"status_code": "200"})
    ledger = Book(Claim(State.MINE, kept=kept.to_bytes(), cancelled=True))
    verdict, topic = relayed(message(), ledger)
    published = replace(kept, topic=STREAM.response_topic)
    assert (verdict.reason, topic.messages, ledger.ended) == (Reason.ANSWERED, [published], [Stage.ANSWERED])


@pytest.mark.parametrize(
    ("data", "reply", "stage"),
    [
        (REQUEST, REPLY, Stage.ANSWERED),
        (REQUEST, ModelReply(404, "application/json", b'{"error":{"message":"no such model"}}'), Stage.FAILED),
        ({}, REPLY, Stage.FAILED),
    ],
)
def test_how_an_answer_counts(data, reply, stage):
    """A success as answered, an error as failed, whoever wrote it; a kept one as it was."""
    ledger, topic = Book(), Topic(PublishFailed("away"))
    relayed(message(data), ledger, model=Model(reply), topic=topic)
    assert ledger.ended == []
    keeps = [note[1] for note in ledger.notes if note[0] == "keep"]
    relayed(message(data), ledger, model=Model(reply))
    again = Book(*(Claim(State.MINE, kept=one.to_bytes()) for one in keeps))
    relayed(message(data), again, model=Model(reply))
    assert ledger.ended == again.ended == [stage]


@pytest.mark.parametrize("incoming", [control(batch_id="b"), message(attributes={"batch_id": "b"})])
def test_nothing_is_kept_that_costs_nothing(incoming):
    """The redelivery makes it again, and it is counted for what it is."""
    ledger = Book(Claim(State.MINE, cancelled=True), counts=COUNTS)
    verdict, _ = relayed(incoming, ledger, topic=Topic(PublishFailed("away")))
    assert (verdict.reason, ledger.notes, ledger.ended) == (Reason.PUBLISH_FAILED, ["released"], [])


def test_a_control_message_without_a_time():
    """It means what was published until now."""
    ledger = Book(counts=COUNTS)
    relayed(message({"cancel": {"batch_id": "b"}}, attributes={"relay_control": "cancel"}), ledger)
    ((_, published),) = ledger.cancelled
    assert datetime.now(UTC) - timedelta(minutes=1) < datetime.fromtimestamp(published / 1000, UTC) <= datetime.now(UTC)

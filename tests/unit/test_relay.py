"""The way of one message, with a model and a topic that do as they are told."""

import json
import math
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from handler.admission import Refused
from handler.admission.intake import Held, Intake
from handler.admission.limit import FixedLimit
from handler.admission.line import Line, Wish
from handler.config.settings import WAITERS_PER_SLOT, Settings
from handler.ledger import Claim, Stage, State
from handler.publisher import OutgoingMessage, PublishFailed, PublishRefused
from handler.push.envelope import PubsubMessage
from handler.relay import Relay
from handler.responder import FETCHED_BYTES
from handler.routes import Route, Routes
from handler.rules.message.options import Priority
from handler.rules.verdict.outcome import ModelFailure, Reason
from handler.rules.verdict.reply import ModelReply

SETTINGS = Settings.from_environment(
    {"MODEL_URL": "http://model", "RESPONSE_TOPIC": "projects/p/topics/responses", "PUSH_AUTH": "platform"}
)
STREAM = SETTINGS.routing.default
REQUEST = {"metadata": {"id": 7}, "body": {"model": "m", "prompt": "x", "stream": True}}
REPLY = ModelReply(200, "application/json", b'{"choices":[]}')


class Model:
    """Gives these replies, the last one for ever, and keeps what it was asked."""

    def __init__(self, *replies):
        self.replies, self.calls = list(replies or [REPLY]), []

    def call(self, path, body, seconds, headers, model, overflow):
        self.headers = headers
        self.calls.append((path, json.loads(body), seconds))
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]


class Notes:
    """A ledger that gives these claims, the last one for ever, and notes what it hears."""

    def __init__(self, *claims, holds=True):
        self.claims, self.owned, self.notes = list(claims or [Claim(State.MINE)]), holds, []
        self.fetched = None

    def claim(self, key, owner, origin=None):
        return self.claims.pop(0) if len(self.claims) > 1 else self.claims[0]

    def holds(self, key, owner):
        return self.owned

    def keep(self, key, owner, response):
        self.notes.append(("keep", OutgoingMessage.from_bytes(response)))
        return self.owned

    def fetch(self, key):
        return self.fetched

    def grant_call(self, key, owner):
        return True

    def answered(self, key, owner, stage=Stage.ANSWERED):
        self.notes.append("answered")

    def release(self, key, owner, *, failed, detail=""):
        self.notes.append("failed" if failed else "released")


class Pauses:
    """Sleeps that take no time, and are noted."""

    def __init__(self, ending=False):
        self.seconds, self.ending = [], ending

    def __call__(self, seconds):
        self.seconds.append(seconds)
        return self.ending


class Topic:
    """Takes messages of up to so many bytes; raises the errors that it was given, one a publish, first."""

    def __init__(self, *errors, room=1_000_000):
        self.errors, self.messages, self.room = list(errors), [], room

    def fits(self, message):
        return len(message.data) <= self.room

    def publish(self, message, seconds):
        if self.errors:
            raise self.errors.pop(0)
        self.messages.append(message)
        return "id"

    @property
    def response(self):
        """The one response that was published."""
        (message,) = self.messages
        return json.loads(message.data)


def message(request=REQUEST, **fields):
    """A message with this request."""
    return PubsubMessage(**{"message_id": "1", "data": json.dumps(request).encode()} | fields)


def held(intake=None):
    """A place that was taken in."""
    return Held(intake or Intake(10, 10, 1_000_000), 0)


def made(model, topic, ledger=None, pause=None, slots=10, line=None):
    """A relay with these around it."""
    settings = SETTINGS.model_copy(update={"model_slots": slots})
    route = Route(settings.routing.routes[0], model, line or Line(FixedLimit(slots)))
    return Relay(settings, Routes([route]), topic, ledger or Notes(), pause or Pauses())


def relayed(model, topic, incoming, ledger=None, pause=None, arrived=None):
    """The verdict on a message."""
    relay = made(model, topic, ledger, pause)
    return relay.answer(relay.delivery(incoming, STREAM, time.monotonic() if arrived is None else arrived, held()))


def test_nobody_holds_the_data_of_a_message_while_its_answer_is_published():
    """Nor that of one whose request is refused, which the error held: publishing may take half a minute."""

    class Counting(Topic):
        def publish(self, message, seconds):
            self.count = sys.getrefcount(data)
            return super().publish(message, seconds)

    counts = []
    for request in (REQUEST, {"metadata": {}, "prompt": "no body"}, {**REQUEST, "options": {"priority": "no"}}):
        data, topic = json.dumps(request).encode(), Counting()
        relay = made(Model(), topic)
        relay.answer(relay.delivery(message(data=data), STREAM, time.monotonic(), held()))
        counts.append(topic.count)
    assert counts == [2] * 3  # the name here, and the call that counts


def test_a_request_is_answered():
    """The model gets the body, the topic its answer with the metadata, the attributes and the ordering key."""
    model, topic = Model(), Topic()
    verdict = relayed(model, topic, message(attributes={"batch_id": "b"}, ordering_key="k"))
    assert verdict.reason is Reason.ANSWERED
    ((path, body, seconds),) = model.calls
    assert (path, body) == ("/v1/completions", {"model": "m", "prompt": "x", "stream": False})
    assert 0 < seconds <= SETTINGS.model_timeout_seconds
    assert topic.response == {"status_code": 200, "metadata": {"id": 7}, "body": {"choices": []}}
    assert topic.messages[0].ordering_key == "k"
    assert topic.messages[0].attributes == {
        "request_message_id": "1",
        "status_code": "200",
        "model": "m",
        "batch_id": "b",
    }


def test_a_request_that_cannot_be_read_is_answered_without_the_model():
    """The error names the message, so that it can be joined even without metadata."""
    model, topic = Model(), Topic()
    assert relayed(model, topic, message(data=b"not json")).reason is Reason.REQUEST_REFUSED
    assert model.calls == []
    assert (topic.response["status_code"], topic.response["metadata"]) == (400, {})
    assert topic.messages[0].attributes["request_message_id"] == "1"


def test_a_request_past_its_deadline_is_answered_without_the_model():
    """Nobody waits for it any more."""
    model, topic = Model(), Topic()
    late = REQUEST | {"options": {"deadline": "2020-01-01T00:00:00Z"}}
    assert relayed(model, topic, message(late)).reason is Reason.REQUEST_REFUSED
    assert model.calls == []
    assert topic.response["body"]["error"]["code"] == "deadline_exceeded"


def test_the_requests_own_limit_shortens_the_call():
    """options.timeout_seconds bounds the call, and reaching it is answered at once."""
    model, topic = Model(ModelFailure.TIMEOUT), Topic()
    verdict = relayed(model, topic, message(REQUEST | {"options": {"timeout_seconds": 3}}))
    assert model.calls[0][2] == 3
    assert (verdict.reason, topic.response["status_code"]) == (Reason.MODEL_TIMED_OUT, 504)


def test_a_push_leaves_time_to_publish_and_a_margin():
    """What bounds the call of a push that has waited: the ack deadline, less the margin and the time of a publish."""
    model, needed = Model(), SETTINGS.margin_seconds + SETTINGS.publish_timeout_seconds
    relayed(model, Topic(), message(), arrived=time.monotonic() - (SETTINGS.ack_deadline_seconds - needed - 20))
    assert 0 < model.calls[0][2] <= 20


def test_a_push_without_time_left_is_delivered_again():
    """A push that waited too long in this process does not start what it cannot finish."""
    model, topic, ledger = Model(ModelFailure.TIMEOUT), Topic(), Notes()
    arrived = time.monotonic() - SETTINGS.ack_deadline_seconds
    with pytest.raises(Refused) as refused:
        relayed(model, topic, message(delivery_attempt=10), ledger, arrived=arrived)
    assert refused.value.reason is Reason.OVERDUE
    assert (model.calls, topic.messages, ledger.notes) == ([], [], ["released"])


@pytest.mark.parametrize(
    ("fields", "published"),
    [
        ({}, 0),
        ({"delivery_attempt": 9}, 0),
        ({"delivery_attempt": 10}, 1),
        ({"publish_time": datetime.now(UTC) - timedelta(hours=23)}, 0),
        ({"publish_time": datetime.now(UTC) - timedelta(hours=25)}, 1),
        ({"publish_time": datetime.min.replace(tzinfo=UTC)}, 1),
    ],
)
def test_the_last_attempt_answers(fields, published):
    """A failing request waits for its redelivery until MAX_ATTEMPTS or MAX_AGE, and then gets the error."""
    topic = Topic()
    verdict = relayed(Model(ModelFailure.UNREACHABLE), topic, message(**fields))
    assert verdict.status == (204 if published else 503)
    assert len(topic.messages) == published


def test_a_failed_publish_is_delivered_again():
    """Nothing is acknowledged before its response is confirmed."""
    verdict = relayed(Model(), Topic(PublishFailed("ServiceUnavailable")), message())
    assert (verdict.reason, verdict.status, verdict.detail) == (Reason.PUBLISH_FAILED, 503, "ServiceUnavailable")


def test_a_response_that_does_not_fit():
    """The requester learns why there is no response."""
    topic, ledger = Topic(room=500), Notes()
    reply = replace(REPLY, body=b'{"choices":["%b"]}' % (b"x" * 500))
    assert relayed(Model(reply), topic, message(), ledger=ledger).reason is Reason.RESPONSE_TOO_LARGE
    assert topic.response["body"]["error"]["code"] == "response_too_large"
    assert topic.response["metadata"] == {"id": 7}
    # What could not be published is not kept: an instance that takes over would find nothing else to publish.
    assert [json.loads(note[1].data)["status_code"] for note in ledger.notes if note[0] == "keep"] == [502]


def test_attributes_that_pubsub_refuses():
    """The response is not lost for the sake of what it echoes."""
    topic = Topic(PublishRefused("bad attribute"))
    assert relayed(Model(), topic, message(attributes={"batch_id": "b"})).reason is Reason.ANSWERED
    assert set(topic.messages[0].attributes) == {"request_message_id", "status_code", "model"}
    assert topic.response["status_code"] == 200


def test_a_response_that_pubsub_refuses_altogether():
    """Then there is no acknowledgement either: the message ends in the dead-letter topic."""
    verdict = relayed(Model(), Topic(PublishRefused("schema"), PublishRefused("schema")), message())
    assert (verdict.reason, verdict.detail) == (Reason.PUBLISH_FAILED, "schema")


# --- brief trouble is waited out in place

BUSY = ModelReply(429, "application/json", b"{}")


@pytest.mark.parametrize("trouble", [BUSY, ModelReply(503, "text/html", b"<html>"), ModelFailure.UNREACHABLE])
def test_brief_trouble_is_waited_out(trouble):
    """A model that is away for a moment costs a moment, and not a redelivery."""
    model, topic, pause = Model(trouble, trouble, REPLY), Topic(), Pauses()
    assert relayed(model, topic, message(), pause=pause).reason is Reason.ANSWERED
    assert (len(model.calls), len(pause.seconds)) == (3, 2)


def test_trouble_that_lasts_is_given_back():
    """Patience has an end, by count and by time."""
    model, pause = Model(BUSY), Pauses()
    assert relayed(model, Topic(), message(), pause=pause).reason is Reason.MODEL_FAILED
    assert len(model.calls) <= 4
    assert sum(pause.seconds) <= SETTINGS.patience_seconds


def test_a_stale_connection_is_tried_again_at_once():
    """A kept connection that the model service had closed costs nothing."""
    model, topic = Model(ModelFailure.STALE, REPLY), Topic()
    assert relayed(model, topic, message()).reason is Reason.ANSWERED
    assert len(model.calls) == 2


@pytest.mark.parametrize("result", [ModelFailure.BROKEN, ModelFailure.TIMEOUT, ModelReply(500, "text/plain", b"")])
def test_a_call_that_may_have_cost_work_is_not_repeated_in_place(result):
    """Only a redelivery, which is counted, pays again."""
    model = Model(result)
    relayed(model, Topic(), message(delivery_attempt=1))
    assert len(model.calls) == 1


def test_patience_ends_with_the_requests_time():
    """A pause takes longer than it was to: no call is made for which there is no time left."""
    soon = (datetime.now(UTC) + timedelta(seconds=2)).isoformat()
    model, topic = Model(BUSY), Topic()
    pause = lambda seconds: time.sleep(2.1)  # noqa: E731 - of one second
    verdict = relayed(model, topic, message(REQUEST | {"options": {"deadline": soon}}), pause=pause)
    assert len(model.calls) == 1
    assert verdict.reason is Reason.MODEL_FAILED


def test_patience_ends_when_another_instance_has_the_message():
    """A call that nobody needs any more is not paid for."""
    model, topic = Model(BUSY), Topic()
    assert relayed(model, topic, message(), Notes(holds=False)).reason is Reason.IN_PROGRESS
    assert (len(model.calls), topic.messages) == (1, [])


def test_patience_ends_with_the_process():
    """A process that is about to end gives the message back at once, and counts nothing, even at the last attempt."""
    model, topic, ledger = Model(BUSY), Topic(), Notes()
    verdict = relayed(model, topic, message(delivery_attempt=10), ledger, Pauses(ending=True))
    assert (verdict.reason, topic.messages, ledger.notes) == (Reason.DRAINING, [], ["released"])
    assert len(model.calls) == 1


def test_a_call_that_was_cut_off_at_the_end_of_the_process():
    """It is given back without counting, even at the last attempt: the model has not failed."""
    topic, ledger = Topic(), Notes()
    verdict = relayed(Model(ModelFailure.ABORTED), topic, message(delivery_attempt=10), ledger)
    assert (verdict.reason, verdict.status, topic.messages) == (Reason.DRAINING, 503, [])
    assert ledger.notes == ["released"]


# --- the ledger


def test_what_the_ledger_hears_of_an_answer():
    """The response is kept before it is published, and the message is answered after."""
    topic, ledger = Topic(), Notes()
    relayed(Model(), topic, message(ordering_key="k"), ledger)
    assert ledger.notes == [("keep", replace(topic.messages[0], topic="")), "answered"]


def test_what_the_ledger_hears_of_a_failure():
    """A failure of the model counts; one of Pub/Sub's does not, and leaves the response kept."""
    ledger = Notes()
    relayed(Model(ModelFailure.BROKEN), Topic(), message(), ledger)
    assert ledger.notes == ["failed"]
    ledger = Notes()
    relayed(Model(), Topic(PublishFailed("away")), message(), ledger)
    assert ledger.notes[-1] == "released"
    assert ledger.notes[0][0] == "keep"


def test_what_the_ledger_hears_of_a_bug():
    """The message is given back, and the attempt has failed: its call is paid for."""
    ledger = Notes()
    with pytest.raises(ZeroDivisionError):
        relayed(Model(), Topic(ZeroDivisionError()), message(), ledger)
    assert ledger.notes[-1] == "failed"


def test_an_answered_message_is_acknowledged():
    """Without the model, without a second response."""
    model, topic = Model(), Topic()
    verdict = relayed(model, topic, message(), Notes(Claim(State.ANSWERED)))
    assert (verdict.reason, verdict.status) == (Reason.ALREADY_ANSWERED, 204)
    assert (model.calls, topic.messages) == ([], [])


def test_a_kept_response_is_published():
    """The model is not paid twice because Pub/Sub was away."""
    kept = OutgoingMessage(b'{"status_code":200}', {"a": "\u00e9"}, "key")
    model, topic = Model(), Topic()
    verdict = relayed(model, topic, message(), Notes(Claim(State.MINE, kept=kept.to_bytes())))
    assert (verdict.reason, model.calls, topic.messages) == (
        Reason.ANSWERED,
        [],
        [replace(kept, topic=STREAM.response_topic)],
    )


def test_a_kept_response_counts_among_what_is_held():
    """While it is published, so that what comes meanwhile is refused before memory is full."""
    kept, intake, seen = OutgoingMessage(b"x" * 1_000).to_bytes(), Intake(10, 10, 1_000_000), []
    topic = Topic()
    topic.publish = lambda *_: seen.append(intake._bytes)
    relay = made(Model(), topic, Notes(Claim(State.MINE, kept=kept)))
    assert relay.answer(relay.delivery(message(), STREAM, time.monotonic(), held(intake))).reason is Reason.ANSWERED
    assert seen == [len(kept)]


def test_a_large_kept_response_is_fetched_and_published():
    """It does not come along with the claim."""
    kept = OutgoingMessage(b'{"status_code":200}', {"a": "b"})
    model, topic, ledger = Model(), Topic(), Notes(Claim(State.MINE, kept_bytes=1_000_000))
    ledger.fetched = kept.to_bytes()
    assert relayed(model, topic, message(), ledger).reason is Reason.ANSWERED
    assert (model.calls, topic.messages, ledger.notes) == (
        [],
        [replace(kept, topic=STREAM.response_topic)],
        ["answered"],
    )


def test_another_instance_is_waited_for_while_there_is_time_to_publish():
    """A claim that is granted later may come with a kept response."""
    left = SETTINGS.publish_timeout_seconds + 0.3
    arrived = time.monotonic() - (SETTINGS.ack_deadline_seconds - SETTINGS.margin_seconds - left)
    pause = Pauses()
    verdict = relayed(Model(), Topic(), message(), Notes(Claim(State.TAKEN)), pause, arrived)
    assert (verdict.reason, pause.seconds) == (Reason.IN_PROGRESS, [])


@pytest.mark.parametrize("is_large", [False, True])
def test_what_another_instance_made_and_could_not_publish(is_large):
    """It is published by who waited for it, though the other one's attempt has failed since."""
    kept = OutgoingMessage(b'{"status_code":200}', {"a": "b"}).to_bytes()
    made = Claim(State.MINE, failures=1, **({"kept_bytes": len(kept)} if is_large else {"kept": kept}))
    model, topic, ledger = Model(), Topic(), Notes(Claim(State.TAKEN, failures=0), made)
    ledger.fetched = kept
    assert relayed(model, topic, message(), ledger).reason is Reason.ANSWERED
    assert (model.calls, len(topic.messages)) == ([], 1)


def test_a_kept_response_that_is_not_to_be_had():
    """The message is given back, with nothing counted: to call the model would be to pay for it again."""
    model, topic, ledger = Model(), Topic(), Notes(Claim(State.MINE, kept_bytes=1_000_000))
    with pytest.raises(Refused) as refused:
        relayed(model, topic, message(), ledger)
    assert refused.value.reason is Reason.BUSY
    assert (model.calls, topic.messages, ledger.notes) == ([], [], ["released"])
    too_old = datetime.now(UTC) - timedelta(seconds=SETTINGS.max_age_seconds + 1)
    assert relayed(model, topic, message(publish_time=too_old), ledger).reason is Reason.ANSWERED
    assert len(model.calls) == 1  # rather than to end as a dead letter


def test_many_large_kept_responses():
    """After an outage they come all at once: only so many bytes are fetched at a time."""
    most, at_once, lock, two = 0, 0, threading.Lock(), threading.Barrier(2, timeout=10)

    def fetch(_key):
        nonlocal most, at_once
        with lock:
            at_once += 1
            most = max(most, at_once)
        two.wait()
        with lock:
            at_once -= 1
        return OutgoingMessage(b"{}").to_bytes()

    ledger = Notes(Claim(State.MINE, kept_bytes=FETCHED_BYTES // 2))
    ledger.fetch = fetch
    relay = made(Model(), Topic(), ledger)
    with ThreadPoolExecutor(10) as threads:
        answers = [
            threads.submit(relay.answer, relay.delivery(message(), STREAM, time.monotonic(), held())) for _ in range(10)
        ]
    assert {one.result().reason for one in answers} == {Reason.ANSWERED}
    assert most == 2
    relay.drain()
    with pytest.raises(Refused, match=Reason.DRAINING):
        relay.answer(relay.delivery(message(), STREAM, time.monotonic(), held()))


def test_counted_failures_decide_on_the_last_attempt():
    """Where the ledger counts, Pub/Sub's own count, which has busy hours in it, does not."""
    nine = Claim(State.MINE, failures=9)
    assert relayed(Model(ModelFailure.BROKEN), Topic(), message(), Notes(nine)).reason is Reason.GAVE_UP
    none = Claim(State.MINE, failures=0)
    failed = relayed(Model(ModelFailure.BROKEN), Topic(), message(delivery_attempt=50), Notes(none))
    assert failed.reason is Reason.MODEL_FAILED


@pytest.mark.parametrize(
    ("then", "reason", "calls"),
    [
        (Claim(State.ANSWERED), Reason.ALREADY_ANSWERED, 0),
        (Claim(State.MINE), Reason.ANSWERED, 1),
    ],
)
def test_a_message_that_another_instance_works_on(then, reason, calls):
    """It is waited for, and taken over if the other one is gone."""
    model, pause = Model(), Pauses()
    ledger = Notes(Claim(State.TAKEN), Claim(State.TAKEN), then)
    assert relayed(model, Topic(), message(), ledger, pause).reason is reason
    assert (len(model.calls), len(pause.seconds)) == (calls, 2)


@pytest.mark.parametrize(("ending", "arrived"), [(True, 0), (False, -1000)])
def test_waiting_for_another_instance_has_an_end(ending, arrived):
    """With the process, and with the push's own time."""
    ledger = Notes(Claim(State.TAKEN))
    verdict = relayed(Model(), Topic(), message(), ledger, Pauses(ending), arrived=time.monotonic() + arrived)
    assert (verdict.reason, verdict.status) == (Reason.IN_PROGRESS, 503)
    assert ledger.notes == []


def test_waiting_for_another_instance_takes_little_room():
    """Only so many may wait; beyond those a message is given back at once."""
    reasons, depths, depth, intake = [], [], 0, Intake(1, 10, 1_000_000)

    def answer():
        return relay.answer(relay.delivery(message(), STREAM, time.monotonic(), held(intake))).reason

    def pause(_seconds):  # while this one waits, another one comes
        nonlocal depth
        depth += 1
        depths.append(depth)
        reasons.append(answer())
        depth -= 1
        return True

    relay = made(Model(), Topic(), Notes(Claim(State.TAKEN)), pause, slots=1)
    for _ in range(2):  # the places are free again afterwards
        assert answer() is Reason.IN_PROGRESS
    assert max(depths) == WAITERS_PER_SLOT
    assert set(reasons) == {Reason.IN_PROGRESS}


def test_a_failure_elsewhere_is_not_tried_again_at_once():
    """Whoever waited for another instance, whose attempt then failed, leaves the next one to the redelivery."""
    model, ledger = Model(), Notes(Claim(State.TAKEN, failures=1), Claim(State.MINE, failures=2))
    assert relayed(model, Topic(), message(), ledger).reason is Reason.IN_PROGRESS
    assert (model.calls, ledger.notes) == ([], ["released"])


def test_deliveries_that_were_no_attempts_do_not_count():
    """A message that was refused nine times for want of room has all of its attempts left."""
    busy = Claim(State.MINE, no_attempts=9)
    assert (
        relayed(Model(ModelFailure.BROKEN), Topic(), message(delivery_attempt=10), Notes(busy)).reason
        is Reason.MODEL_FAILED
    )
    none = Claim(State.MINE, no_attempts=0)
    assert (
        relayed(Model(ModelFailure.BROKEN), Topic(), message(delivery_attempt=10), Notes(none)).reason is Reason.GAVE_UP
    )


def test_where_pubsub_does_not_count_this_process_does():
    """An unwrapped push says nothing of deliveries, and is answered all the same before it is a dead letter."""
    nine = Claim(State.MINE, failed_here=9)
    assert relayed(Model(ModelFailure.BROKEN), Topic(), message(), Notes(nine)).reason is Reason.GAVE_UP


def test_a_deadline_that_passes_in_the_line():
    """The answer goes out when the request's deadline has passed, without a call."""
    topic, relay_model = Topic(), Model()
    line = Line(FixedLimit(1))
    relay = made(relay_model, topic, line=line)
    soon = (datetime.now(UTC) + timedelta(seconds=0.3)).isoformat()
    with line.take(Wish("m", time.monotonic(), math.inf)):
        incoming = message(REQUEST | {"options": {"deadline": soon}})
        verdict = relay.answer(relay.delivery(incoming, STREAM, time.monotonic(), held()))
    assert (verdict.reason, relay_model.calls) == (Reason.REQUEST_REFUSED, [])
    assert topic.response["body"]["error"]["code"] == "deadline_exceeded"


@pytest.mark.parametrize(
    ("options", "attributes", "priority"),
    [
        ({}, {}, Priority.NORMAL),
        ({"priority": "high"}, {"priority": "low"}, Priority.HIGH),
        ({}, {"priority": "low"}, Priority.LOW),
        ({}, {"priority": "urgent!"}, Priority.NORMAL),
    ],
)
def test_the_priority_of_a_request(options, attributes, priority):
    """The request's own option counts, else the message's attribute, else it is a request like any other."""
    wishes = []

    class Counted(Line):
        def take(self, wish):
            wishes.append(wish)
            return super().take(wish)

    relay = made(Model(), Topic(), line=Counted(FixedLimit(1)))
    incoming = message(REQUEST | {"options": options}, attributes=attributes)
    relay.answer(relay.delivery(incoming, STREAM, time.monotonic(), held()))
    assert [wish.priority for wish in wishes] == [priority]


def test_a_message_that_another_instance_took_over():
    """The one who lost it does not publish."""
    topic, ledger = Topic(), Notes(holds=False)
    assert relayed(Model(), topic, message(), ledger).reason is Reason.IN_PROGRESS
    assert topic.messages == []


def test_the_key_of_a_message():
    """Copies have the same; another message, subscription or time of publication has another."""
    relay = made(Model(), Topic())

    def key(incoming):
        return relay.delivery(incoming, STREAM, 0, held()).key

    first = message(subscription="s", publish_time=datetime(2030, 1, 1, tzinfo=UTC))
    assert key(first) == key(replace(first, delivery_attempt=7))
    others = [replace(first, message_id="2"), replace(first, subscription="t"), replace(first, publish_time=None)]
    assert len({key(one) for one in [first, *others]}) == 4


def test_what_a_stream_asks_for(monkeypatch):
    """Its priority counts for all its requests, its attempts end them, its topic gets the answer."""
    stream = replace(
        STREAM, priority=Priority.LOW, max_attempts=2, response_topic="projects/p/topics/its", max_share=0.5
    )
    wishes, topic = [], Topic()
    line = Line(FixedLimit(1))
    monkeypatch.setattr(line, "take", lambda wish, take=line.take: wishes.append(wish) or take(wish))
    relay = made(Model(ModelFailure.BROKEN), topic, line=line)
    for attempt, reason in ((1, Reason.MODEL_FAILED), (2, Reason.GAVE_UP)):
        incoming = message(REQUEST | {"options": {"priority": "high"}}, delivery_attempt=attempt)
        assert relay.answer(relay.delivery(incoming, stream, time.monotonic(), held())).reason is reason
    assert [(wish.priority, wish.max_share) for wish in wishes] == [(Priority.LOW, 0.5)] * 2
    assert [one.topic for one in topic.messages] == ["projects/p/topics/its"]


def test_a_routes_own_time():
    """Bounds its calls, whatever the plain setting says."""
    model = Model()
    route = Route(replace(SETTINGS.routing.routes[0], timeout_seconds=7.0), model, Line(FixedLimit(1)))
    relay = Relay(SETTINGS, Routes([route]), Topic(), Notes(), Pauses())
    relay.answer(relay.delivery(message(), STREAM, time.monotonic(), held()))
    assert 0 < model.calls[0][2] <= 7.0

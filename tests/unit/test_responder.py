"""How an answer goes out: what is kept of it, and what goes along."""

import time
from types import MappingProxyType

import pytest

from handler.ledger import Claim, State
from handler.ledger.redis import RedisLedger
from handler.publisher import OutgoingMessage, PublishFailed, ResponseTooLarge
from handler.rules.verdict.outcome import Reason
from handler.telemetry.record import PushRecord
from handler.telemetry.tracing import Part, Trace, Tracing
from tests.parts import redisserver

from .test_relay import STREAM, Model, Notes, Topic, held, made, message

KEPT = OutgoingMessage(b'{"status_code":200,"metadata":{},"body":{}}', {"request_message_id": "1"})
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(("errors", "end"), [([], "answered"), ([PublishFailed("away")], "released")])
def test_what_the_ledger_has_is_not_kept_again(errors, end):
    """It is there already, for as long as it was to be kept: up to 10 MB would go to the ledger at each redelivery."""
    ledger = Notes(Claim(State.MINE, kept=KEPT.to_bytes()))
    relay = made(Model(), Topic(*errors), ledger)
    relay.answer(relay.delivery(message(), STREAM, time.monotonic(), held()))
    assert ledger.notes == [end]


def test_an_answer_costs_the_ledger_three_round_trips(tmp_path):
    """Claiming, keeping, which says whether the message is still held, and the mark that it is answered."""
    redisserver.needed()
    with redisserver.Server(tmp_path) as server:
        ledger, topic = RedisLedger(server.url, 3600, timeout_seconds=10.0), Topic()
        relay = made(Model(), topic, ledger)
        assert relay.answer(relay.delivery(message(), STREAM, time.monotonic(), held())).reason is Reason.ANSWERED
        ledger.close()
        assert topic.response["status_code"] == 200
        assert server.admin.info("commandstats")["cmdstat_eval"]["calls"] == 3


def test_a_message_that_was_taken_over_is_not_published():
    """Neither by whoever made its response, nor by whoever was told of one that was kept."""
    for claim in (Claim(State.MINE), Claim(State.MINE, kept=KEPT.to_bytes())):
        topic = Topic()
        relay = made(Model(), topic, Notes(claim, holds=False))
        verdict = relay.answer(relay.delivery(message(), STREAM, time.monotonic(), held()))
        assert (verdict.reason, topic.messages) == (Reason.IN_PROGRESS, [])


class Narrow(Topic):
    """Takes so many bytes, attributes included."""

    def fits(self, message):
        return len(message.data) + sum(map(len, (*message.attributes, *message.attributes.values()))) <= self.room

    def publish(self, message, seconds):
        if not self.fits(message):
            raise ResponseTooLarge
        return super().publish(message, seconds)


class Traced(Part, Trace, Tracing):
    """Traces every push."""

    context = MappingProxyType({"traceparent": TRACEPARENT})

    def begin(self, message, parent, seconds):
        return self

    def publishing(self, topic):
        return self


@pytest.mark.parametrize("control", [{}, {"relay_control": "cancel"}])
def test_a_response_that_fits_in_no_form(control):
    """It is made smaller twice, its metadata left out at last."""
    topic, data = Narrow(room=1_000), b'{"metadata":{"a":"%b"},"body":{},"cancel":{"batch_id":"b"}}' % (b"x" * 5_000)
    relay = made(Model(), topic)
    verdict = relay.answer(relay.delivery(message(data=data, attributes=control), STREAM, time.monotonic(), held()))
    assert (verdict.reason, topic.response["metadata"]) == (Reason.RESPONSE_TOO_LARGE, {})
    assert topic.response["body"]["error"]["code"] == "response_too_large"


@pytest.mark.parametrize("claim", [Claim(State.MINE), Claim(State.MINE, kept=KEPT.to_bytes())])
def test_a_place_in_a_trace_costs_no_response(claim):
    """It goes along where there is room for it, whether the response is made now or was kept when nobody traced it."""

    def published(topic):
        relay, record = made(Model(), topic, Notes(claim)), PushRecord(tracing=Traced())
        record.identify(message(), {})
        verdict = relay.answer(relay.delivery(message(), STREAM, time.monotonic(), held(), record))
        assert verdict.reason is Reason.ANSWERED
        (response,) = topic.messages
        return response

    whole = published(Narrow())
    assert whole.attributes["googclient_traceparent"] == TRACEPARENT
    plain = {name: value for name, value in whole.attributes.items() if name != "googclient_traceparent"}
    room = len(whole.data) + sum(map(len, (*plain, *plain.values())))
    assert published(Narrow(room=room)).attributes == plain

"""How an answer goes out: what is kept of it, and what goes along."""

import time

import pytest

from handler.ledger import Claim, State
from handler.publisher import OutgoingMessage, PublishFailed

from .test_relay import STREAM, Model, Notes, Topic, held, made, message

KEPT = OutgoingMessage(b'{"status_code":200,"metadata":{},"body":{}}', {"request_message_id": "1"})


@pytest.mark.parametrize(("errors", "end"), [([], "answered"), ([PublishFailed("away")], "released")])
def test_what_the_ledger_has_is_not_kept_again(errors, end):
    """It is there already, for as long as it was to be kept: up to 10 MB would go to the ledger at each redelivery."""
    ledger = Notes(Claim(State.MINE, kept=KEPT.to_bytes()))
    relay = made(Model(), Topic(*errors), ledger)
    relay.answer(relay.delivery(message(), STREAM, time.monotonic(), held()))
    assert ledger.notes == [end]

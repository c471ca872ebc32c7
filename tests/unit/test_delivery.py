"""What is held of a message, which may come by the thousand and be as large as a message can be."""

from handler import routes
from handler.delivery import inference_of
from handler.rules.message.attributes import MAX_VALUE_BYTES

from .test_claimcheck import SETTINGS, read
from .test_relay import STREAM


def test_a_models_name_may_be_as_long_as_a_message():
    """Of it no more is held than an attribute takes: in memory it can be four times what came, which is what counts."""
    inference = inference_of(
        read({"metadata": {}, "body": {"model": "\U0001f600" * 1_000_000}}), {}, STREAM, SETTINGS, None
    )
    assert len(inference.model) <= MAX_VALUE_BYTES
    assert inference_of(read({"metadata": {}, "body": {}}), {}, STREAM, SETTINGS, None).model is None


def test_what_waits_for_the_only_route_is_bounded():
    """By its bytes, which are more than what was taken in where a small message becomes a large form."""
    (route,) = routes.made(SETTINGS)
    assert route.line._room.size == SETTINGS.max_waiting_mb << 20

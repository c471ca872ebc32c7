"""The protobuf classes of google.pubsub.v1, raw: they cost a fraction of proto-plus' wrappers."""

from typing import Any

from google.pubsub_v1 import types

Message = Any  # the classes are made while the program runs, so there is no type to name


def __getattr__(name: str) -> Any:
    """Give the raw class of one message type: `pb.PullResponse`."""
    raw = globals()[name] = getattr(types, name).pb()
    return raw

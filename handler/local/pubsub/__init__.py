"""A Pub/Sub for one machine: the gRPC API of the real one, and push delivery with the real one's rules."""

from handler.local.pubsub.rules import Rules
from handler.local.pubsub.server import Broker, LocalPubSub, Stats

__all__ = ["Broker", "LocalPubSub", "Rules", "Stats"]

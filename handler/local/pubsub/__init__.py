"""A Pub/Sub for one machine: the real one's gRPC API, and push delivery by the real one's rules."""

from handler.local.pubsub.faults import Fault
from handler.local.pubsub.rules import Rules
from handler.local.pubsub.server import Broker, LocalPubSub, Stats
from handler.local.pubsub.watch import Watch

__all__ = ["Broker", "Fault", "LocalPubSub", "Rules", "Stats", "Watch"]

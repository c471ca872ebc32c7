"""A Pub/Sub for one machine: the real one's gRPC API, and push delivery by the real one's rules."""

from handler.local.pubsub.core.rules import Rules
from handler.local.pubsub.core.watch import Watch
from handler.local.pubsub.faults import Fault
from handler.local.pubsub.server import Broker, LocalPubSub, Stats

__all__ = ["Broker", "Fault", "LocalPubSub", "Rules", "Stats", "Watch"]

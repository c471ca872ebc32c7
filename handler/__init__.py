"""inference-relay: a Pub/Sub push handler that answers inference requests with a model service."""

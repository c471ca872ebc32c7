"""Stand-ins for one machine: a Pub/Sub with push, a small model, the runner."""

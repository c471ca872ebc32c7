"""How a backlog drains that waits in the local Pub/Sub, which pushes it by the real one's rules. See README.md."""

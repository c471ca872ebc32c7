"""Settings: what can be configured, and how a value may look."""

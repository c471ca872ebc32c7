"""A person at a terminal: every command of `inference-relay`, and the check of a deployment."""

"""Outgoing HTTP: how connections are dialled, watched and retired, for the model service and for push tokens' keys."""

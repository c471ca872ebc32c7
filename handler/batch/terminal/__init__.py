"""Batches for a person at a terminal."""

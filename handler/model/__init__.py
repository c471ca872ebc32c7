"""The model service: the only room that knows requests and what is under it."""

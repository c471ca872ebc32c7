"""Delivery by push: the pace of each subscription, the request over HTTP, its token."""

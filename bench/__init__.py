"""The benchmarks: of the service (`python -m bench`), of a backlog (bench.backlog), of the local Pub/Sub (pubsub.py).

See README.md.
"""

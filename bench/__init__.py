"""The benchmarks: of the service (`python -m bench`) and of the local Pub/Sub (pubsub.py). See README.md."""

"""What the tests of the deployment share: Pub/Sub, model and helpers are those of the black-box tests."""

from tests.e2e.conftest import brokers, local_topics, model

__all__ = ["brokers", "local_topics", "model"]

"""The model's client in a process that is not patched, as a command's: what is slow is given up on all the same."""

import socket

from handler.config.settings import Settings
from handler.model.service import ModelService
from handler.rules.verdict.outcome import ModelFailure


def test_a_silent_model_is_given_up_on():
    """`inference-relay check` says that it does not answer in time, and does not hang."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        environment = {
            "MODEL_URL": "http://{}:{}".format(*silent.getsockname()),
            "RESPONSE_TOPIC": "projects/p/topics/responses",
            "PUSH_AUTH": "platform",
        }
        (route,) = Settings.from_environment(environment).routing.routes
        model = ModelService(route, connect_seconds=5.0)
        assert model.probe("/v1/models", 0.2) is ModelFailure.TIMEOUT

"""The model's client in a process that is not patched, as a command's."""

import socket
from dataclasses import replace

from handler.config.settings import Settings
from handler.model.service import ModelService
from handler.rules.verdict.outcome import ModelFailure


def route(url):
    """The route to a model service at this URL."""
    environment = {"MODEL_URL": url, "RESPONSE_TOPIC": "projects/p/topics/responses", "PUSH_AUTH": "platform"}
    return Settings.from_environment(environment).routing.routes[0]


def test_what_is_prepared_is_kept_by_its_url(monkeypatch):
    """Requesters write what they like into `model`: it is kept where it is a part of the URL, and nowhere else."""
    for url, kept in (("http://model", 1), ("http://{model}", 2)):
        model = ModelService(replace(route("http://model"), url=url), connect_seconds=5.0)
        monkeypatch.setattr(model, "_send", lambda *_: None)
        for name in ("a", "b", "b"):
            model.call("/v1/completions", b"{}", 1.0, model=name)
        assert model._prepared.cache_info().currsize == kept


def test_a_silent_model_is_given_up_on():
    """`inference-relay check` says that it does not answer in time, and does not hang."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        model = ModelService(route("http://{}:{}".format(*silent.getsockname())), connect_seconds=5.0)
        assert model.probe("/v1/models", 0.2) is ModelFailure.TIMEOUT

"""What `inference-relay check` finds of model services without a list of models, or with other paths than the usual."""

from itertools import chain, repeat

import pytest

from handler.commands import check
from handler.config.settings import Settings
from tests.parts.model import Model, http, serving

NO_LIST = http(404, "text/html", b"<!doctype html><title>Not Found</title>")
NO_PATH = http(404, "application/json", b'{"error": {"message": "The model does not support this", "code": 404}}')
ANSWER = http(200, "application/json", b'{"results": []}')
BOUND = {"RESPONSE_TOPIC": "projects/p/topics/responses", "PUSH_AUTH": "platform"}


@pytest.fixture
def model():
    """A model service that answers every request, and has no list of models."""
    with serving(Model()) as server:
        server.replies = {"GET /v1/models": [NO_LIST]}
        yield server


def found(server, name=None, **environment):
    """What is found of a model service: each finding's mark and text."""
    settings = Settings.from_environment({"MODEL_URL": server.url, **BOUND, **environment})
    for finding in check._models(settings, name):
        yield "DOUBT" if finding.doubtful else "ok" if finding.ok else "WRONG", finding.text


@pytest.mark.parametrize("status", [404, 405])
def test_a_service_without_a_list_of_models(model, status):
    """It may be right, and MODEL_URL may be wrong: that stands until a model answers, and what tells is said."""
    model.replies["GET /v1/models"] = [http(status, "text/plain", b"no")]
    ((mark, text),) = found(model)
    assert (mark, f"GET /v1/models gives status {status}" in text) == ("WRONG", True)
    assert "MODEL_URL should be what comes before /v1" in text
    assert "--model NAME" in text


@pytest.mark.parametrize(
    ("reply", "mark", "says"),
    [
        (NO_LIST, "ok", "(status 404), but its model answers"),
        (http(403, "application/json", b"{}"), "DOUBT", "(status 403), but its model answers"),
        (http(200, "text/html", b"<html>"), "DOUBT", "(status 200), but its model answers"),
        (lambda _connection: None, "DOUBT", "(ends the connection, or speaks no HTTP), but its model answers"),
        (http(200, "application/json", b'{"data": [{"id": "small"}]}'), "ok", "it serves small"),
    ],
    ids=["none", "refused", "a page", "silence", "a list"],
)
def test_a_model_that_answers_says_more_than_a_list(model, reply, mark, says):
    """Nothing about the list of models is WRONG then, and that there is none is not even a doubt."""
    model.replies["GET /v1/models"] = [reply]
    (listing, answer) = found(model, "small")
    assert (listing[0], says in listing[1]) == (mark, True), listing
    assert answer == ("ok", "model small: /v1/completions gives status 200")


def test_a_model_that_does_not_answer_leaves_the_list_as_it_is(model):
    """No list and no answer: both are WRONG."""
    model.reply = lambda prompt: NO_LIST if prompt == "GET /v1/models" else NO_PATH
    assert [mark for mark, _ in found(model, "small")] == ["WRONG", "WRONG"]


@pytest.mark.parametrize(
    ("path", "asks"),
    [
        ("/chat/completions", {"messages": [{"role": "user", "content": "1"}], "max_tokens": 1}),
        ("/v1beta/openai/chat/completions", {"messages": [{"role": "user", "content": "1"}], "max_tokens": 1}),
        ("/completions", {"prompt": "1", "max_tokens": 1}),
        ("/v2/embeddings", {"input": "1"}),
        ("/v2/rerank", {"query": "1", "documents": ["1"]}),
        ("/score", {"text_1": "1", "text_2": "1"}),
        ("/v1/responses", {"input": "1", "max_output_tokens": 16}),
        ("/v1/messages", {"messages": [{"role": "user", "content": "1"}], "max_tokens": 1}),
    ],
)
def test_the_ending_of_a_path_tells_what_to_ask(model, path, asks):
    """Vertex AI has no /v1 in its paths, and a model that ranks takes neither prompt nor chat."""
    _, answer = found(model, "small", ALLOWED_PATHS=path)
    assert answer == ("ok", f"model small: {path} gives status 200")
    assert model.calls == [(path, {"model": "small", **asks})]


def test_a_model_that_only_ranks_is_found_among_the_usual_paths(model):
    """Each path that can be asked is, before a model is said not to answer."""
    replies = chain(repeat(NO_PATH, 3), repeat(ANSWER))
    model.reply = lambda prompt: NO_LIST if prompt == "GET /v1/models" else next(replies)
    (_, (mark, text)) = found(model, "small")
    assert (mark, text.startswith("model small: /v1/rerank gives status 200")) == ("ok", True), text


def test_a_model_that_cannot_be_asked_is_a_doubt(model):
    """What only takes files, or makes more than a token, says nothing of itself: WRONG would be a guess."""
    _, (mark, text) = found(model, "whisper", ALLOWED_PATHS="/v1/audio/transcriptions,/v1/images/generations")
    assert (mark, "not asked" in text) == ("DOUBT", True)
    assert "(/v1/audio/transcriptions, /v1/images/generations)" in text
    assert model.calls == []


def test_what_was_not_asked_is_said_beside_what_does_not_answer(model):
    """One whose paths are the usual ones may still transcribe."""
    model.reply = lambda prompt: NO_LIST if prompt == "GET /v1/models" else NO_PATH
    _, (mark, text) = found(model, "whisper", ALLOWED_PATHS="/v1/completions,/v1/audio/transcriptions")
    assert mark == "WRONG"
    assert text.endswith("Not asked, for want of a small request: /v1/audio/transcriptions")

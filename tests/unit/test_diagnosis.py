"""Whose trouble an error is: the documented error of each server, row by row."""

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handler.rules.verdict.complaint import complaint_in
from handler.rules.verdict.diagnosis import ROWS, Kind
from handler.rules.verdict.reply import ModelReply, read
from tests.parts.jsonvalues import json_values

REQUESTER, OPERATOR, TEMPORARY, UNCERTAIN = Kind.REQUESTER, Kind.OPERATOR, Kind.TEMPORARY, Kind.UNCERTAIN


def error(message, **more):
    """OpenAI's shape."""
    return {"error": {"message": message, "type": None, "param": None, "code": None, **more}}


def flat(message, **more):
    """The shape of vLLM before 0.10, SGLang and FastChat."""
    return {"object": "error", "message": message, "param": None, **more}


# Who writes it, with which status, as which JSON (or text), and whose trouble it is.
DOCUMENTED = [
    # the server is not ready
    ("KServe, scaling from zero", 400, {"error": "Model my-model is not ready yet."}, TEMPORARY),
    ("KServe", 503, {"error": "Model with name my-model is not ready."}, TEMPORARY),
    ("llama.cpp", 503, error("Loading model", type="unavailable_error", code=503), TEMPORARY),
    ("Hugging Face", 503, {"error": "Model gpt2 is currently loading", "estimated_time": 20.0}, TEMPORARY),
    ("Hugging Face, once", 400, {"error": "Model gpt2 is currently loading", "estimated_time": 20.0}, TEMPORARY),
    ("Triton", 400, {"error": "Request for unknown model: 'm' has no available versions"}, TEMPORARY),
    ("LM Studio", 400, {"error": 'Failed to load model "m". Error: Operation canceled.'}, TEMPORARY),
    ("LM Studio", 400, {"error": "Model unloaded."}, TEMPORARY),
    ("LM Studio", 404, {"error": "Model is unloaded."}, TEMPORARY),
    # overloaded
    ("TGI", 429, {"error": "Model is overloaded", "error_type": "overloaded"}, TEMPORARY),
    ("LiteLLM", 400, error("No deployments available for selected model, Try again in 60 seconds"), TEMPORARY),
    ("KoboldCpp", 503, {"detail": {"msg": "Server is busy; please try again later.", "type": "service_unavailable"}},
     TEMPORARY),
    ("Ollama", 503, error("server busy, please try again.  maximum pending requests exceeded"), TEMPORARY),
    ("Groq", 498, error("Flex tier capacity exceeded"), TEMPORARY),
    ("Anthropic", 529, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, TEMPORARY),
    ("Mistral", 429, flat("Service tier capacity exceeded for this model.", code="3505"), TEMPORARY),
    ("GitHub-like gateways", 403, {"message": "API rate limit exceeded"}, TEMPORARY),
    ("Gemini", 429, [error("Quota exceeded", code=429, status="RESOURCE_EXHAUSTED")], TEMPORARY),
    ("OpenAI", 429, error("Rate limit reached for gpt-4 in organization o on tokens per min"), TEMPORARY),
    # the engine is gone
    ("vLLM", 400, flat("Background loop has errored already.", type="BadRequestError", code=400), TEMPORARY),
    ("vLLM", 500, error("EngineCore encountered an issue. See stack trace for the root cause."), TEMPORARY),
    ("LM Studio", 400, {"error": "The model has crashed without additional information. (Exit code: 6)"}, TEMPORARY),
    ("Ollama", 500, error("llama runner process has terminated: exit status 2", type="api_error"), TEMPORARY),
    ("LiteLLM", 400, error("litellm.APIConnectionError: OllamaException - connection refused", code="400"), TEMPORARY),
    ("Envoy", 503, "upstream connect error or disconnect/reset before headers", TEMPORARY),
    ("Envoy, as 400", 400, "no healthy upstream", TEMPORARY),
    ("LiteLLM", 400, error("Internal server error"), TEMPORARY),
    # money and keys
    ("DeepSeek", 402, error("Insufficient Balance", code="invalid_request_error"), OPERATOR),
    ("anyone", 402, {}, OPERATOR),
    ("OpenAI", 429, error("You exceeded your current quota", code="insufficient_quota"), OPERATOR),
    ("Anthropic", 400, {"type": "error", "error": {
        "type": "invalid_request_error", "message": "Your credit balance is too low to access the Anthropic API."}},
     OPERATOR),
    ("LiteLLM", 400, error("Budget has been exceeded! Current cost: 1.1, Max budget: 1.0", code="400"), OPERATOR),
    ("Fireworks", 412, error("Account a is suspended, possibly due to reaching the monthly spending limit"), OPERATOR),
    ("Gemini", 400, [error("API key not valid. Please pass a valid API key.", code=400)], OPERATOR),
    ("xAI", 400, {"code": "Client specified an invalid argument", "error": "Incorrect API key provided: x."}, OPERATOR),
    ("LiteLLM", 400, error("No connected db.", type="no_db_connection", code="400"), OPERATOR),
    ("vLLM", 401, {"error": "Unauthorized"}, OPERATOR),
    ("llama.cpp", 401, error("Invalid API Key", type="authentication_error", code=401), OPERATOR),
    # a path that the model service does not have
    ("LM Studio", 200, {"error": "Unexpected endpoint or method. (POST /v1/completions)"}, OPERATOR),
    ("FastAPI", 404, {"detail": "Not Found"}, OPERATOR),
    ("FastAPI", 405, {"detail": "Method Not Allowed"}, OPERATOR),
    ("vLLM", 404, error("Not Found", type="NotFoundError", code=404), UNCERTAIN),
    ("llama.cpp", 404, error("File Not Found", type="not_found_error", code=404), UNCERTAIN),
    ("OpenAI", 404, error("Invalid URL (POST /v1/v1/completions)", type="invalid_request_error"), UNCERTAIN),
    ("Groq", 404, error("Unknown request URL: POST /v1/x. Please check the URL for typos.", code="unknown_url"),
     UNCERTAIN),
    ("Ollama", 404, "404 page not found", OPERATOR),
    ("Kong", 404, {"message": "no Route matched with those values", "request_id": "1"}, OPERATOR),
    ("APISIX", 404, {"error_msg": "404 Route Not Found"}, OPERATOR),
    ("Spring", 404, {"timestamp": "t", "status": 404, "error": "Not Found", "path": "/v1/completions"}, OPERATOR),
    ("NestJS", 404, {"statusCode": 404, "message": "Cannot POST /v1/completions", "error": "Not Found"}, OPERATOR),
    ("NestJS", 404, {"statusCode": 404, "message": "The model x was not found", "error": "Not Found"}, REQUESTER),
    ("ASP.NET", 404, {"type": "https://x/rfc9110", "title": "Not Found", "status": 404, "traceId": "1"}, OPERATOR),
    ("Express", 404, "<!DOCTYPE html><pre>Cannot POST /v1/completions</pre>", OPERATOR),
    ("nginx", 405, "<html><h1>405 Not Allowed</h1></html>", OPERATOR),
    ("nginx", 404, "<html><h1>404 Not Found</h1></html>", OPERATOR),
    ("an ingress", 404, "default backend - 404", OPERATOR),
    ("anyone", 404, {}, OPERATOR),
    ("anyone", 404, "", OPERATOR),
    # set-up
    ("nginx", 400, "<html><title>400 The plain HTTP request was sent to HTTPS port</title></html>", OPERATOR),
    ("Go", 400, "Client sent an HTTP request to an HTTPS server.\n", OPERATOR),
    ("Starlette", 400, "Invalid host header", OPERATOR),
    ("LM Studio", 404, error("No models loaded. Please load a model in the developer page.", code="model_not_found"),
     OPERATOR),
    ("Ollama", 500, error("model requires more system memory (5.6 GiB) than is available (3.2 GiB)"), OPERATOR),
    # an unknown model
    ("FastAPI", 404, {"detail": "Model 'x' not found"}, REQUESTER),
    ("vLLM", 404, flat("The model `x` does not exist.", type="NotFoundError", code=404), REQUESTER),
    ("Ollama", 404, error('model "x" not found, try pulling it first', type="api_error"), REQUESTER),
    ("Ollama, natively", 404, {"error": "model 'x' not found"}, REQUESTER),
    ("Gemini", 404, [error("models/x is not found for API version v1beta", code=404, status="NOT_FOUND")], REQUESTER),
    ("Go servers", 404, "model x not found", REQUESTER),
    ("LiteLLM", 400, error("Invalid model name passed in model=x. Call `/v1/models` to view models."), REQUESTER),
    ("OpenAI", 403, error("Project `p` does not have access to model `x`", code="model_not_found"), REQUESTER),
    ("LiteLLM", 401, error("key not allowed to access model.", type="key_model_access_denied"), REQUESTER),
    ("RunPod", 200, flat("The model `x` does not exist.", type="NotFoundError", code=404), REQUESTER),
    ("Xinference", 500, {"detail": "Model not found in the model list, uid: x"}, REQUESTER),
    # more than the model takes, or what it cannot do, or cannot read
    ("llama.cpp", 500, error("image input is not supported - hint: if this is unexpected, you may need to provide the "
                             "mmproj", type="server_error", code=500), REQUESTER),
    ("llama.cpp", 500, error("input (2001 tokens) is too large to process. increase the physical batch size (current "
                             "batch size: 1024)", type="server_error", code=500), REQUESTER),
    ("llama.cpp", 400, error("the request exceeds the available context size", type="exceed_context_size_error"),
     REQUESTER),
    ("llama.cpp", 500, error("[json.exception.type_error.302] type must be string, but is number", code=500),
     REQUESTER),
    ("llama.cpp", 500, error("Conversation roles must alternate user/assistant", code=500), REQUESTER),
    ("llama.cpp", 500, error("tools param requires --jinja flag", code=500), REQUESTER),
    ("llama.cpp", 501, error("This server does not support embeddings.", type="not_supported_error"), REQUESTER),
    ("Ollama", 500, error("the input length exceeds the context length", type="api_error"), REQUESTER),
    ("Ollama", 500, error("this model is missing data required for image input", type="api_error"), REQUESTER),
    ("Ollama", 400, error('"smollm2:135m" does not support tools', type="api_error"), REQUESTER),
    ("KServe", 500, error("This model's maximum context length is 8192 tokens. However, you requested 50014",
                          type="OpenAIError", code="500"), REQUESTER),
    ("LocalAI", 500, error("rpc error: code = Unimplemented desc = ", code=500), REQUESTER),
    ("TEI", 413, {"error": "Input validation error: `inputs` must have less than 512 tokens.",
                  "error_type": "Validation"}, REQUESTER),
    ("TGI", 422, {"error": "Input validation error: `inputs` must have less than 1024 tokens",
                  "error_type": "validation"}, REQUESTER),
    ("FastAPI", 422, {"detail": [{"loc": ["body", "model"], "msg": "Field required", "type": "missing"}]}, REQUESTER),
    ("OpenAI", 429, error("Request too large for gpt-4 in organization o on tokens per min (TPM)"), REQUESTER),
    ("OpenRouter", 403, error("Your chosen model requires moderation and your input was flagged", code=403), REQUESTER),
    ("nginx", 413, "<html><h1>413 Request Entity Too Large</h1></html>", REQUESTER),
    ("Go servers", 400, "unable to decode request body", REQUESTER),
    ("anyone", 400, {}, REQUESTER),
    ("anyone", 405, error("only POST is allowed"), REQUESTER),
    # an error inside a success
    ("OpenRouter", 200, {"id": None, "choices": None, **error("Internal Server Error", code=500)}, UNCERTAIN),
    ("OpenRouter", 200, {"id": "1", "choices": [{"text": "", "error": {"code": 502, "message": "Provider returned"}}]},
     TEMPORARY),
    ("OpenRouter", 200, error("Rate limited", code=429), TEMPORARY),
    ("GLM", 200, {"code": 500, "msg": "404 NOT_FOUND", "success": False}, OPERATOR),
    ("MiniMax", 200, {"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}, OPERATOR),
    ("Qianfan", 200, {"error_code": 336003, "error_msg": "the max input characters is 2000"}, TEMPORARY),
    ("FastAPI", 200, {"detail": "Something went wrong"}, TEMPORARY),
    ("anyone", 200, {"error": "oh no"}, TEMPORARY),
    ("anyone", 200, {"error": {"message": "max_tokens", "code": "400"}}, REQUESTER),
    ("anyone", 200, {"error": {"why": "nobody knows"}}, TEMPORARY),
    ("anyone", 200, {"success": False, "errors": [{"code": 7003, "message": "Could not route"}]}, TEMPORARY),
    ("anyone", 200, {"status": "error", "message": "oh no"}, TEMPORARY),
    # nobody can tell
    ("LocalAI", 500, error("could not load model - all backends returned error", code=500), UNCERTAIN),
    ("Starlette", 500, "Internal Server Error", UNCERTAIN),
    ("Flask", 500, "<!doctype html><pre>TypeError: the prompt must be a string</pre>", UNCERTAIN),
    ("TGI", 424, {"error": "Request failed during generation: Server error: CUDA out of memory",
                  "error_type": "generation"}, UNCERTAIN),
    ("PyTorch servers", 400, {"detail": "CUDA out of memory. Tried to allocate 2 GiB"}, UNCERTAIN),
    ("nginx", 400, "<html><h1>400 Bad Request</h1></html>", UNCERTAIN),
    ("anyone", 404, {"message": "Here is nothing"}, UNCERTAIN),
    ("TGI", 424, {"error": "Request failed during generation", "error_type": "generation"}, TEMPORARY),
]  # fmt: skip


def reply(status, body):
    """A reply with this JSON, or this text."""
    if isinstance(body, str):
        return ModelReply(status, "text/html" if body.startswith("<") else "text/plain", body.encode())
    return ModelReply(status, "application/json", json.dumps(body).encode())


@pytest.mark.parametrize(("who", "status", "body", "kind"), DOCUMENTED)
def test_documented_errors(who, status, body, kind):
    """Each is the trouble of whoever can end it."""
    assert read(reply(status, body)).kind is kind


@pytest.mark.parametrize(
    "body",
    [
        {"choices": [{"text": "blue"}], "error": None},
        {"choices": [{"text": "blue"}], "error": ""},
        {"choices": [{"text": "blue"}], "error": {}},
        {"choices": [{"text": "blue"}], "error": {"message": None, "code": None}},
        {"choices": [{"text": "blue", "error": None}]},
        {"choices": [{"text": "blue", "error": {"code": 1}}, {"text": "red"}]},
        {"choices": [{"text": "blue"}], "code": 200, "message": "success"},
        {"choices": [], "base_resp": {"status_code": 0, "status_msg": "success"}},
        {"vectors": [[1]], "base_resp": {"status_code": 0, "status_msg": "success"}},
        {"object": "response", "status": "completed", "error": None, "output": []},
        {"data": [], "object": "list"},
        {"echo": "hello"},
        {"message": "hello"},
        {"message": {"role": "assistant", "content": "hello"}, "done": True},
        {"status": "ok", "message": "hello"},
        {"error": 0.05, "predictions": [1]},
        {"text": "what is an error?"},
        {"tokens": [1], "count": 1},
        {},
        [],
        [{"error": "x"}, {"error": "y"}],
        "an error",
        None,
        7,
    ],
)
def test_answers_that_only_look_like_errors(body):
    """`error: null` is an answer, and so is what says nothing of a failure."""
    assert read(reply(200, body)).kind is Kind.ANSWER


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (error("x", code=429), 429),
        (error("x", code="503"), 503),
        (error("x", code="rate_limit_exceeded"), 502),
        (error("x", code=1302), 502),
        (error("x", code=200), 502),
        (error("x", status=404), 404),
        ({"error": "x", "code": 401}, 401),
        ({"error": "x"}, 502),
        ({"error": 503}, 503),
        ({"error": True, "message": "x", "status_code": 504}, 504),
        (flat("x", code=400), 400),
    ],
)
def test_an_error_in_a_success_has_the_status_that_it_names(body, status):
    """Its code where that is an HTTP status, else 502; the words stay the model's own."""
    assert read(reply(200, body)).answer.status_code == status
    assert json.loads(read(reply(200, body)).answer.body) == body


def test_every_row_is_known_from_somewhere():
    """Each row names who writes it and what it is, and is found by an example of these tests."""
    unused = set(ROWS)
    for _, status, body, _ in DOCUMENTED:
        read_body = body if not isinstance(body, str) else None
        complaint = read_body is not None and complaint_in(read_body, succeeded=status < 300)
        words = complaint.words if complaint else str(body)
        unused -= {row for row in unused if row.knows(words)}
    assert unused == set()
    assert all(row.known and re.fullmatch(r"[ -~]+", row.what) for row in ROWS)


QUOTED = "lorem ipsum dolor sit amet\n" * 2_000


@pytest.mark.parametrize("long", ["{} {quoted}", "{quoted} {}", "{}\n{quoted}"])
@pytest.mark.parametrize(("who", "status", "body", "kind"), DOCUMENTED)
def test_a_server_may_quote_the_request(who, status, body, kind, long):
    """What it says before or after that tells whose trouble it is."""
    message = isinstance(body, dict) and isinstance(body.get("error"), dict) and body["error"].get("message")
    if not message or (message.rstrip(".").lower().endswith("not found") and "\n" not in long):
        return  # no words; or it is the whole line that counts
    quoting = body | {"error": body["error"] | {"message": long.format(message, quoted=QUOTED)}}
    assert read(reply(status, quoting)).kind is kind


@pytest.mark.parametrize(
    "body",
    [
        error(f"{QUOTED} overloaded {QUOTED}", type=f"x{QUOTED}"),
        {"error": f"{QUOTED} overloaded {QUOTED}", "detail": QUOTED},
        flat(f"{QUOTED} overloaded {QUOTED}", code=QUOTED),
        {"detail": [{"msg": f"{QUOTED} overloaded {QUOTED}", "type": QUOTED}]},
        f"{QUOTED} overloaded {QUOTED}",
    ],
)
def test_what_is_quoted_is_not_looked_through(body):
    """Nothing else happens in the process meanwhile, and the words of a prompt are not the server's."""
    complaint = complaint_in(body, succeeded=False)
    assert len(complaint.words) < 5_000
    assert read(ModelReply(400, "application/json", json.dumps(body).encode())).kind is REQUESTER


def test_what_is_left_of_a_long_message_has_no_ends_but_its_own():
    """Where it is cut no line begins or ends: what counts as a whole line only is not found there."""
    line = "not found"
    for shift in range(50):
        message = "x" * shift + f"\n{line} in what was asked for: no {line}" * 1_000
        words = complaint_in(error(message), succeeded=False).words
        assert not re.search(f"^{line}$", words, re.MULTILINE)


FIELDS = st.sampled_from(["error", "message", "code", "detail", "choices", "type", "errors"])


@given(st.integers(100, 700), json_values(FIELDS, st.floats(allow_nan=False), depth=4))
@settings(max_examples=400)
def test_no_reply_is_too_strange(status, body):
    """Whatever the JSON, there is a kind and an answer that can be published."""
    reading = read(ModelReply(status, "application/json", json.dumps(body).encode()))
    assert reading.kind in Kind
    json.loads(reading.answer.body)
    assert 100 <= reading.answer.status_code <= 599

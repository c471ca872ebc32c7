"""The model's replies: what is an answer, whose trouble an error is, and how often it is paid for."""

import gzip
import json

import pytest

from .conftest import GOOD, MAX_ATTEMPTS, rows, said

GOOD_BYTES = json.dumps(GOOD).encode()


def api_error(message, **more):
    """OpenAI's shape."""
    return {"error": {"message": message, "type": None, "param": None, "code": None, **more}}


# --- the model is asked again, to the last attempt


@pytest.mark.parametrize(
    ("status", "body", "published"),
    rows(
        ("KServe: 400 while scaling from zero", 400, {"error": "Model my-model is not ready yet."}, 400),
        ("MLServer: 400 by another name", 400, {"error": "Model sklearn-iris is not ready yet."}, 400),
        ("Triton: 400 without a version", 400, {"error": "Request for unknown model: 'm' has no available versions"}, 400),
        ("LM Studio: 400 when its model is unloaded", 400, {"error": "Model unloaded."}, 400),
        ("vLLM: 400 when its engine is dead", 400, {"object": "error", "message": "Background loop has errored already.",
                                                    "type": "BadRequestError", "code": 400}, 400),
        ("LiteLLM: 400 without a connection", 400, api_error("litellm.APIConnectionError: connection refused"), 400),
        ("TGI: 424 while generating", 424, {"error": "Request failed during generation", "error_type": "generation"}, 424),
        ("Groq: 498 without capacity", 498, api_error("Flex tier capacity exceeded"), 498),
        ("an error of a router with code 503 in a 200", 200, {"id": None, "choices": None, **api_error("x", code=503)}, 503),
        ("an error in each choice of a 200", 200, {"choices": [{"text": "", "error": {"code": 502, "message": "x"}}]}, 502),
        ("an error as text in a 200", 200, {"error": "something went wrong"}, 502),
        ("a rate limit in a 200", 200, api_error("slow down", code=429), 429),
        ("a code in words in a 200", 200, api_error("slow down", code="rate_limit_exceeded"), 502),
        ("FastAPI's detail in a 200", 200, {"detail": "something went wrong"}, 502),
        ("no success in a 200", 200, {"code": 500, "msg": "busy, try again later", "success": False}, 500),
    ),
)  # fmt: skip
def test_temporary(world, status, body, published):
    """It is waited for as long as for a 503, and in the end the model's own words come back."""
    outcome = world.ask(said(status, body))
    assert outcome.deliveries == outcome.calls == MAX_ATTEMPTS
    assert outcome.reasons == ["model_failed"] * (MAX_ATTEMPTS - 1) + ["gave_up"]
    assert (outcome.response["status_code"], outcome.response["body"]) == (published, body)


@pytest.mark.parametrize(
    ("status", "body", "published"),
    rows(
        ("LM Studio: an unknown path in a 200", 200,
         {"error": "Unexpected endpoint or method. (POST /v1/completions)"}, 502),
        ("DeepSeek: 402 without balance", 402, api_error("Insufficient Balance", code="invalid_request_error"), 402),
        ("OpenAI: 429 without quota", 429, api_error("You exceeded your current quota", code="insufficient_quota"), 429),
        ("Anthropic: 400 without credit", 400, api_error("Your credit balance is too low to access the API."), 400),
        ("Gemini: 400 for its key, in a list", 400, [api_error("API key not valid. Please pass a valid API key.")], 400),
        ("Fireworks: 412 for an account", 412, api_error("Account a is suspended, see your spending limit"), 412),
        ("FastAPI: 404 for a path", 404, {"detail": "Not Found"}, 404),
        ("Spring: 404 for a path", 404, {"status": 404, "error": "Not Found", "path": "/v1/completions"}, 404),
        ("FastAPI: 405", 405, {"detail": "Method Not Allowed"}, 405),
        ("LM Studio: nothing is loaded", 404, api_error("No models loaded. Please load a model."), 404),
        ("Ollama: it does not fit", 500, api_error("model requires more system memory (5.6 GiB) than is available"), 500),
        ("MiniMax: money in a 200", 200, {"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}, 502),
    ),
)  # fmt: skip
def test_the_operators_trouble(world, status, body, published):
    """Loud from the first time, never the requester's; in the end the model's own words come back."""
    outcome = world.ask(said(status, body))
    assert outcome.reasons == ["model_misconfigured"] * (MAX_ATTEMPTS - 1) + ["gave_up"]
    assert {line["severity"] for line in outcome.lines} == {"ERROR"}
    assert (outcome.response["status_code"], outcome.response["body"]) == (published, body)


def test_a_login_page(world):
    """HTML in a 200 is no model's: MODEL_URL points elsewhere. Its start is quoted."""
    outcome = world.ask(said(200, "<!doctype html><title>Log in</title>", "text/html"))
    assert outcome.reasons[0] == "model_misconfigured"
    assert "<title>Log in</title>" in outcome.error


def test_a_scale_from_zero_empties_no_queue(world):
    """The server's 400 while it loads is waited out, and the answer comes."""
    not_ready = said(400, {"error": "Model my-model is not ready yet."})
    outcome = world.ask(not_ready, not_ready, not_ready, said(200, GOOD))
    assert outcome.reasons == ["model_failed"] * 3 + ["answered"]
    assert outcome.response["body"] == GOOD


# --- the request's own fault: one answer


@pytest.mark.parametrize(
    ("status", "body"),
    rows(
        ("llama.cpp: 500 for an image", 500, api_error(
            "image input is not supported - hint: you may need to provide the mmproj", type="server_error", code=500)),
        ("llama.cpp: 500 for a long input", 500, api_error(
            "input (2001 tokens) is too large to process. increase the physical batch size", type="server_error")),
        ("llama.cpp: 500 for a type", 500, api_error("[json.exception.type_error.302] type must be string, but is number")),
        ("llama.cpp: 500 for roles", 500, api_error("Conversation roles must alternate user/assistant/user/...")),
        ("Ollama: 500 for a long input", 500, api_error("the input length exceeds the context length", type="api_error")),
        ("Ollama: 500 for an image", 500, {"error": "this model is missing data required for image input"}),
        ("KServe: 500 for a long input", 500, api_error("This model's maximum context length is 8192 tokens.", code="500")),
        ("LocalAI: 500 for what it cannot do", 500, api_error("rpc error: code = Unimplemented desc =", code=500)),
        ("FastAPI: 404 for a model", 404, {"detail": "Model 'x' not found"}),
        ("vLLM: 404 for a model", 404, {"object": "error", "message": "The model `x` does not exist.", "code": 404}),
        ("Ollama: 404 for a model", 404, api_error("model 'x' not found", type="api_error")),
        ("OpenAI: 403 for a model", 403, api_error("Project `p` does not have access to model `x`", code="model_not_found")),
        ("OpenRouter: 403 of moderation", 403, api_error("Your input was flagged", code=403)),
        ("OpenAI: 429 for one that never fits", 429, api_error("Request too large for gpt-4 on tokens per min (TPM)")),
        ("FastAPI: 422", 422, {"detail": [{"loc": ["body"], "msg": "Field required", "type": "missing"}]}),
        ("TGI: 422", 422, {"error": "Input validation error: `inputs` must have less than 9", "error_type": "validation"}),
    ),
)  # fmt: skip
def test_the_requesters_fault(world, status, body):
    """A bad request costs one answer, whatever the status: the model's own words, under its own status."""
    outcome = world.ask(said(status, body))
    assert (outcome.deliveries, outcome.calls, outcome.reasons) == (1, 1, ["answered"])
    assert (outcome.response["status_code"], outcome.response["body"]) == (status, body)


@pytest.mark.parametrize(
    ("body", "published"),
    rows(
        ("an unknown model in a 200", {"object": "error", "message": "The model `x` does not exist.", "code": 404}, 404),
        ("a bad request in a 200", api_error("max_tokens is too large", code="400"), 400),
        ("a long input in a 200", api_error("This model's maximum context length is 9 tokens"), 502),
    ),
)  # fmt: skip
def test_the_requesters_fault_in_a_200(world, body, published):
    """It is the status that it names."""
    outcome = world.ask(said(200, body))
    assert (outcome.deliveries, outcome.response["status_code"], outcome.response["body"]) == (1, published, body)


@pytest.mark.parametrize(
    ("reply", "quoted"),
    rows(
        ("LocalAI: 500 for anything", said(500, api_error("could not load model - all backends returned error")), None),
        ("Starlette: 500 without JSON", said(500, "Internal Server Error", "text/plain"), "Internal Server Error"),
        (
            "vLLM: 404 for a path in OpenAI's shape",
            said(404, api_error("Not Found", type="NotFoundError", code=404)),
            None,
        ),
        ("llama.cpp: 404 for a path", said(404, api_error("File Not Found", type="not_found_error", code=404)), None),
        ("nginx: 400 in HTML", said(400, "<h1>400 Bad Request</h1>", "text/html"), "<h1>400 Bad Request"),
        ("out of memory", said(400, {"detail": "CUDA out of memory. Tried to allocate 2 GiB"}), None),
    ),
)
def test_nobody_can_tell(world, reply, quoted):
    """A few attempts, and then the model's own words."""
    outcome = world.ask(reply)
    assert 1 < outcome.deliveries <= 3
    assert outcome.reasons[-1] == "gave_up"
    own = json.loads(reply.partition(b"\r\n\r\n")[2]) if quoted is None else None
    assert outcome.response["body"] == own if own else quoted in outcome.error


# --- answers that look like errors


@pytest.mark.parametrize(
    "more",
    rows(
        ("error null", {"error": None}),
        ("error empty", {"error": {}}),
        ("error of nulls", {"error": {"message": None, "code": None}}),
        ("a choice with error null", {"choices": [{"index": 0, "text": "blue", "error": None}]}),
        ("a message of success", {"code": 0, "message": "success"}),
        ("a response of success", {"base_resp": {"status_code": 0, "status_msg": "success"}}),
    ),
)
def test_an_answer_is_an_answer(world, more):
    """`error: null` is an answer, byte by byte."""
    outcome = world.ask(said(200, GOOD | more))
    assert (outcome.deliveries, outcome.response["status_code"], outcome.response["body"]) == (1, 200, GOOD | more)


# --- sloppy HTTP and nearly JSON: what an HTTP client reads is read


def chunked(*headers, body=GOOD_BYTES):
    """A chunked reply, with these headers too."""
    head = ("HTTP/1.1 200 OK", "Content-Type: application/json", "Transfer-Encoding: chunked", *headers)
    return "\r\n".join(head).encode() + b"\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


def lengths(*headers, body=GOOD_BYTES):
    """A reply whose length is said by these headers."""
    head = ("HTTP/1.1 200 OK", "Content-Type: application/json", *headers)
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


LENGTH = f"Content-Length: {len(GOOD_BYTES)}"


@pytest.mark.parametrize(
    "reply",
    rows(
        ("a length beside chunks", chunked(LENGTH)),
        ("a wrong length beside chunks", chunked("Content-Length: 3")),
        ("the length twice", lengths(LENGTH, LENGTH)),
        ("the length twice in one header", lengths(f"{LENGTH}, {len(GOOD_BYTES)}")),
        ("a byte order mark", said(200, b"\xef\xbb\xbf" + GOOD_BYTES)),
        ("UTF-16", said(200, GOOD_BYTES.decode().encode("utf-16"))),
        ("gzip that nobody asked for", said(200, gzip.compress(GOOD_BYTES), "application/json", "Content-Encoding: gzip")),
        ("gzip by its old name", said(200, gzip.compress(GOOD_BYTES), "application/json", "Content-Encoding: x-gzip")),
        ("gzip in chunks", chunked("Content-Encoding: gzip", body=gzip.compress(GOOD_BYTES))),
        ("a content type of its own", said(200, GOOD_BYTES, "text/json; charset=utf-8")),
        ("no content type", lengths(LENGTH).replace(b"Content-Type: application/json\r\n", b"")),
        ("blank lines before it", said(200, b"\n\n\n" + GOOD_BYTES)),
        ("line ends without returns", lengths(LENGTH).replace(b"\r\n", b"\n")),
    ),
)  # fmt: skip
def test_a_sloppy_answer_is_read(world, reply):
    """It was paid for."""
    outcome = world.ask(reply)
    assert (outcome.deliveries, outcome.calls, outcome.response["status_code"]) == (1, 1, 200)
    assert outcome.response["body"] == GOOD


@pytest.mark.parametrize(
    ("body", "expected"),
    rows(
        ("Infinity in logprobs", b'{"choices":[{"text":"blue","logprobs":[-Infinity,0.0]}]}',
         {"choices": [{"text": "blue", "logprobs": [None, 0.0]}]}),
        ("NaN in a score", b'{"data":[{"score":NaN,"text":"NaN"}]}', {"data": [{"score": None, "text": "NaN"}]}),
        ("NaN as C writes it", b'{"data":[{"score":-nan}]}', {"data": [{"score": None}]}),
        ("a raw line break in a string", b'{"choices":[{"text":"one\ntwo"}]}', {"choices": [{"text": "one\ntwo"}]}),
        ("half a character", b'{"choices":[{"text":"caf\xc3"}]}', {"choices": [{"text": "caf�"}]}),
        ("Latin-1", b'{"choices":[{"text":"caf\xe9"}]}', {"choices": [{"text": "caf�"}]}),
    ),
)  # fmt: skip
def test_nearly_json_becomes_json(world, body, expected):
    """With null for what JSON cannot say."""
    outcome = world.ask(said(200, body))
    assert (outcome.deliveries, outcome.response["body"]) == (1, expected)


def test_lines_of_json_are_text(world):
    """And not base64."""
    outcome = world.ask(said(200, '{"a": 1}\n{"b": 2}\n', "application/x-ndjson"))
    assert outcome.response["body"] == {
        "content_type": "application/x-ndjson",
        "encoding": "utf-8",
        "content": '{"a": 1}\n{"b": 2}\n',
    }


# --- what cannot be read


NONSENSE = {
    "half a JSON": said(200, '{"choices": ['),
    "Python's notation": said(200, "{'choices': []}"),
    "an event stream": said(200, 'data: {"choices": []}\n\n', "text/event-stream"),
    "text that is said to be JSON": said(200, "I am sorry, Dave"),
    "choices that are null": said(200, '{"choices": null}'),
}


@pytest.mark.parametrize("reply", rows(*(NONSENSE.items())))
def test_the_same_nonsense_is_not_asked_for_again_and_again(world, reply):
    """The second answer at the latest ends it, and its start is quoted."""
    outcome = world.ask(reply)
    assert (outcome.deliveries, outcome.calls) == (2, 2)
    assert outcome.reasons == ["model_failed", "gave_up"]
    assert outcome.response["status_code"] == 502
    assert reply.partition(b"\r\n\r\n")[2][:12].decode() in outcome.error


@pytest.mark.parametrize(
    "reply",
    rows(
        ("not HTTP at all", b"SSH-2.0-OpenSSH_9.6\r\n"),
        ("no gzip although it says so", said(200, GOOD, "application/json", "Content-Encoding: gzip")),
        ("two lengths that differ", lengths("Content-Length: 5", LENGTH)),
    ),
)
def test_what_is_not_http(world, reply):
    """It ends as soon: asked for again, it most likely comes again."""

    def say_and_end(connection):
        connection.sendall(reply)

    outcome = world.ask(say_and_end)
    assert outcome.deliveries <= 3
    assert outcome.response["body"]["error"]["code"] == "invalid_model_response"


def test_different_troubles_are_not_the_same_nonsense(world):
    """A bad minute, an empty answer, and then the answer."""
    outcome = world.ask(said(503, "x"), said(200, b""), said(200, GOOD))
    assert outcome.reasons == ["model_failed", "model_failed", "answered"]

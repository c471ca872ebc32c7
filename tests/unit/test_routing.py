"""The file of routes and streams: what it may say, and how it is told what is wrong in it."""

import json
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from handler.admission.limit import FixedLimit
from handler.admission.line import Line
from handler.config.routesfile import RoutingFile
from handler.config.routing import matcher
from handler.config.settings import Settings, SettingsError
from handler.routes import Route, Routes, Streams
from handler.rules.message.contract import InferenceRequest, RequestError

ENVIRONMENT = {"RESPONSE_TOPIC": "projects/p/topics/responses", "PUSH_AUTH": "platform"}
TWO = """
routes:
  - name: chat
    models: [llama-3, "llama-3-*"]
    url: http://llama
    slots: 4
  - name: rest
    models: ["*"]
    url: http://rest/{model}
    allowed_paths: [/v1/completions]
streams:
  - subscription: urgent
    priority: high
    response_topic: projects/p/topics/urgent
    models: ["llama*"]
  - subscription: projects/p/subscriptions/batch
    max_share: 0.5
    max_attempts: 3
    allowed_paths: [/v1/completions]
"""


@pytest.fixture
def read(tmp_path):
    """The settings that a file of routes makes."""

    def settings(text, **environment):
        path = tmp_path / "routes.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return Settings.from_environment({**ENVIRONMENT, "ROUTES_FILE": str(path), **environment})

    return settings


def routes_of(settings):
    """The routes, with nothing behind them."""
    return Routes([Route(route, None, Line(FixedLimit(1))) for route in settings.routing.routes])


def test_what_is_left_out_is_as_the_plain_settings_say(read):
    """Slots, times and paths; each route has slots of its own, and all count."""
    settings = read(TWO, MODEL_SLOTS="10", MODEL_TIMEOUT_SECONDS="30", MAX_WAITING="100")
    chat, rest = settings.routing.routes
    assert (chat.slots, rest.slots, settings.pushes) == (4, 10, 114)
    assert (chat.timeout_seconds, rest.allowed_paths) == (30, ("/v1/completions",))
    assert (chat.auth, chat.api_key, rest.audience) == ("none", None, "http://rest")
    urgent, batch = settings.routing.streams
    assert (urgent.response_topic, batch.response_topic) == ("projects/p/topics/urgent", "projects/p/topics/responses")
    assert (urgent.max_attempts, batch.max_attempts, batch.max_share) == (10, 3, 0.5)


def test_one_model_needs_no_file():
    """The plain settings are one route for every model, and one stream for every subscription."""
    settings = Settings.from_environment({**ENVIRONMENT, "MODEL_URL": "https://model:8443/x", "MODEL_API_KEY": "k"})
    (route,) = settings.routing.routes
    assert (route.name, route.models, route.url, route.auth) == ("default", ("*",), "https://model:8443/x", "key")
    assert route.audience == "https://model:8443"
    assert settings.routing.streams == ()
    assert Streams(settings.routing).find("any") == settings.routing.default


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("", None, "is empty"),
        ("routes: [", 1, ""),
        ("routes:\n\t- x", 2, ""),
        (b"\xff\xfe", None, "UTF-8"),
        ("- a", None, "is no mapping"),
        ("routes: []", 1, "routes"),
        ("routes:\n- name: a\n  models: [x]", 2, "routes.0.url is missing"),
        ("routes:\n- name: a\n  models: [x]\n  url: ftp://x", 4, "routes.0.url is not an http"),
        ("routes:\n- name: a\n  models: [x]\n  url: http://x/v1", 4, "leave the /v1 out"),
        ("routes:\n- name: a\n  models: [x]\n  url: http://x/{name}", 4, "{model} in braces"),
        ("routes:\n- name: a\n  models: ['a*b']\n  url: http://x", 3, "a * stands at the end"),
        ("routes:\n- name: A B\n  models: [x]\n  url: http://x", 2, "routes.0.name"),
        ("routes:\n- name: a\n  models: []\n  url: http://x", 3, "routes.0.models"),
        ("routes:\n- name: a\n  models: [x]\n  url: http://x\n  slots: 0", 5, "routes.0.slots"),
        ("routes:\n- name: a\n  models: [x]\n  url: http://x\n  slot: 3", 5, "routes.0.slot is no known field"),
        ("routes:\n- name: a\n  models: [x]\n  url: http://x\n  url: http://y", 5, "url stands there twice"),
        (
            "routes:\n- {name: a, models: [x], url: 'http://x'}\n- {name: a, models: [y], url: 'http://x'}",
            None,
            "name stands there twice",
        ),
        (
            "routes:\n- {name: a, models: [x], url: 'http://x'}\n- {name: b, models: [x], url: 'http://x'}",
            None,
            "model stands there twice",
        ),
        ("routes:\n- name: a\n  models: [x]\n  url: http://x\n  auth: key", None, "api_key_env has to name"),
        (
            "routes:\n- name: a\n  models: [x]\n  url: http://x\n  api_key_env: NOPE",
            None,
            "NOPE (api_key_env) is not set",
        ),
        (
            "routes:\n- name: a\n  models: [x]\n  url: 'https://{model}.run.app'\n  auth: google-id-token",
            None,
            "route a: its tokens are for one audience, and {model} in the host of its url makes many: give `audience`",
        ),
        ("routes:\n- name: a\n  models: [x]\n  url: http://x\n  ca_file: /nope", 5, "a file that is not there"),
        ("routes:\n- name: a\n  models: [x]\n  url: http://x\n  timeout_seconds: 590", None, "ACK_DEADLINE_SECONDS"),
        (TWO + "    color: red", TWO.count("\n") + 1, "no known field"),
        (TWO + "  - subscription: urgent", None, "a subscription stands there twice: urgent"),
    ],
)
def test_every_way_to_be_wrong_stops_the_start_in_one_line(read, text, line, says):
    """It names the file, the line and what is wrong."""
    with pytest.raises(SettingsError) as wrong:
        read(text)
    (problem,) = wrong.value.problems
    assert problem.startswith("ROUTES_FILE ")
    assert "\n" not in problem
    assert says in problem
    assert re.findall(r"line (\d+): ", problem) == [str(line)] * (line is not None)


def test_all_that_is_wrong_is_said_at_once(read):
    """Each field once, with its line; a list whose entries are wrong is not called empty."""
    with pytest.raises(SettingsError) as wrong:
        read("routes:\n- name: a\n  models: [x]\n  url: nope\n  slots: none")
    _file, *problems = re.findall(r"(?:ROUTES_FILE|line \d+:) \S+", str(wrong.value))
    assert problems == ["line 4: routes.0.url", "line 5: routes.0.slots"]


def test_a_file_that_is_not_there():
    """Is said so."""
    with pytest.raises(SettingsError, match="ROUTES_FILE /nope: cannot be read"):
        Settings.from_environment({**ENVIRONMENT, "ROUTES_FILE": "/nope"})


@pytest.mark.parametrize("name", ["MODEL_URL", "MODEL_API_KEY", "MODEL_AUTH"])
def test_one_model_or_a_file_of_several(read, name):
    """Not both: nobody could tell which counts."""
    with pytest.raises(SettingsError, match=f"{name} and ROUTES_FILE are both set"):
        read(TWO, **{name: {"MODEL_URL": "http://x", "MODEL_API_KEY": "k", "MODEL_AUTH": "none"}[name]})


def test_a_routes_key_is_of_its_own_variable(read):
    """And never printed."""
    text = "routes:\n- name: a\n  models: ['*']\n  url: http://x\n  api_key_env: LLAMA_KEY"
    (route,) = read(text, LLAMA_KEY="secret").routing.routes
    assert (route.auth, route.api_key.get_secret_value()) == ("key", "secret")
    assert "secret" not in repr(route)


@pytest.mark.parametrize(
    ("url", "more", "audience"),
    [
        ("https://{model}.run.app", "auth: google-id-token\n  audience: https://all", "https://all"),
        ("https://run.app/{model}", "auth: google-id-token", "https://run.app"),
    ],
)
def test_whom_a_routes_tokens_are_for(read, url, more, audience):
    """An audience is the same for every call: what differs by the model is no part of it."""
    (route,) = read(f"routes:\n- name: a\n  models: ['*']\n  url: '{url}'\n  {more}").routing.routes
    assert route.audience == audience


@pytest.mark.parametrize("auth", ["google-access-token", "none"])
def test_where_no_audience_is_needed(read, auth):
    """A host may differ by the model."""
    (route,) = read(
        f"routes:\n- name: a\n  models: ['*']\n  url: 'https://{{model}}.run.app'\n  auth: {auth}"
    ).routing.routes
    assert route.auth == auth


NAMES = st.text("ab-", max_size=4)


@given(st.lists(st.tuples(NAMES, st.booleans()), unique=True, max_size=6), st.none() | NAMES)
def test_the_best_pattern_counts(patterns, model):
    """An exact name goes before a start, a longer start before a shorter, `*` comes last; no name fits `*` alone."""
    numbered = {name + "*" * starts: number for number, (name, starts) in enumerate(patterns) if name or starts}
    fitting = [
        pattern
        for pattern in numbered
        if pattern == model or (pattern.endswith("*") and (model or "").startswith(pattern[:-1]))
    ]
    best = max(fitting, key=lambda pattern: (not pattern.endswith("*"), len(pattern)), default=None)
    assert matcher(numbered)(model) == (None if best is None else numbered[best])


def request(model=None, path="/v1/completions"):
    """A request for this model."""
    return InferenceRequest(path=path, metadata={"id": 1}, body={"model": model} if model else {})


@pytest.mark.parametrize(
    ("subscription", "asked", "route"),
    [
        ("projects/p/subscriptions/batch", request("llama-3"), "chat"),
        ("projects/p/subscriptions/batch", request("llama-3-70b"), "chat"),
        ("projects/p/subscriptions/batch", request("llama-2"), "rest"),
        ("projects/p/subscriptions/urgent", request("llama-3", "/v1/chat/completions"), "chat"),
        ("urgent", request("llama-3", "/v1/chat/completions"), "chat"),
    ],
)
def test_where_a_request_goes(read, subscription, asked, route):
    """By its model, where its stream and the route allow it; a stream is found by its full name or the last part."""
    settings = read(TWO)
    stream = Streams(settings.routing).find(subscription)
    assert routes_of(settings).route(asked, stream).name == route


@pytest.mark.parametrize(
    ("subscription", "asked", "code", "says"),
    [
        ("urgent", request("gpt"), "model_not_found", "There are: llama*."),
        ("urgent", request(), "model_not_found", "names no model"),
        ("batch", request("../../etc"), "model_not_found", "There are: llama-3, llama-3-*, *."),
        ("batch", request("a@evil"), "model_not_found", "not served here"),
        ("batch", request(), "model_not_found", "names no model"),  # the URL has a {model}
        ("batch", request("llama-3", "/v1/embeddings"), "path_not_allowed", "/v1/completions"),
        ("urgent", request("llama-2", "/v1/embeddings"), "path_not_allowed", "/v1/completions"),
    ],
)
def test_what_has_no_route(read, subscription, asked, code, says):
    """Is answered with what there is, and with its metadata."""
    settings = read(TWO)
    stream = Streams(settings.routing).find(f"projects/p/subscriptions/{subscription}")
    with pytest.raises(RequestError) as refused:
        routes_of(settings).route(asked, stream)
    assert refused.value.code == code
    assert says in json.loads(refused.value.answer.body)["error"]["message"]
    assert refused.value.metadata == {"id": 1}


def test_a_subscription_that_is_no_stream(read):
    """Is not served where there are streams."""
    streams = Streams(read(TWO).routing)
    assert streams.find("projects/p/subscriptions/other") is None
    assert streams.find("") is None


def test_the_schema_on_the_page():
    """docs/schemas/routes.json is that of the code, and knows the example of docs/routes.md."""
    root = Path(__file__).parents[2]
    assert json.loads((root / "docs/schemas/routes.json").read_text()) == RoutingFile.model_json_schema()
    page = (root / "docs/routes.md").read_text()
    for block in page.split("```yaml\n")[1:]:
        RoutingFile.model_validate(yaml.safe_load(block.split("```")[0]))

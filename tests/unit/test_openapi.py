"""docs/openapi.yaml describes the endpoint that there is."""

from collections import defaultdict
from pathlib import Path

import flask
import pytest
import yaml
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from werkzeug.test import EnvironBuilder

from handler.app import App, _to_pubsub
from handler.config.settings import Settings
from handler.rules.verdict.outcome import FACTS, Reason, Verdict

DESCRIPTION = yaml.safe_load((Path(__file__).parents[2] / "docs" / "openapi.yaml").read_text())
ENVIRONMENT = {
    "MODEL_URL": "http://127.0.0.1:9",
    "RESPONSE_TOPIC": "projects/p/topics/responses",
    "PUSH_AUTH": "platform",
}


def resolve(part):
    """What a part of the description refers to, if it refers to something."""
    if "$ref" not in part:
        return part
    found = DESCRIPTION
    for name in part["$ref"].removeprefix("#/").split("/"):
        found = found[name]
    return found


def responses(path, method):
    """The responses of an operation, by status."""
    described = DESCRIPTION["paths"][path][method.lower()]["responses"]
    return {int(status): resolve(response) for status, response in described.items()}


def conforms(response, described):
    """Whether a response has the content that is described: JSON of that schema, or nothing."""
    if "content" not in described:
        assert response.data == b""
        return
    ((content_type, content),) = described["content"].items()
    assert response.mimetype == content_type
    Draft202012Validator(resolve(content["schema"])).validate(response.json)


@pytest.fixture
def app():
    """The service, without anybody around it."""
    return App(Settings.from_environment(ENVIRONMENT))


def test_it_is_openapi():
    """The description is a valid one."""
    validate(DESCRIPTION)


def served(app):
    """Every path and method that an app knows."""
    return {("/{path}", "POST")} | {(path, method) for path, one in app._health.items() for method in one}


def test_the_routes_are_the_apps(app):
    """Every path and method that the app knows is described, and none besides; metrics where they are asked for."""
    paths = DESCRIPTION["paths"].items()
    described = {(path, method.upper()) for path, one in paths for method in one if method != "servers"}
    scraped = Settings.from_environment(ENVIRONMENT | {"METRICS_PORT": "8080", "PORT": "8080"})
    assert described == served(App(scraped)) == served(app) | {("/metrics", "GET")}


@pytest.mark.parametrize("asked", ["text/plain", "application/openmetrics-text"])
def test_metrics_come_as_described(asked):
    """In each format that a scraper may ask for."""
    app = App(Settings.from_environment(ENVIRONMENT | {"METRICS_PORT": "8080", "PORT": "8080"}))
    environ = EnvironBuilder(path="/metrics", headers={"Accept": asked}).get_environ()
    response = app(flask.Request(environ))
    assert response.mimetype == asked
    assert asked in responses("/metrics", "GET")[response.status_code]["content"]


def test_the_statuses_are_the_tables():
    """Every reason of the decision table is described with its status, and none besides."""
    expected = defaultdict(set)
    for reason, facts in FACTS.items():
        expected[facts.status].add(reason.value)
    assert {status: set(one["x-reasons"]) for status, one in responses("/{path}", "POST").items()} == expected


@pytest.mark.parametrize("reason", Reason)
def test_every_verdict_is_answered_as_described(reason):
    """The body of each answer conforms to the schema, and begins with its reason."""
    response = _to_pubsub(Verdict(reason, detail="what is wrong"))
    described = responses("/{path}", "POST")[response.status_code]
    conforms(response, described)
    if response.data:
        assert response.json["error"].partition(":")[0] in described["x-reasons"]


def test_a_start_with_several_routes_is_answered_as_described(tmp_path):
    """What is not reached is named by the route."""
    (tmp_path / "routes.yaml").write_text(
        "routes:\n"
        "- {name: a-1, models: [a], url: 'http://127.0.0.1:9'}\n"
        "- {name: b, models: [b], url: 'http://127.0.0.1:9'}\n"
    )
    several = {"ROUTES_FILE": str(tmp_path / "routes.yaml"), "LEDGER_URL": "redis://127.0.0.1:9"}
    plain = {name: value for name, value in ENVIRONMENT.items() if name != "MODEL_URL"}
    app = App(Settings.from_environment(plain | several))
    response = app(flask.Request(EnvironBuilder(path="/health/startup").get_environ()))
    conforms(response, responses("/health/startup", "GET")[503])
    assert response.json["not_reached"] == ["ledger", "model of a-1", "model of b"]


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/health/startup"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("draining", [False, True])
def test_health_is_answered_as_described(app, path, method, draining):
    """Both checks, of a process that serves and of one that ends."""
    if draining:
        app.drain(10)
    response = app(flask.Request(EnvironBuilder(method=method, path=path).get_environ()))
    described = responses(path, method)[response.status_code]
    if method == "GET":
        conforms(response, described)


def test_the_headers_of_a_push_are_those_that_are_read():
    """The description names the headers that the envelope looks at."""
    read = {"message-id", "publish-time", "ordering-key", "subscription-name"}
    named = {one["name"] for one in DESCRIPTION["components"]["parameters"].values()}
    assert named == {f"x-goog-pubsub-{name}" for name in read} | {"ce-id"}

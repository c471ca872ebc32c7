"""What /metrics says: declared in one table, documented, there from the start, and adding up."""

import ast
import re
import runpy
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import flask
import pytest
from prometheus_client import Gauge, Histogram, generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as families
from werkzeug.test import EnvironBuilder

from handler.admission.limit import FixedLimit
from handler.admission.line import Line
from handler.app import App
from handler.commands import tables
from handler.config.settings import Settings, SettingsError
from handler.rules.message.contract import ERRORS, ErrorCode, error
from handler.rules.verdict.outcome import FACTS, ModelFailure, Reason, Verdict
from handler.telemetry import exposition, metrics
from handler.telemetry.metrics import DECLARED, REGISTRY
from handler.telemetry.record import PushRecord
from tests.parts.processes import free_port

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {
    "MODEL_URL": "http://127.0.0.1:9",
    "RESPONSE_TOPIC": "projects/p/topics/responses",
    "PUSH_AUTH": "platform",
}


@pytest.fixture(autouse=True)
def watched():
    """A line and a ledger, as in the service."""
    metrics.watch("default", Line(FixedLimit(3)))
    metrics.watch_ledger("memory", type("Ledger", (), {"is_up": True}))


def scraped():
    """Every sample: its name and its labels, and the value."""
    text = generate_latest(REGISTRY).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families(text)
        for sample in family.samples
    }


# --- the table


def test_the_documented_tables_are_those_of_the_code():
    """docs/metrics.md holds the tables that the code prints: run `make docs` after a change."""
    assert tables.of_metrics() in (ROOT / "docs" / "metrics.md").read_text()


def test_no_other_metric_is_documented_or_exposed():
    """What the page or the scrape names is in the table; process_* are those of every client."""
    declared = {one.name for one in DECLARED}
    named = set(re.findall(r"inference_relay_\w+", (ROOT / "docs" / "metrics.md").read_text()))
    assert {re.sub("_(count|sum|bucket)$", "", name) for name in named} == declared
    exposed = {re.sub("_(count|sum|bucket)$", "", name) for name, _ in scraped()}
    assert {name for name in exposed if not name.startswith("process_")} == declared
    assert "process_start_time_seconds" in exposed


def names_in_the_code():
    """The metrics that the service counts and observes, by their names in the source."""
    found = set()
    for file in (ROOT / "handler").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found |= set(re.findall(r"\binference_relay_\w+\b", node.value)) if file.name != "metrics.py" else set()
    return found


def test_every_metric_that_is_counted_is_declared_and_the_other_way_round():
    """A name that is in the code alone would end a push with an error; one in the table alone would stay at 0."""
    counted = {one.name for one in DECLARED if one.kind is not Gauge}
    assert names_in_the_code() == counted
    assert {*metrics._OF_LINES, metrics.LEDGER_UP} == {one.name for one in DECLARED if one.kind is Gauge}


@pytest.mark.parametrize("use", [metrics.count, lambda name: metrics.observe(name, 1)])
def test_an_undeclared_metric(use):
    """It is an error."""
    with pytest.raises(KeyError):
        use("inference_relay_surprises_total")


def test_every_outcome_has_its_series():
    """Every reason, error code and failure there can be."""
    by_name = {one.name: one for one in DECLARED}
    pushes = by_name["inference_relay_pushes_total"]
    assert set(pushes.series) == {(reason, str(facts.status)) for reason, facts in FACTS.items()}
    assert set(by_name["inference_relay_answers_total"].values("error_code")) == {"", *ErrorCode}
    calls = by_name["inference_relay_model_call_duration_seconds"]
    assert {*ModelFailure, "200", "other"} <= set(calls.values("status"))
    for code, kind in ERRORS.items():
        assert (str(kind.status_code), code) in by_name["inference_relay_answers_total"].series


@pytest.mark.parametrize("code", ErrorCode)
def test_every_answer_is_counted_where_it_is_declared(monkeypatch, code):
    """The series that an error's answer goes to is one of the table's, with the error's own status."""
    counted, answer = [], error(code, "no")
    monkeypatch.setattr(metrics, "count", lambda name, *values: counted.append((name, values)))
    PushRecord().published(str(answer.status_code), Verdict(Reason.REQUEST_REFUSED, answer), b"")
    assert counted == [("inference_relay_answers_total", (str(answer.status_code), code, metrics.NO_ROUTE))]
    declared = next(one for one in DECLARED if one.name == "inference_relay_answers_total")
    assert (str(answer.status_code), code) in declared.series


def test_a_new_error_code_may_have_any_status(monkeypatch):
    """What an error's row says is counted as itself, though no model server is known to give it."""
    monkeypatch.setitem(ERRORS, ErrorCode.CANCELLED, replace(ERRORS[ErrorCode.CANCELLED], status_code=451))
    assert runpy.run_path(metrics.__file__)["status_value"](451) == "451"


def test_a_status_that_no_server_is_known_for():
    """It is counted with the others like it: labels are bounded."""
    assert [metrics.status_value(one) for one in (200, 418, "599", 404, ModelFailure.STALE)] == [
        "200",
        "other",
        "other",
        "404",
        "stale",
    ]


def test_buckets():
    """They rise, and reach as far as a call may take."""
    for one in DECLARED:
        assert (one.kind is Histogram) == bool(one.buckets)
        assert list(one.buckets) == sorted(set(one.buckets))
        assert not one.buckets or one.buckets[-1] >= 600


def test_every_series_is_there_from_the_start():
    """Whatever is declared is scraped before it happens."""
    found = {(name, labels) for name, labels in scraped() if not name.endswith("_bucket")}
    for one in DECLARED:
        suffix = "_count" if one.kind is Histogram else ""
        for values in one.series if one.kind is not Gauge else ():
            labels = dict(zip(one.labels, (*values, "default"), strict=False))
            assert (one.name + suffix, tuple(sorted(labels.items()))) in found


# --- the lint of promtool check metrics, in a few rules

SNAKE = re.compile(r"[a-z][a-z0-9_]*")
OTHER_UNITS = re.compile(r"_(milliseconds|minutes|hours|ms|kb|mb|percent)(_|$)")
RULES = {
    "no help text": lambda family: not family.documentation.strip(),
    "no type": lambda family: family.type not in ("counter", "gauge", "histogram"),
    "counters, and nothing else, end in _total": lambda family: (
        (family.type == "counter") != all(sample.name.endswith("_total") for sample in family.samples)
    ),
    "names are in snake case": lambda family: not SNAKE.fullmatch(family.name),
    "no type belongs into a name": lambda family: family.type in family.name.split("_"),
    "units are base units": lambda family: OTHER_UNITS.search(family.name),
    "labels are in snake case": lambda family: (
        not all(SNAKE.fullmatch(label) for sample in family.samples for label in sample.labels)
    ),
    "le is for histograms": lambda family: (
        family.type != "histogram" and any("le" in sample.labels for sample in family.samples)
    ),
    "a series is there once": lambda family: (
        len(family.samples) != len({(sample.name, *sorted(sample.labels.items())) for sample in family.samples})
    ),
}


def problems(text):
    """What promtool's lint would say of an exposition."""
    return [f"{family.name}: {rule}" for family in families(text) for rule, broken in RULES.items() if broken(family)]


def test_the_exposition_passes_the_lint():
    """Both formats can be read, and what is in them is named as it should be."""
    assert problems(generate_latest(REGISTRY).decode()) == []


@pytest.mark.parametrize(
    "text",
    [
        "# HELP a_gauge x\n# TYPE a_gauge gauge\na_gauge 1\n",
        "# HELP a_total x\n# TYPE a_total gauge\na_total 1\n",
        "# TYPE a gauge\na 1\n",
        "# HELP a x\na 1\n",
        "# HELP aB x\n# TYPE aB gauge\naB 1\n",
        "# HELP wait_ms x\n# TYPE wait_ms gauge\nwait_ms 1\n",
        '# HELP a x\n# TYPE a gauge\na{le="1"} 1\n',
        '# HELP a x\n# TYPE a gauge\na{B="1"} 1\n',
        "# HELP a x\n# TYPE a gauge\na 1\na 2\n",
    ],
)
def test_the_lint_finds_something(text):
    """Each rule can fail."""
    assert problems(text)


# --- the gauges


def test_the_gauges_read_the_line_and_the_ledger():
    """As they are when somebody asks."""

    class State:
        slots, in_use, length, is_up = 7, 3, 2, False

    metrics.watch("default", State)
    metrics.watch_ledger("redis", State)
    found = scraped()
    route = (("route", "default"),)
    assert found["inference_relay_slots", route] == 7
    assert found["inference_relay_slots_in_use", route] == 3
    assert found["inference_relay_waiting", route] == 2
    ledgers = {key: value for key, value in found.items() if key[0] == "inference_relay_ledger_up"}
    assert ledgers == {("inference_relay_ledger_up", (("ledger", "redis"),)): 0}


# --- how they get out


def get(app, path="/metrics", **headers):
    """The app's response to a GET."""
    return app(flask.Request(EnvironBuilder(method="GET", path=path, headers=headers).get_environ()))


@pytest.mark.parametrize(("port", "status"), [("", 404), ("9090", 404), ("8080", 200)])
def test_the_services_own_port_serves_them_only_where_a_setting_says_so(port, status):
    """METRICS_PORT has to be PORT."""
    app = App(Settings.from_environment(ENVIRONMENT | {"PORT": "8080", "METRICS_PORT": port}))
    response = get(app)
    assert response.status_code == status
    assert (b"inference_relay_pushes_total" in response.data) == (status == 200)


def test_both_formats():
    """Prometheus' text, and OpenMetrics for whoever asks for it."""
    app = App(Settings.from_environment(ENVIRONMENT | {"METRICS_PORT": "8080"}))
    assert get(app).headers["Content-Type"].startswith("text/plain; version=")
    response = get(app, Accept="application/openmetrics-text; version=1.0.0")
    assert response.headers["Content-Type"].startswith("application/openmetrics-text")
    assert {family.name for family in openmetrics(response.get_data(as_text=True))} >= {
        "inference_relay_pushes",
        "process_start_time_seconds",
    }


def test_a_port_of_their_own():
    """It serves GET and nothing else, and is taken but once."""
    port = free_port()
    server = exposition.serve(port)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as response:
            assert b"inference_relay_slots" in response.read()
        with pytest.raises(urllib.error.HTTPError, match="405"):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", data=b"x")
        with pytest.raises(SettingsError, match=f"METRICS_PORT {port} cannot be had: Address already in use"):
            exposition.start(Settings.from_environment(ENVIRONMENT | {"METRICS_PORT": str(port)}))
    finally:
        server.shutdown()
        server.server_close()

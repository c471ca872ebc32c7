"""What watches the relay names what exists: log fields, metrics and labels, runbook entries, and Google's own types."""

import json
import re
import shlex
from itertools import chain, pairwise

import pytest
from google.cloud.monitoring_dashboard_v1.types import Dashboard
from google.protobuf import json_format

from tests.deploy import gcloud, logfilter, metrics, promql
from tests.deploy.promql import Metric
from tests.deploy.watched import Watched
from tests.parts.processes import ROOT, until
from tests.parts.service import push_of

MADE = ("defaults", "with_ledger", "as_asked", "on_knative", "with_sidecar")
RUNBOOK, PAGE, BEHAVIOUR = (
    (ROOT / "docs" / name).read_text() for name in ("runbook.md", "monitoring.md", "behaviour.md")
)
REASONS = tuple(re.findall(r"^\| `(\w+)` \|", BEHAVIOUR, re.M))
ON_CLOUD_RUN = {"type": "cloud_run_revision", "labels": {"service_name": "inference-relay"}}
ON_KNATIVE = {"type": "k8s_container", "labels": {"container_name": "relay", "namespace_name": "models"}}
REQUEST = {"metadata": {}, "body": {"prompt": "hello"}}


@pytest.fixture(params=MADE)
def made(request, watched) -> Watched:
    """What is made in each case."""
    return watched[request.param]


def known(made: Watched) -> dict[str, Metric]:
    """Every metric that can be asked for beside what was made."""
    resource = (
        "k8s_container" if "k8s_container" in made.of("google_logging_metric")[0]["filter"] else "cloud_run_revision"
    )
    return (
        metrics.google() | metrics.logged(made.of("google_logging_metric"), resource, REASONS) | metrics.served(REASONS)
    )


def queries(made: Watched) -> list[str]:
    """Every query of alerts and dashboard."""
    return [query for query, _seconds in made.conditions.values()] + list(chain(*made.charts.values()))


def filters(made: Watched) -> list[str]:
    """Every filter of log lines: the metrics', the dashboard's, and those of the commands in the alerts' texts."""
    panels = [tile["widget"].get("logsPanel") for tile in made.dashboard["mosaicLayout"]["tiles"]]
    texts = [words[2] for words in text_commands(made) if words[:2] == ["logging", "read"]]
    return [one["filter"] for one in made.of("google_logging_metric") + [one for one in panels if one]] + texts


def text_commands(made: Watched) -> list[list[str]]:
    """The gcloud commands in the alerts' texts, as words."""
    texts = [one["documentation"][0]["content"] for one in made.policies.values()]
    return [words for text in texts for words in gcloud.commands(text.replace("\n    ", "\n"))]


# --- metrics and labels


def test_every_metric_and_label_exists(made):
    """Of whatever the alerts and the dashboard ask for."""
    asked = queries(made)
    assert [problem for query in asked for problem in promql.problems(query, known(made))] == []
    assert len(asked) > 20


def test_every_query_is_about_this_relay(made):
    """Whatever is asked for is narrowed to its own subscription, topic, service or metric."""
    for query in queries(made):
        for one in promql.selected(query):
            labels = {name for name, _values in one.matchers}
            own = {"subscription_id", "topic_id", "service_name", "namespace"}
            assert labels & own or one.name.startswith(
                ("logging_googleapis_com:user_inference_relay_", "logging_googleapis_com:user_nightly_")
            )


@pytest.mark.parametrize(
    "query",
    [
        "pubsub_googleapis_com:subscription_num_undelivered",
        'pubsub_googleapis_com:subscription_num_undelivered_messages{topic_id="x"}',
        'increase(pubsub_googleapis_com:subscription_push_request_count{response_class="nack"}[5m])',
        "sum by (reason) (rate(pubsub_googleapis_com:subscription_push_request_count[5m]))",
        "pubsub_googleapis_com:subscription_push_request_count",
        "rate(pubsub_googleapis_com:subscription_num_undelivered_messages[5m])",
        'increase(logging_googleapis_com:user_inference_relay_pushes{reason="gave_up|angry"}[5m])',
        "sum by (le) (rate(logging_googleapis_com:user_inference_relay_push_seconds_count[5m]))",
        'inference_relay_slots{model="x"}',
    ],
)
def test_what_does_not_exist_is_found(watched, query):
    """The check checks: a metric, labels, a value, groupings, a counter without its rate and a gauge with one."""
    assert len(promql.problems(query, known(watched["defaults"]))) == 1


# --- log lines


@pytest.fixture(scope="module")
def lines(kept):
    """What the running service writes of pushes that end in several ways, and of a ledger that is away."""
    ledger, _, _ = kept("local", "gunicorn", LEDGER_URL="redis://127.0.0.1:9")
    assert ledger.push(push_of(REQUEST)) == 204
    assert ledger.push(push_of({"metadata": {}, "body": {}, "path": "/nowhere"})) == 204
    assert ledger.push(b"no push") == 400
    assert ledger.request("GET", "/nowhere")[0] == 404
    verifies = {"PUSH_AUTH": "verify", "PUSH_AUDIENCE": "relay", "PUSH_SERVICE_ACCOUNT": "a@b.iam.gserviceaccount.com"}
    strict, _, _ = kept("local", "gunicorn", **verifies)
    assert strict.push(push_of(REQUEST)) == 401

    def written():
        return [line for service in (ledger, strict) for line in service.log()]

    until(lambda: sum("reason" in line for line in written()) == 5)
    return written()


def test_the_log_metrics_count_what_is_logged(watched, lines):
    """Each counts just those of the service's real lines that it is about."""
    for run, resource in (("defaults", ON_CLOUD_RUN), ("on_knative", ON_KNATIVE)):
        entries = [logfilter.entry(line, resource) for line in lines]
        counted = {
            one["name"].partition("/")[2]: [
                entry["jsonPayload"].get("reason") for entry in entries if logfilter.takes(one["filter"], entry)
            ]
            for one in watched[run].of("google_logging_metric")
        }
        pushes = ["answered", "request_refused", "not_a_push", "unauthenticated"]
        assert counted["pushes"] == counted["push_seconds"] == pushes
        assert counted["late_pushes"] == []
        assert counted["ledger_troubles"] == [None]
        assert counted["bugs"] == []
        # On Cloud Run nobody asks the service, whose lines are not in the request log.
        assert counted["tokens_refused"] == ([] if run == "defaults" else ["unauthenticated"])
    elsewhere = [logfilter.entry(line, {"type": "cloud_run_job", "labels": {}}) for line in lines]
    for one in watched["defaults"].of("google_logging_metric"):
        assert not [entry for entry in elsewhere if logfilter.takes(one["filter"], entry)]


def test_a_bug_is_counted_however_its_message_ended(watched):
    """Its line has a status where the push ended so, and none where the response was published, or is its error."""
    (bugs,) = (one for one in watched["defaults"].of("google_logging_metric") if one["name"].endswith("/bugs"))
    for line, is_counted in (({"status": 500}, True), ({}, True), ({"reason": "gave_up", "status": 204}, False)):
        entry = logfilter.entry({"severity": "ERROR", "reason": "bug"} | line, ON_CLOUD_RUN)
        assert logfilter.takes(bugs["filter"], entry) is is_counted


def test_every_field_is_written(watched, lines):
    """Fields in filters, in what metrics extract, in what commands print, and on the pages."""
    written = {name for line in lines for name in line}
    named = {field for run in MADE for one in filters(watched[run]) for field in logfilter.fields(one)}
    for run in MADE:
        for one in watched[run].of("google_logging_metric"):
            extracts = list((one["label_extractors"] or {}).values())
            # The stand-in makes one up where none is given.
            extracts += [one["value_extractor"]] * (one["metric_descriptor"][0]["value_type"] == "DISTRIBUTION")
            named |= {re.fullmatch(r"EXTRACT\(jsonPayload\.(\w+)\)", text)[1] for text in extracts}
    pages = RUNBOOK + PAGE + "".join(" ".join(words) for words in text_commands(watched["with_ledger"]))
    named |= set(re.findall(r"jsonPayload\.(\w+)", pages))
    assert named <= written, named - written
    assert {"reason", "status", "seconds", "troubles", "message", "message_id"} <= named


def test_late_is_counted_from_its_second_on(watched):
    """By the number, and not by its text."""
    late = next(one for one in watched["defaults"].of("google_logging_metric") if one["name"].endswith("late_pushes"))
    line = {"severity": "INFO", "reason": "answered", "status": 204}
    entries = [logfilter.entry(line | {"seconds": seconds}, ON_CLOUD_RUN) for seconds in (9.1, 569.999, 570, 600.5)]
    assert [logfilter.takes(late["filter"], entry) for entry in entries] == [False, False, True, True]


def test_the_labels_are_those_of_the_extractors(made):
    """A metric's labels, and what is extracted for them."""
    for one in made.of("google_logging_metric"):
        declared = {label["key"] for label in one["metric_descriptor"][0]["labels"] or ()}
        assert declared == set(one["label_extractors"] or {})
        bounds = [
            bound for options in one["bucket_options"] or () for bound in options["explicit_buckets"][0]["bounds"]
        ]
        assert all(low < high for low, high in pairwise(bounds))


def test_the_commands_of_the_texts_show_refusals_too(watched):
    """What is refused for want of room is logged at INFO; what went well is not shown."""
    shown = next(one for one in filters(watched["defaults"]) if "severity" in one)
    busy, answered = (
        logfilter.entry({"severity": "INFO", "reason": reason, "status": status}, ON_CLOUD_RUN)
        for reason, status in (("busy", 429), ("answered", 204))
    )
    gave_up = logfilter.entry({"severity": "ERROR", "reason": "gave_up", "status": 204}, ON_CLOUD_RUN)
    assert [logfilter.takes(shown, one) for one in (busy, answered, gave_up)] == [True, False, True]


# --- alerts and their texts


def test_every_alert_is_in_the_runbook(watched):
    """Under its own name, and on the page with its severity; and the runbook knows no other."""
    policies = watched["with_ledger"].policies
    section = RUNBOOK.partition("## Alerts\n")[2].partition("\n## ")[0]
    assert sorted(re.findall(r"^### ([a-z-]+)$", section, re.M)) == sorted(policies)
    listed = re.findall(r"^\| \[`([a-z-]+)`\]\(runbook\.md#([a-z-]+)\) \|.*\| (\w+) \| [\w /,()]+ \|$", PAGE, re.M)
    assert sorted(listed) == sorted((name, name, one["severity"].lower()) for name, one in policies.items())


def test_the_page_says_the_thresholds(watched):
    """Those that are not given: in the variable's words, and as numbers."""
    queries = {name: query for name, (query, _seconds) in watched["defaults"].conditions.items()}
    for name, variable, share in (
        ("error-answers", "error_share", 0.05),
        ("pushes-refused", "refused_share", 0.01),
        ("near-deadline", "late_share", 0.01),
    ):
        assert f"`{variable}` ({share * 100:.0f} %)" in PAGE
        assert f" > {share} * " in queries[name]


def test_gcloud_knows_the_commands_of_the_texts(made):
    """By the table that it completes commands with; and the shell their quotes."""
    commands = text_commands(made)
    assert len(commands) >= 7
    for one in made.policies.values():
        for line in re.findall(r"^    (.*)$", one["documentation"][0]["content"], re.M):
            assert shlex.split(line)[0] in ("gcloud", "inference-relay")
    if (root := gcloud.table()) is None:
        pytest.skip("the gcloud commands are not checked: needs the Google Cloud SDK")
    assert [wrong for words in commands if (wrong := gcloud.problem(root, words))] == []


def test_the_texts_say_when_waiting_ends(made):
    """Each that speaks of what waits says what becomes of it: whose failures end with an error; else a dead letter."""
    texts = {name: one["documentation"][0]["content"] for name, one in made.policies.items()}
    waits = {"waiting", "stalled", "slots-unused", "pushes-refused", "near-deadline", "operator-errors"}
    failures = ("the model, Cloud Storage or a bug", "at attempt 10", "at delivery 100")
    says = {name for name, text in texts.items() if all(part in text for part in failures)}
    assert says == waits & texts.keys()
    assert not any("Nothing is lost:" in text for text in texts.values())


def test_the_texts_fit(made):
    """Into what Google takes of an alert's text, and into a subject that can be read."""
    for one in made.policies.values():
        assert len(one["documentation"][0]["content"].encode()) < 8192
        assert len(one["documentation"][0]["subject"]) <= 100


# --- the dashboard


def test_the_dashboard_is_one(made):
    """Google's own types take every field of it, and no two tiles lie on each other."""
    json_format.ParseDict(made.dashboard, Dashboard.pb(Dashboard()))
    taken = set()
    for tile in made.dashboard["mosaicLayout"]["tiles"]:
        columns, rows = (
            range(tile.get(at, 0), tile.get(at, 0) + tile[size]) for at, size in (("xPos", "width"), ("yPos", "height"))
        )
        places = {(column, row) for column in columns for row in rows}
        assert columns.stop <= 48
        assert not taken & places
        taken |= places


def test_a_wrong_dashboard_is_found(watched):
    """The check checks: a misspelt field, a kind of chart that there is not."""
    for wrong, right in (('"plotTypo"', '"plotType"'), ('"PIE"', '"LINE"')):
        text = json.dumps(watched["defaults"].dashboard).replace(right, wrong)
        with pytest.raises(json_format.ParseError):
            json_format.Parse(text, Dashboard.pb(Dashboard()))


def test_the_runbook_names_charts_that_there_are(watched):
    """In italics, by the beginning of their titles."""
    titles = [title.lower() for run in ("defaults", "on_knative") for title in watched[run].charts]
    section = RUNBOOK.partition("## Alerts\n")[2].partition("\n## ")[0]
    named = re.findall(r"\*([^*]+)\*", section.replace("\n", " "))
    assert named
    for name in named:
        assert any(title.startswith(name.lower()) for title in titles), name


def test_nothing_in_the_dashboard_is_empty(made):
    """Google leaves out noughts, empty texts and empty lists, so that each plan would want to add them again."""

    def empty(node, path=""):
        inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        return [path] * (node in (0, "", [], {}, None)) + [
            at for key, one in inner for at in empty(one, f"{path}.{key}")
        ]

    assert empty(made.dashboard) == []

"""knative/monitoring/alerts: about what is served, each raised by what it is for, and with its runbook entry.

That it is one to Kubernetes is looked at in test_scraping.py, with the other resources of the same operator.
"""

import re
import subprocess

import pytest
import yaml

from tests.deploy import metrics, promql, promtool
from tests.docs import pages
from tests.parts.processes import ROOT

RULE = yaml.safe_load((ROOT / "knative/monitoring/alerts/prometheusrule.yaml").read_text())
(GROUP,) = RULE["spec"]["groups"]
ALERTS = {one["alert"]: one for one in GROUP["rules"]}
PAGE, BEHAVIOUR = ((ROOT / "docs" / name).read_text() for name in ("monitoring.md", "behaviour.md"))
REASONS = tuple(re.findall(r"^\| `(\w+)` \|", BEHAVIOUR, re.M))
HERE = 'namespace="models",pod="relay-1"'


def pushes(reason, code=503):
    """Pushes that ended so, of one instance."""
    return f'inference_relay_pushes_total{{{HERE},reason="{reason}",code="{code}"}}'


def gauge(name, **labels):
    """A metric that goes up and down, of one instance."""
    more = "".join(f',{label}="{value}"' for label, value in labels.items())
    return f"inference_relay_{name}{{{HERE}{more}}}"


IN_USE, SLOTS, WAITING = (gauge(name, route="default") for name in ("slots_in_use", "slots", "waiting"))
UP = gauge("ledger_up", ledger="redis")
GOOD = pushes("answered", 204)
ERROR = f'inference_relay_answers_total{{{HERE},status="500",error_code="internal_error",route="default"}}'
OPERATORS = ("model_misconfigured", "publish_failed", "storage_failed", "keys_unavailable")
# By alert: what raises it, one case after the other, and below what does not, in promtool's notation: a value a minute.
FIRES = {
    "InferenceRelayStalled": [
        {pushes("model_failed"): "0+1x60", GOOD: "7x60"},  # it was alive once
        {pushes("publish_failed"): "0+1x60", GOOD: "0x60"},
    ],
    "InferenceRelaySlotsUnused": [{IN_USE: "31x60", SLOTS: "64x60", WAITING: "1x60"}],
    "InferenceRelayErrorAnswers": [
        {GOOD: "0+94x60", pushes("gave_up", 204): "0+6x60"},
        {
            GOOD: "0+94x60",
            pushes("gave_up", 204): "0+2x60",
            pushes("model_timed_out", 204): "0+2x60",
            pushes("response_too_large", 204): "0+2x60",
        },
    ],
    "InferenceRelayPushesRefused": [
        {GOOD: "0+98x60", pushes("busy", 429): "0+2x60"},
        {GOOD: "0+98x60", pushes("overdue"): "0+1x60", pushes("not_a_push", 400): "0+1x60"},
    ],
    "InferenceRelayTokensRefused": [
        {pushes("unauthenticated", 401): "0+1x60", GOOD: "900x60"},
        {pushes("forbidden", 403): "0+1x60", GOOD: "0x60"},
    ],
    "InferenceRelayOperatorErrors": [{pushes(reason): "0+1x60"} for reason in OPERATORS],
    "InferenceRelayLedgerAway": [
        {UP: "0x60"},
        {UP: "1x60", UP.replace("relay-1", "relay-2"): "0x60"},  # one of two instances
        {UP: "1 0 1 0 1 0 1 0 1 0" + " 1 0 1 0 1 0 1 0 1 0" * 5},  # slow: away every other minute
    ],
    "InferenceRelayBug": [{pushes("bug", 500): "0x30 1x30"}, {ERROR: "0x30 1x30"}],
}
QUIET = {
    "InferenceRelayStalled": [
        {pushes("model_failed"): "0+9x60", GOOD: "0x31 1x29"},  # one answer within half an hour
        {pushes("model_failed"): "9x60", GOOD: "9x60"},  # nothing comes
        {pushes("unauthenticated", 401): "0+9x60", GOOD: "9x60"},  # strangers
    ],
    "InferenceRelaySlotsUnused": [
        {IN_USE: "32x60", SLOTS: "64x60", WAITING: "9x60"},
        {IN_USE: "0x60", SLOTS: "64x60", WAITING: "0x60"},
        {IN_USE: "0x60", SLOTS: "64x60", WAITING: "0x50 9x10"},
    ],
    "InferenceRelayErrorAnswers": [
        {GOOD: "0+96x60", pushes("gave_up", 204): "0+4x60"},
        {GOOD: "0+50x60", pushes("request_refused", 204): "0+50x60", pushes("model_failed"): "0+50x60"},
        {GOOD: "0x46 6x14", pushes("gave_up", 204): "0x46 4x14"},  # four of ten are too few to tell
    ],
    "InferenceRelayPushesRefused": [
        {GOOD: "0+995x60", pushes("busy", 429): "0+5x60"},
        {GOOD: "0+50x60", pushes("model_failed"): "0+50x60", pushes("unauthenticated", 401): "0+50x60"},
        {GOOD: "0x46 6x14", pushes("busy", 429): "0x46 4x14"},
    ],
    "InferenceRelayTokensRefused": [
        {pushes("unauthenticated", 401): "0+9x60", GOOD: "0+1x60"},  # strangers
        {pushes("forbidden", 403): "0x46 4x14", GOOD: "9x60"},
    ],
    "InferenceRelayOperatorErrors": [
        {pushes("publish_failed"): "0x50 9x10"},  # one bad moment
        {pushes("model_failed"): "0+9x60"},
    ],
    "InferenceRelayLedgerAway": [{UP: "1x60"}, {UP: "1x50 0 1x9"}, {gauge("ledger_up", ledger="memory"): "1x60"}],
    "InferenceRelayBug": [{pushes("bug", 500): "3x120"}, {GOOD: "0+9x60"}, {ERROR: "3x120"}],
}
BY_ROUTE = {"InferenceRelaySlotsUnused": [{"route": "default"}]}
BY_REASON = {"InferenceRelayOperatorErrors": [{"reason": reason} for reason in OPERATORS]}


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """What promtool says of cases, by their queries alone."""
    promtool.needed()
    conditions = {name: (one["expr"], one.get("for", "0s")) for name, one in ALERTS.items()}
    return promtool.made(conditions, tmp_path_factory.mktemp("promtool"))


def test_there_are_cases_for_every_alert():
    """Each has something that raises it, and something that nearly does."""
    assert list(FIRES) == list(QUIET) == list(ALERTS)


@pytest.mark.parametrize("name", FIRES)
def test_it_is_raised(evaluated, name):
    """After an hour of that, once for each relay, by its namespace."""
    more = (BY_ROUTE | BY_REASON).get(name, [{}] * len(FIRES[name]))
    expected = [[{"namespace": "models", **labels}] for labels in more]
    code, said = evaluated([(name, *case) for case in zip(FIRES[name], expected, strict=True)])
    assert code == 0, said


@pytest.mark.parametrize("name", QUIET)
def test_it_is_not_raised(evaluated, name):
    """By less than that, nor by what passes."""
    code, said = evaluated([(name, series, []) for series in QUIET[name]])
    assert code == 0, said


def test_a_wrong_expectation_is_found(evaluated):
    """The check checks."""
    assert evaluated([("InferenceRelayBug", FIRES["InferenceRelayBug"][0], [])])[0] == 1
    assert evaluated([("InferenceRelayBug", QUIET["InferenceRelayBug"][0], [{"namespace": "models"}])])[0] == 1


def test_promtool_takes_the_rules(tmp_path):
    """The whole of them, texts and their templates too."""
    promtool.needed()
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(RULE["spec"]))
    done = subprocess.run(
        ["promtool", "check", "rules", tmp_path / "rules.yaml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(ALERTS)} rules found" in done.stdout


def test_every_metric_and_label_exists():
    """By docs/metrics.md; and a counter is asked how fast it grows."""
    known = metrics.served(REASONS)
    assert [problem for one in ALERTS.values() for problem in promql.problems(one["expr"], known)] == []


def listed():
    """The severity of each alert that docs/monitoring.md lists, which are Terraform's."""
    rows = [row for row in pages.rows("docs/monitoring.md") if row[0].startswith("[`")]
    return {row[0].split("`")[1]: row[2] for row in rows}


def entry(alert):
    """Where in the runbook it leads to."""
    page, _, anchor = alert["annotations"]["runbook_url"].partition("#")
    assert page == "docs/runbook.md"
    return anchor


def test_every_alert_is_terraforms():
    """It is named like one of them, is as severe, and leads to its entry in the runbook."""
    entries = pages.anchors(ROOT / "docs/runbook.md")
    for name, one in ALERTS.items():
        assert name == "InferenceRelay" + entry(one).title().replace("-", "")
        assert entry(one) in entries
        assert one["labels"] == {"severity": listed()[entry(one)]}


def test_the_texts_say_when_waiting_ends():
    """An alert of pushes that are given back says what becomes of these: an error at MAX_ATTEMPTS, or a dead letter."""
    texts = {name: one["annotations"]["description"] for name, one in ALERTS.items()}
    waits = {"InferenceRelayStalled", "InferenceRelayOperatorErrors"}
    assert {name for name, text in texts.items() if "at MAX_ATTEMPTS" in text and "dead letter" in text} == waits
    assert "the model, Cloud Storage or a bug of the service fails" in texts["InferenceRelayStalled"]
    assert not any("Nothing is lost," in text for text in texts.values())


def test_the_page_says_which_are_missing():
    """What the service's own metrics cannot tell."""
    (said,) = re.findall(r"Missing are ([^.]+)\.", PAGE)
    assert set(re.findall(r"`([a-z-]+)`", said)) == listed().keys() - {entry(one) for one in ALERTS.values()}


def test_the_thresholds_are_terraforms():
    """Shares that it has as defaults are those of the queries."""
    variables = (ROOT / "terraform/modules/relay/variables_watching.tf").read_text()
    shares = dict(re.findall(r"(\w+)_share += optional\(number, ([\d.]+)\)", variables))
    written = {entry(one): re.findall(r"[<>] ([\d.]+) \*", one["expr"]) for one in ALERTS.values()}
    asked = {"error-answers": "error", "pushes-refused": "refused", "slots-unused": "slots"}
    assert written == {name: [shares[asked[name]]] if name in asked else [] for name in written}

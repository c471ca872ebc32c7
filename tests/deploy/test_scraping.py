"""The Grafana dashboard and the monitors of knative/monitoring ask for what there is, where it is served."""

import itertools
import json
import re
import shutil
import subprocess

import jsonschema
import pytest
import yaml

from tests.deploy import metrics, promql
from tests.deploy.kubernetes import PEER, PORTS, SELECTOR, TEXT, many, published, resource, thing
from tests.deploy.settings import setting_names
from tests.parts.processes import ROOT, missing

BOARD = json.loads((ROOT / "docs/dashboards/inference-relay.json").read_text())
PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
TARGETS = [target for panel in PANELS for target in panel["targets"]]
PAGE, BEHAVIOUR = ((ROOT / "docs" / name).read_text() for name in ("monitoring.md", "behaviour.md"))
REASONS = tuple(re.findall(r"^\| `(\w+)` \|", BEHAVIOUR, re.M))
PORT = 9464


def plain(expression):
    """A query as a Prometheus gets it, with Grafana's variables filled in."""
    filled = expression.replace("$__rate_interval", "5m").replace("$namespace", "relay")
    assert "$" not in filled
    return filled


# --- Grafana


def test_every_metric_and_label_exists():
    """By docs/metrics.md."""
    known = metrics.served(REASONS)
    assert [problem for target in TARGETS for problem in promql.problems(plain(target["expr"]), known)] == []
    assert len(TARGETS) > 30


def test_every_metric_is_shown():
    """The service has none that nobody looks at."""
    shown = {one.name for target in TARGETS for one in promql.selected(plain(target["expr"]))}
    for name, kind, _labels in metrics.documented():
        assert name in shown or (kind == "histogram" and f"{name}_bucket" in shown), name


def test_every_query_is_about_one_service():
    """Of the namespace that is chosen."""
    for target in TARGETS:
        for one in promql.selected(plain(target["expr"])):
            assert ("namespace", ["relay"]) in one.matchers


def test_the_legends_name_labels_that_are_left():
    """What a line is called by is what it is grouped by."""
    for target in TARGETS:
        named = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        for one in promql.selected(plain(target["expr"])):
            assert named - {"instance"} <= one.grouped


def test_the_panels_lie_side_by_side():
    """No two on each other, none outside, each with a number of its own and a word on what it shows."""
    taken = set()
    for panel in BOARD["panels"]:
        at = panel["gridPos"]
        places = set(itertools.product(range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])))
        assert at["x"] + at["w"] <= 24
        assert not taken & places
        taken |= places
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])
    assert all(panel["description"] and panel["title"] for panel in PANELS)


def test_it_can_be_imported():
    """It names no data source of its own, and every variable that it uses is declared."""
    declared = {one["name"] for one in BOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)\}?", json.dumps(BOARD["panels"])))
    assert used - {"__rate_interval"} == declared == {"datasource", "namespace"}
    assert all(one["datasource"] == {"type": "prometheus", "uid": "${datasource}"} for one in PANELS + TARGETS)
    assert [one["refId"] for panel in PANELS for one in panel["targets"]] == [
        ref for panel in PANELS for ref in "ABCDEF"[: len(panel["targets"])]
    ]


# --- the monitors

POD_MONITORING = resource(
    "monitoring.googleapis.com/v1",
    "PodMonitoring",
    spec=thing(
        2,
        selector=SELECTOR,
        endpoints=many(thing(2, port={"type": ["integer", "string"]}, interval=TEXT, path={"const": "/metrics"})),
        targetLabels=thing(0, fromPod=many(thing(2, **{"from": TEXT, "to": TEXT}))),
    ),
)
NETWORK_POLICY = resource(
    "networking.k8s.io/v1",
    "NetworkPolicy",
    spec=thing(
        2,
        podSelector=SELECTOR,
        policyTypes=many({"const": "Ingress"}),
        ingress=many(thing(2, **{"from": many(PEER)}, ports=PORTS)),
    ),
)
SCHEMAS = {
    "PodMonitoring": lambda: POD_MONITORING,
    "PodMonitor": lambda: published("prometheus_operator.v1", "PodMonitor"),
    "NetworkPolicy": lambda: NETWORK_POLICY,
}


def kustomized(name):
    """What `kubectl apply --kustomize` would apply."""
    if not shutil.which("kubectl"):
        missing("knative/monitoring is not rendered: needs kubectl")
    path = ROOT / "knative/monitoring" / name
    done = subprocess.run(["kubectl", "kustomize", path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return list(yaml.safe_load_all(done.stdout))


@pytest.fixture(scope="module", params=["gke", "operator"])
def rendered(request):
    """What would be applied, by kind."""
    return {document["kind"]: document for document in kustomized(request.param)}


def test_every_field_is_known(rendered):
    """Closed schemas take every resource."""
    assert sorted(rendered) in (["NetworkPolicy", "PodMonitor"], ["NetworkPolicy", "PodMonitoring"])
    for kind, document in rendered.items():
        jsonschema.Draft202012Validator(SCHEMAS[kind]()).validate(document)


def test_the_alerts_are_a_resource():
    """Of knative/monitoring/alerts, by the operator's own schema, as it is rendered."""
    rule = yaml.safe_load((ROOT / "knative/monitoring/alerts/prometheusrule.yaml").read_text())
    jsonschema.Draft202012Validator(published("prometheus_operator.v1", "PrometheusRule")).validate(rule)
    assert kustomized("alerts") == [rule]


def test_the_pods_are_the_services(rendered):
    """Selected by a label that the service's pods have."""
    service = yaml.safe_load((ROOT / "knative/base/service.yaml").read_text())
    labels = service["spec"]["template"]["metadata"]["labels"].items()
    for document in rendered.values():
        selector = document["spec"].get("selector") or document["spec"]["podSelector"]
        assert selector["matchLabels"].items() <= labels


def test_the_port_is_everywhere_the_same(rendered):
    """In the monitors, what lets them in, the sidecar and on the page; and nothing else is served there."""
    (opened,) = rendered["NetworkPolicy"]["spec"]["ingress"][0]["ports"]
    monitor = next(document for kind, document in rendered.items() if kind != "NetworkPolicy")
    assert opened == {"port": PORT, "protocol": "TCP"}
    assert str(PORT) in json.dumps(monitor["spec"])
    variable = (ROOT / "terraform/modules/relay/variables_watching.tf").read_text()
    assert re.search(r"port += optional\(number, (\d+)\)", variable)[1] == str(PORT)
    assert f"`METRICS_PORT={PORT}`" in PAGE
    base = (ROOT / "knative/base/networkpolicy.yaml").read_text() + (ROOT / "knative/base/service.yaml").read_text()
    assert str(PORT) not in base


def test_the_setting_exists():
    """The port that the sidecar's service and the overlays set is a setting of the service."""
    if not metrics.PAGE.exists():
        pytest.skip("docs/metrics.md is not there yet, and so is GET /metrics")
    assert "METRICS_PORT" in setting_names()

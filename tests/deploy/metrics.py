"""The metrics that a query may name: Google's, those made of log lines, and the service's own."""

import json
import re
from collections.abc import Iterator
from typing import Any

from tests.deploy.promql import Metric
from tests.parts.processes import ROOT

GOOGLE = json.loads((ROOT / "tests/deploy/google_metrics.json").read_text())
PAGE = ROOT / "docs/metrics.md"
# What a Prometheus client of Python's tells of its process.
PROCESS = {
    "process_cpu_seconds_total": "counter",
    **dict.fromkeys(("process_max_fds", "process_open_fds", "process_resident_memory_bytes"), "gauge"),
}


def promql_name(name: str) -> str:
    """Cloud Monitoring's metric as PromQL names it.

    https://cloud.google.com/monitoring/promql/promql-mapping
    """
    domain, _, path = name.partition("/")
    return re.sub(r"\W", "_", domain) + ":" + re.sub(r"\W", "_", path)


def google() -> dict[str, Metric]:
    """Those that Google documents."""
    made = {}
    for name, one in GOOGLE["metrics"].items():
        of = dict.fromkeys(GOOGLE["resources"][one["resource"]], ())
        labels = of | {label: tuple(values) for label, values in one["labels"].items()}
        made |= _series(name, labels | _everywhere(one["resource"]), one["kind"], one["type"])
    return made


def logged(resources: list[dict[str, Any]], resource: str, reasons: tuple[str, ...]) -> dict[str, Metric]:
    """Those that Terraform makes of log lines, which come from a monitored resource."""
    made = {}
    for one in resources:
        (descriptor,) = one["metric_descriptor"]
        own = {label["key"]: reasons if label["key"] == "reason" else () for label in descriptor["labels"] or ()}
        labels = own | dict.fromkeys(GOOGLE["resources"][resource], ()) | _everywhere(resource)
        name = f"logging.googleapis.com/user/{one['name']}"
        made |= _series(name, labels, descriptor["metric_kind"], descriptor["value_type"])
    return made


def _everywhere(resource: str) -> dict[str, tuple[str, ...]]:
    return {"project_id": (), "monitored_resource": (resource,)}


def _series(name: str, labels: dict[str, tuple[str, ...]], kind: str, value: str) -> dict[str, Metric]:
    metric = Metric(labels, is_counter=kind == "DELTA", is_histogram=value == "DISTRIBUTION")
    return dict(metric.series(promql_name(name)))


def served(reasons: tuple[str, ...]) -> dict[str, Metric]:
    """Those of the service's GET /metrics, by docs/metrics.md, as a Prometheus has them with its target's labels."""
    target = dict.fromkeys(GOOGLE["resources"]["prometheus_target"], ())
    made = {name: Metric(target, is_counter=kind == "counter") for name, kind in PROCESS.items()}
    for name, kind, labels in documented():
        own = {label: reasons if label == "reason" else () for label in labels}
        made |= dict(Metric(own | target, kind == "counter", kind == "histogram").series(name))
    return made


def documented() -> Iterator[tuple[str, str, list[str]]]:
    """Name, kind and labels of each metric in the page's tables: in backticks, and under `kind` and `labels`."""
    columns: list[str] = []
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|") or set(line) <= set("|-: "):
            continue
        name = re.fullmatch(r"`([a-z_]+)`", cells[0])
        if name is None:
            columns = [cell.lower() for cell in cells]
            continue
        row = dict(zip(columns, cells, strict=False))
        if "labels" not in row:
            continue
        yield name[1], row["kind"].strip("`"), re.findall(r"`(\w+)`", row["labels"])

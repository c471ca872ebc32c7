"""What Terraform makes to watch the relay, as a test run of its own plan has it."""

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Watched:
    """The resources of one run of tests/monitoring.tftest.hcl."""

    resources: list[dict[str, Any]]

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The values of every resource of a kind."""
        return [one["values"] for one in self.resources if one["type"] == kind]

    @property
    def policies(self) -> dict[str, dict[str, Any]]:
        """The alert policies by name."""
        found = [one for one in self.resources if one["type"] == "google_monitoring_alert_policy"]
        return {one["index"]: one["values"] for one in found}

    @property
    def conditions(self) -> dict[str, tuple[str, str]]:
        """The query of each alert, and for how long it has to hold."""
        asked = {
            name: one["conditions"][0]["condition_prometheus_query_language"][0] for name, one in self.policies.items()
        }
        return {name: (one["query"], one["duration"]) for name, one in asked.items()}

    @property
    def dashboard(self) -> dict[str, Any]:
        """What the dashboard is made of."""
        (one,) = self.of("google_monitoring_dashboard")
        return json.loads(one["dashboard_json"])

    @property
    def charts(self) -> dict[str, list[str]]:
        """The queries of the dashboard, by the title of their chart."""
        return {tile["widget"]["title"]: _prometheus_queries(tile) for tile in self.dashboard["mosaicLayout"]["tiles"]}


def _prometheus_queries(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["prometheusQuery"]] if "prometheusQuery" in node else []
        return own + [query for value in node.values() for query in _prometheus_queries(value)]
    return [query for one in node for query in _prometheus_queries(one)] if isinstance(node, list) else []


def runs(lines: list[dict[str, Any]]) -> dict[str, Watched]:
    """Each run that is not a plan alone, of what terraform test says of tests/monitoring.tftest.hcl."""
    states = [line for line in lines if line["type"] == "test_state"]
    return {one["@testrun"]: Watched(one["test_state"]["root_module"]["resources"]) for one in states}

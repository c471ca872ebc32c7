"""What a PromQL query names: metrics, their labels, and whether a counter is asked how fast it grows."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import promql_parser as parser

AGGREGATED = ("_bucket", "_count", "_sum")


@dataclass(frozen=True)
class Metric:
    """One that can be asked for: its labels with the values that they may have, () where any may be."""

    labels: dict[str, tuple[str, ...]]
    is_counter: bool = False
    is_histogram: bool = False

    def series(self, name: str) -> Iterator[tuple[str, "Metric"]]:
        """The series that it has in PromQL: of a histogram three, all of them counters."""
        if not self.is_histogram:
            yield name, self
            return
        for suffix in AGGREGATED:
            labels = self.labels | ({"le": ()} if suffix == "_bucket" else {})
            yield name + suffix, Metric(labels, is_counter=True)


@dataclass
class Selected:
    """A series that a query selects, the labels it is then grouped by, and whether it is over a range."""

    name: str
    matchers: list[tuple[str, list[str]]]
    grouped: set[str] = field(default_factory=set)
    ranged: bool = False


def selected(query: str) -> list[Selected]:
    """Everything that a query selects. Raises for what is no PromQL."""
    found: list[Selected] = []
    _walk(parser.parse(query), set(), ranged=False, found=found)
    return found


def _walk(node: Any, grouped: set[str], *, ranged: bool, found: list[Selected]) -> None:
    if isinstance(node, parser.VectorSelector):
        matchers = [(one.name, one.value.split("|")) for one in node.matchers.matchers]
        found.append(Selected(node.name, matchers, grouped, ranged))
        return
    if isinstance(node, parser.AggregateExpr) and node.modifier:
        grouped = grouped | set(node.modifier.labels)
    for child in _children(node):
        # A subquery goes over what an expression was, and not over a counter's samples.
        _walk(child, grouped, ranged=isinstance(node, parser.MatrixSelector), found=found)


def _children(node: Any) -> list[Any]:
    inner = ("lhs", "rhs", "expr", "vector_selector")
    return [getattr(node, name) for name in inner if hasattr(node, name)] + list(getattr(node, "args", ()))


def problems(query: str, known: dict[str, Metric]) -> list[str]:
    """What is wrong with the names in a query; nothing, where every one of them exists."""
    return [problem for one in selected(query) for problem in _problems(one, known)]


def _problems(one: Selected, known: dict[str, Metric]) -> Iterator[str]:
    metric = known.get(one.name)
    if metric is None:
        yield f"there is no {one.name}"
        return
    for label in sorted(one.grouped - metric.labels.keys()):
        yield f"{one.name} is grouped by {label}, which it does not have"
    for label, values in one.matchers:
        if label not in metric.labels:
            yield f"{one.name} has no {label}"
        elif wrong := set(values) - set(metric.labels[label] or values):
            yield f"{one.name} has no {label} of {sorted(wrong)}"
    if metric.is_counter != one.ranged:
        yield f"{one.name} is a {'counter: ask for its rate' if metric.is_counter else 'gauge: it has no rate'}"

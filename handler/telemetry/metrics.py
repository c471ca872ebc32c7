"""The metrics: what there is, declared in one table, and where it is counted.

docs/metrics.md is made from the table (`inference-relay metrics`). Labels hold what is bounded and known at the start,
so that every series exists from the start, at 0: no tenant, user, batch or model's name. One label has one meaning in
all of them, and an empty value says that there is none.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics

from handler.admission.line import Line
from handler.ledger import Ledger
from handler.rules.message.contract import ERRORS, ErrorCode
from handler.rules.verdict.outcome import FACTS, ModelFailure

NO_ROUTE = ""

# The statuses that model servers are known to give, and those of our own errors; any other one is counted as `other`.
_MODELS = (200, 400, 401, 402, 403, 404, 408, 409, 413, 415, 422, 429, 499, 500, 501, 502, 503, 504)
STATUSES = tuple(map(str, sorted({*_MODELS, *(kind.status_code for kind in ERRORS.values())})))
OTHER_STATUS = "other"
ERROR_STATUSES = (*(status for status in STATUSES if status >= "400"), OTHER_STATUS)
TOKEN_TYPES = ("input", "output")
LEDGERS = ("memory", "redis")

# Seconds. A call of the model may take as long as Pub/Sub waits for an answer; what waits in a backlog, days.
_CALL = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 450.0, 600.0)
_AGE = (0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0, 1800.0, 3600.0, 14400.0, 43200.0, 86400.0, 604800.0)
_PUBLISH = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 600.0)


@dataclass(frozen=True, slots=True)
class Declared:
    """A metric: what it counts; its labels, and the values that they have together, `route` (the last) left out.

    `unrouted` are the series of a metric by route that exist for what has none: requests that could not be read or sent
    anywhere and, where there are several routes, responses that were kept from an earlier delivery.
    """

    name: str
    kind: type[Counter | Gauge | Histogram]
    help: str
    labels: tuple[str, ...] = ()
    series: tuple[tuple[str, ...], ...] = ((),)
    unrouted: tuple[tuple[str, ...], ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def by_route(self) -> bool:
        """Whether there is a series for each route."""
        return self.labels[-1:] == ("route",)

    def values(self, label: str) -> Sequence[str]:
        """All values of a label but `route`, in the order of the table."""
        at = self.labels.index(label)
        return tuple(dict.fromkeys(one[at] for one in self.series))


def _answers() -> Iterator[tuple[str, str]]:
    """Status and error code of every answer there can be; no code where the error, if it is one, is the model's own."""
    yield from ((status, "") for status in (*STATUSES, OTHER_STATUS))
    yield from ((str(kind.status_code), code) for code, kind in ERRORS.items() if code is not ErrorCode.MODEL_ERROR)
    yield from ((status, ErrorCode.MODEL_ERROR) for status in ERROR_STATUSES)


DECLARED: tuple[Declared, ...] = (
    Declared(
        "inference_relay_pushes_total",
        Counter,
        "Pushes, by how each ended and the HTTP status that Pub/Sub got. Every push ends in exactly one way.",
        ("reason", "code"),
        tuple((reason.value, str(facts.status)) for reason, facts in FACTS.items()),
    ),
    Declared(
        "inference_relay_answers_total",
        Counter,
        "Responses that were published and confirmed: the status in them, and the code where the error is the relay's "
        "own. Together as many as the pushes that were acknowledged, less those already answered.",
        ("status", "error_code", "route"),
        tuple(_answers()),
        unrouted=tuple(_answers()),
    ),
    Declared(
        "inference_relay_model_call_duration_seconds",
        Histogram,
        "Calls of the model, from connecting to the last byte, by the HTTP status or by what there was instead of one.",
        ("status", "route"),
        tuple((status,) for status in (*STATUSES, OTHER_STATUS, *ModelFailure)),
        buckets=_CALL,
    ),
    Declared(
        "inference_relay_model_retries_total",
        Counter,
        "Calls of the model that were made again in place, after brief trouble (PATIENCE_SECONDS).",
        ("route",),
    ),
    Declared(
        "inference_relay_answer_age_seconds",
        Histogram,
        "From the request's publication to the confirmation of its response, where the push says when that was.",
        buckets=_AGE,
    ),
    Declared(
        "inference_relay_publish_duration_seconds",
        Histogram,
        "Publishing a response until it was confirmed, or given up on.",
        buckets=_PUBLISH,
    ),
    Declared("inference_relay_slots", Gauge, "Calls that the model gets at once, at most, now.", ("route",)),
    Declared("inference_relay_slots_in_use", Gauge, "Slots in which a call is made now.", ("route",)),
    Declared("inference_relay_waiting", Gauge, "Pushes that wait in the line for a slot now.", ("route",)),
    Declared(
        "inference_relay_line_wait_seconds",
        Histogram,
        "The wait in the line, 0 where a slot was free, however it ended. Who is refused at once (busy) does not wait.",
        ("route",),
        buckets=_CALL,
    ),
    Declared(
        "inference_relay_joined_total",
        Counter,
        "Pushes that joined a copy of their message on which this instance worked already.",
    ),
    Declared(
        "inference_relay_kept_total",
        Counter,
        "Responses that could not be published at first, were kept, and were published by a redelivery without a call.",
    ),
    Declared(
        "inference_relay_ledger_up",
        Gauge,
        "1 while the ledger in use answers, 0 while it is bypassed. It is `redis`, or `memory`, this process' own, "
        "which knows of no other instance and is always up.",
        ("ledger",),
        tuple((kind,) for kind in LEDGERS),
    ),
    Declared(
        "inference_relay_tokens_total",
        Counter,
        "Tokens that the model says it has read (input) and written (output), whatever became of the answer.",
        ("type", "route"),
        tuple((kind,) for kind in TOKEN_TYPES),
    ),
)

# Their `_created` series would be metrics that nobody has declared.
disable_created_metrics()  # type: ignore[no-untyped-call]
REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)


def _made(one: Declared) -> Any:
    options: dict[str, Any] = {"buckets": one.buckets} if one.buckets else {}
    return one.kind(one.name, one.help, one.labels, registry=REGISTRY, **options)


_METRICS: Mapping[str, Any] = {one.name: _made(one) for one in DECLARED}


def count(name: str, *values: str, by: float = 1) -> None:
    """Add to a counter; `values` are those of its labels, in their order."""
    _series(name, values).inc(by)


def observe(name: str, value: float, *values: str) -> None:
    """Add a measurement to a histogram; `values` are those of its labels, in their order."""
    _series(name, values).observe(value)


@cache
def _series(name: str, values: tuple[str, ...]) -> Any:
    """One series of a metric; to look it up by its labels takes longer than to count."""
    return _METRICS[name].labels(*values) if values else _METRICS[name]


def status_value(status: int | str) -> str:
    """The label's value for an HTTP status or a ModelFailure."""
    text = str(status)
    return text if text in _KNOWN else OTHER_STATUS


_KNOWN = frozenset((*STATUSES, *ModelFailure))


# What is read of a line and of a ledger when somebody asks, so that keeping it costs nothing.
_OF_LINES: Mapping[str, Callable[[Line], int]] = {
    "inference_relay_slots": lambda line: line.slots,
    "inference_relay_slots_in_use": lambda line: line.in_use,
    "inference_relay_waiting": lambda line: line.length,
}
LEDGER_UP = "inference_relay_ledger_up"


def watch(route: str, line: Line) -> None:
    """Have the gauges read this line, and all series of the route begin at 0."""
    for metric in DECLARED:
        if metric.by_route:
            _begin(metric, ((*values, route) for values in metric.series))
    for name, read in _OF_LINES.items():
        _series(name, (route,)).set_function(partial(read, line))


def watch_ledger(kind: str, ledger: Ledger) -> None:
    """Have the gauge read this ledger, of a kind in LEDGERS, and no other."""
    _METRICS[LEDGER_UP].clear()
    _METRICS[LEDGER_UP].labels(kind).set_function(lambda: ledger.is_up)


def _begin(metric: Declared, series: Iterable[tuple[str, ...]]) -> None:
    if metric.labels:
        for values in series:
            _METRICS[metric.name].labels(*values)


for _metric in DECLARED:
    if _metric.kind is not Gauge:  # those are of what is watched alone
        _begin(_metric, _metric.series if not _metric.by_route else ((*one, NO_ROUTE) for one in _metric.unrouted))

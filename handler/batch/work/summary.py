"""What a batch came to: a table for people, the same as JSON for machines."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from handler.batch.work.journal import Journal, LineState

_PERCENTILES = (50, 90, 99, 100)


@dataclass(frozen=True, slots=True)
class Price:
    """Money for a million tokens, in and out, in whatever currency."""

    tokens_in: float
    tokens_out: float


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of one model's answers, as the model counted them."""

    answers: int
    tokens_in: int
    tokens_out: int


@dataclass(frozen=True, slots=True)
class Summary:
    """Where a batch stands. `latency` is seconds from publishing a request to its answer, by percentile."""

    batch_id: str
    end: str
    total: int
    answered: int
    failed: int
    not_sent: int
    waiting: int
    failed_by_code: Mapping[str, int]
    duplicates: int
    unexpected: int
    sent_again: int
    tokens: Mapping[str, Tokens]
    seconds: float
    latency: Mapping[str, float]
    cost: float | None
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def exit_status(self) -> int:
        """0 where every line was answered, 1 otherwise."""
        return 0 if self.answered == self.total else 1

    def as_dict(self) -> dict[str, object]:
        """The same, for JSON."""
        return asdict(self)


def summarise(journal: Journal, end: str, files: Mapping[str, str], price: Price | None = None) -> Summary:
    """Sum up what a journal has."""
    counts, tokens = journal.counts(), _tokens(journal)
    return Summary(
        batch_id=journal.fact("batch_id") or "",
        end=end,
        total=counts.total,
        answered=counts.succeeded,
        failed=counts.failed,
        not_sent=counts.pending,
        waiting=counts.waiting,
        failed_by_code=dict(_failures(journal)),
        duplicates=journal.number("duplicates"),
        unexpected=journal.number("unexpected"),
        sent_again=int(journal.ask("SELECT coalesce(sum(sends - 1), 0) FROM lines WHERE sends > 1")[0][0]),
        tokens=tokens,
        seconds=_seconds(journal),
        latency=_latency(journal),
        cost=_cost(tokens, price),
        files=files,
    )


def _failures(journal: Journal) -> list[tuple[str, int]]:
    return journal.ask(
        "SELECT code, count(*) FROM lines WHERE state = ? GROUP BY code ORDER BY 2 DESC", LineState.FAILED
    )


def _tokens(journal: Journal) -> dict[str, Tokens]:
    rows = journal.ask(
        "SELECT coalesce(model, ''), count(*), sum(tokens_in), sum(tokens_out) FROM lines WHERE state = ? GROUP BY 1",
        LineState.SUCCEEDED,
    )
    return {model: Tokens(answers, tokens_in or 0, tokens_out or 0) for model, answers, tokens_in, tokens_out in rows}


def _seconds(journal: Journal) -> float:
    began = float(journal.fact("began") or 0)
    last = float(journal.ask("SELECT max(answered_at) FROM lines")[0][0] or time.time())
    return round(max(0.0, last - began), 3)


def _latency(journal: Journal) -> dict[str, float]:
    """Exact percentiles, by the sorting of the database."""
    where = "FROM lines WHERE state = ? AND sent_at NOT NULL"
    number = journal.ask(f"SELECT count(*) {where}", LineState.SUCCEEDED)[0][0]
    if not number:
        return {}
    found = {}
    for percent in _PERCENTILES:
        at = max(0, -(-number * percent // 100) - 1)
        query = f"SELECT answered_at - sent_at {where} ORDER BY 1 LIMIT 1 OFFSET ?"
        found[f"p{percent}"] = round(float(journal.ask(query, LineState.SUCCEEDED, at)[0][0]), 3)
    return found


def _cost(tokens: Mapping[str, Tokens], price: Price | None) -> float | None:
    if price is None:
        return None
    paid = ((each.tokens_in * price.tokens_in + each.tokens_out * price.tokens_out) / 1e6 for each in tokens.values())
    return round(sum(paid), 6)

"""The summary for people."""

from rich.console import Console
from rich.table import Table

from handler.batch.controlling import Reply
from handler.batch.lines.check import Contents
from handler.batch.terminal.progress import duration
from handler.batch.work.summary import Summary

_ENDS = {
    "completed": "every line is in {files}",
    "submitted": "everything is sent: collect the answers with `inference-relay batch collect`",
    "stopped": "stopped; the same command goes on from here",
    "tokens_spent": "stopped at --max-tokens-total; the same command with a higher limit goes on from here",
    "not_sent": "{0.not_sent:,} lines were not sent: `inference-relay batch run`, or `submit`, sends them",
    "unsure_left": "the rest may never have been sent: `inference-relay batch run` finds out, and sends what was not",
    "in_progress": "not all is answered",
    "cancelled": "cancelled",
}


# Where the relay says that messages stand.
PLACES = {
    "answered": "answered",
    "failed": "answered with an error",
    "cancelled": "cancelled",
    "working": "with the model",
    "waiting": "waiting",
}


def counted(reply: Reply) -> str:
    """The relay's counts of a batch in a line."""
    parts = [f"{(reply.counts or {}).get(name, 0):,} {words}" for name, words in PLACES.items()]
    return ", ".join(parts) + ("" if reply.complete else "; there are more than are counted")


def table(summary: Summary) -> Table:
    """Everything that a person wants to know in the end."""
    one_file = summary.files.get("errors") == summary.files.get("output")  # the form of vLLM
    files = "the output" if one_file else "one of the two files"
    end = _ENDS.get(summary.end, summary.end).format(summary, files=files)
    made = Table(title=f"{summary.batch_id}: {end}", title_justify="left", show_header=False)
    made.add_column()
    made.add_column(overflow="fold")  # the name of a file is of no use with its end cut off
    for name, value in _rows(summary):
        made.add_row(name, value)
    return made


def _rows(summary: Summary) -> list[tuple[str, str]]:
    rows = [("answered", f"{summary.answered:,} of {summary.total:,}")]
    rows += [(f"failed: {code}", f"{number:,}") for code, number in summary.failed_by_code.items()]
    counted = {
        "not sent yet": summary.not_sent,
        "waiting for an answer": summary.waiting,
        "sent more than once": summary.sent_again,
        "answers that came twice": summary.duplicates,
        "answers that nobody asked for": summary.unexpected,
    }
    rows += [(name, f"{number:,}") for name, number in counted.items() if number]
    rows += [
        (f"tokens of {model or 'a model without a name'}", f"{one.tokens_in:,} in, {one.tokens_out:,} out")
        for model, one in summary.tokens.items()
    ]
    if summary.cost is not None:
        rows.append(("cost", f"{summary.cost:,.4f}"))
    rows.append(("took", duration(summary.seconds)))
    if summary.latency:
        rows.append(
            ("seconds to an answer", ", ".join(f"{name} {value:,.2f}" for name, value in summary.latency.items()))
        )
    return rows + [(name, path) for name, path in summary.files.items() if name != "journal"]


def show(console: Console, summary: Summary) -> None:
    """Print the summary."""
    console.print(table(summary), highlight=False)


def show_contents(console: Console, name: str, contents: Contents) -> None:
    """Print what is in a request file."""
    made = Table(title=name, title_justify="left", show_header=False)
    made.add_row("requests", f"{contents.good:,}")
    if contents.bad:
        made.add_row("lines that cannot be sent", f"{contents.bad:,}")
    made.add_row("form", str(contents.form))
    made.add_row("bytes", f"{contents.bytes:,}")
    made.add_row("tokens in, roughly", f"{contents.tokens_in:,}")
    made.add_row("tokens out, at most", f"{contents.tokens_out:,}" if contents.tokens_out else "no request has a limit")
    if contents.unlimited and contents.tokens_out:
        made.add_row("requests without max_tokens", f"{contents.unlimited:,}")
    for model, number in contents.models.most_common(10):
        made.add_row(f"model {model}", f"{number:,}")
    for path, number in contents.paths.most_common():
        made.add_row(path, f"{number:,}")
    console.print(made, highlight=False)

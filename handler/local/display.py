"""Shows exchanges to a person: panels on a terminal, plain lines elsewhere."""

from typing import Any

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from handler import strictjson
from handler.local.exchange import Exchange

_LONGEST = 400


def show(console: Console, exchange: Exchange, count: int, total: int) -> None:
    """Print one exchange."""
    if console.is_terminal:
        console.print(_panel(exchange, f"{count}/{total}"))
    else:
        line = f"[{count}/{total}] {exchange.status_code} {exchange.seconds:.2f}s  {_request(exchange.request)}"
        console.print(f"{line}  ->  {_reply(exchange.body)}", markup=False, highlight=False, soft_wrap=True)


def _panel(exchange: Exchange, title: str) -> RenderableType:
    ok = exchange.status_code < 300
    table = Table.grid(padding=(0, 2), expand=True)
    table.add_column(ratio=1)
    table.add_column(ratio=1)
    table.add_row(Text(_request(exchange.request)), Text(_reply(exchange.body), style="green" if ok else "yellow"))
    joined = Text(f"metadata {_compact(exchange.metadata)}", style="dim")
    heading = f"{title}  {exchange.status_code}  {exchange.seconds:.2f} s"
    return Panel(Group(table, joined), title=heading, title_align="left", border_style="green" if ok else "yellow")


def _request(request: bytes) -> str:
    """What was asked, in a line."""
    try:
        document = strictjson.loads(request)
        body = document["body"]
    except (strictjson.JsonError, LookupError, TypeError):
        return _short(request.decode(errors="replace"))
    asked = next((body[key] for key in ("prompt", "messages", "input") if key in body), body)
    if isinstance(asked, list) and asked and isinstance(asked[-1], dict):
        asked = asked[-1].get("content", asked)
    name = "" if "metadata" in document else " (no metadata)"
    return f"{document.get('path', '')}{name}  {_compact(asked)}"


def _reply(body: Any) -> str:
    """What came back, in a line: the text, the error's message, or the start of the JSON."""
    for read in (_text, _embedding, _error):
        try:
            return _short(read(body))
        except (LookupError, TypeError):
            continue
    return _short(_compact(body))


def _text(body: Any) -> str:
    choice = body["choices"][0]
    text = choice["text"] if "text" in choice else choice["message"]["content"]
    return str(text).strip()


def _embedding(body: Any) -> str:
    vector = body["data"][0]["embedding"]
    return f"{len(vector)} numbers: {', '.join(f'{number:.4f}' for number in vector[:4])}, ..."


def _error(body: Any) -> str:
    error = body["error"]
    return f"{error['code']}: {error['message']}"


def _compact(value: Any) -> str:
    return _short(strictjson.dumps(value).decode())


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]} ..."

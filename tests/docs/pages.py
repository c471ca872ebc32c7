"""Reads the project's Markdown: its links, its headings' anchors and its code blocks."""

import re
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
_HTML_TARGETS = re.compile(r"\b(?:src|srcset|href)=[\"']([^\"']+)[\"']")


class Block(NamedTuple):
    """A fenced code block: the page that has it, the line of its fence, its language and its text."""

    page: str
    line: int
    language: str
    text: str


def pages():
    """Every page that somebody reads, by its path."""
    patterns = ("*.md", "docs/*.md", "docs/benchmarks/*.md", "bench/*.md", "terraform/modules/relay/*.md")
    return sorted(path for pattern in patterns for path in ROOT.glob(pattern))


@cache
def _tokens(page):
    return MarkdownIt("commonmark").enable("table").parse(page.read_text())


def blocks(*languages):
    """The code blocks in these languages, on all pages, in lists too."""
    return [
        Block(str(page.relative_to(ROOT)), token.map[0] + 1, token.info, token.content)
        for page in pages()
        for token in _tokens(page)
        if token.type == "fence" and token.info in languages
    ]


def links(page):
    """What a page leads to, pictures too, as it is written there."""
    for token in _tokens(page):
        for part in token.children or [token]:
            yield from (str(part.attrs[name]) for name in ("href", "src") if name in part.attrs)
            if part.type.startswith("html"):
                yield from _HTML_TARGETS.findall(part.content)


@cache
def anchors(page):
    """The names of a page's headings, as GitHub and the site make them: NAME-1 for the second of the same name."""
    names = []
    tokens = _tokens(page)
    for head, inline in pairwise(tokens):
        if head.type == "heading_open":
            text = "".join(part.content for part in inline.children if part.type in ("text", "code_inline"))
            names.append(re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-"))
    return {f"{name}-{names[:at].count(name)}" if name in names[:at] else name for at, name in enumerate(names)}


def rows(page):
    """The tables of a page, a row a tuple of its cells."""
    lines = (ROOT / page).read_text().splitlines()
    return [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines if line.startswith("|")]

"""handler/ keeps to the sizes that CONTRIBUTING.md gives."""

import ast

import pytest

from tests.parts.processes import ROOT

FILES = sorted([ROOT / "main.py", ROOT / "gunicorn.conf.py", *(ROOT / "handler").rglob("*.py")])
MOST_LINES, MOST_IN_A_FUNCTION = 350, 25


def lines(function):
    """How long a function is without its docstring."""
    length = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function) is None:
        return length
    return length - (function.body[0].end_lineno - function.body[0].lineno + 1)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_are_short(path):
    """Nobody has to scroll to see what a function does, or to read a file for an hour."""
    text = path.read_text()
    assert len(text.splitlines()) <= MOST_LINES
    functions = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    assert {one.name: lines(one) for one in functions if lines(one) > MOST_IN_A_FUNCTION} == {}

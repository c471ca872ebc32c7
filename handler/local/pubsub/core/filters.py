"""Subscription filters: cloud.google.com/pubsub/docs/subscription-message-filter. Pure."""

import ast
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from lark import Lark, LarkError

from handler.local.pubsub.core.limits import require

Attributes = Mapping[str, str]
_PARSER = Lark(
    r"""
    ?start: _term | _term ("AND" _term)+ -> all | _term ("OR" _term)+ -> any
    _term: test | "(" start ")" | negated
    negated: ("NOT" | "-") _term
    ?test: "attributes" ":" _key -> has
         | "attributes" "." _key "=" STRING -> equals
         | "attributes" "." _key "!=" STRING -> differs
         | "hasPrefix" "(" "attributes" "." _key "," STRING ")" -> starts
    _key: NAME | STRING
    NAME: /[A-Za-z0-9_-]+/
    STRING: /"([^"\\\n]|\\.)*"/
    %ignore /\s+/
    """
)


def compile_filter(text: str, missing_differs: bool) -> Callable[[Attributes], bool]:
    """Make a function of a message's attributes; the empty filter takes all. RefusedError when it is no filter."""
    require(len(text.encode()) <= 256, "a filter has at most 256 bytes")
    try:
        matches = partial(_matches, _PARSER.parse(text) if text else None, missing_differs)
        matches({})  # reads every literal, of which one may be wrong
    except (LarkError, ValueError, SyntaxError) as error:
        require(False, f"not a filter: {text!r}: {str(error).splitlines()[0]}")
    return matches


def _matches(tree: Any, missing_differs: bool, attributes: Attributes) -> bool:
    if tree is None:
        return True
    if tree.data in {"all", "any", "negated"}:
        parts = [_matches(part, missing_differs, attributes) for part in tree.children]
        return {"all": all(parts), "any": any(parts), "negated": not parts[0]}[tree.data]
    key, *value = [ast.literal_eval(token) if token.startswith('"') else str(token) for token in tree.children]
    if key not in attributes:
        return missing_differs and tree.data == "differs"
    found = attributes[key]
    return bool(
        tree.data == "has"
        or (tree.data == "equals" and found == value[0])
        or (tree.data == "differs" and found != value[0])
        or (tree.data == "starts" and found.startswith(value[0]))
    )

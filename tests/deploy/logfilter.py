"""As much of Cloud Logging's query language as this project's filters use: what they name, and which lines they take.

https://cloud.google.com/logging/docs/view/logging-query-language
"""

import operator
from collections.abc import Iterator
from typing import Any

from lark import Lark, Tree

LANGUAGE = Lark(
    r"""
    query: _clause ("AND" _clause)*
    _clause: either | "(" either ")"
    either: comparison ("OR" comparison)*
    comparison: field OPERATOR (value | "(" value ("OR" value)* ")")
    field: (NAME | TEXT) ("." (NAME | TEXT))*
    value: TEXT | NUMBER | ANY | NAME
    OPERATOR: ">=" | "<=" | "!=" | "=" | ":" | ">" | "<"
    ANY: "*"
    NAME: /(?!AND\b|OR\b)[A-Za-z_][A-Za-z0-9_]*/
    TEXT: /"[^"]*"/
    NUMBER: /[0-9]+(\.[0-9]+)?/
    %ignore /\s+/
    """,
    parser="lalr",
    start="query",
)
SEVERITIES = ("DEFAULT", "DEBUG", "INFO", "NOTICE", "WARNING", "ERROR", "CRITICAL", "ALERT", "EMERGENCY")
ORDERED = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}


def entry(line: dict[str, Any], resource: dict[str, Any]) -> dict[str, Any]:
    """The entry that a line of JSON on standard error becomes: some fields are lifted out of its payload.

    https://cloud.google.com/logging/docs/structured-logging
    """
    payload = {name: value for name, value in line.items() if name not in ("severity", "time", "httpRequest")}
    return {"resource": resource, "severity": line["severity"], "jsonPayload": payload}


Comparison = tuple[list[str], str, list[str]]


def clauses(query: str) -> Iterator[list[Comparison]]:
    """What has to hold: of each list one comparison, by field, operator and values. Raises for what is no query."""
    for either in LANGUAGE.parse(query).children:
        assert isinstance(either, Tree)
        yield [_comparison(one) for one in either.children if isinstance(one, Tree)]


def _comparison(one: Any) -> Comparison:
    field, sign, *values = one.children
    return (
        [part.strip('"') for part in field.children],
        str(sign),
        [value.children[0].strip('"') for value in values],
    )


def fields(query: str) -> set[str]:
    """The fields of the payload that a query names."""
    return {path[1] for either in clauses(query) for path, _sign, _values in either if path[0] == "jsonPayload"}


def takes(query: str, logged: dict[str, Any]) -> bool:
    """Whether an entry is among what the query finds."""
    return all(
        any(_holds(_at(logged, path), sign, value) for path, sign, values in either for value in values)
        for either in clauses(query)
    )


def _at(logged: Any, path: list[str]) -> Any:
    for name in path:
        logged = logged.get(name) if isinstance(logged, dict) else None
    return logged


def _holds(found: Any, sign: str, value: str) -> bool:
    if found is None:
        return False
    if sign == ":":
        return value == "*" or value.lower() in str(found).lower()
    if sign in ORDERED:
        order = SEVERITIES.index if found in SEVERITIES else float
        return ORDERED[sign](order(found), order(value))
    return (str(found) == value) is (sign == "=")

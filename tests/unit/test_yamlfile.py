"""A YAML file as a person writes it who knows more, or less, of YAML than is needed."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handler.config import yamlfile
from handler.config.routesfile import RoutingFile

ROUTE = "{name: a, models: [x], url: 'http://x'}"
DEEP = 5000


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    """What a text means as the file of routes."""
    path = tmp_path_factory.mktemp("yaml") / "routes.yaml"

    def loaded(text):
        path.write_text(text, encoding="utf-8")
        return yamlfile.load(str(path), RoutingFile)

    return loaded


GOOD = {
    "aliases": f"routes: [&a {ROUTE}, {{<<: *a, name: b, models: [y]}}]",
    "a merge of several": f"routes: [{{<<: [{ROUTE}, {{slots: 3}}], name: b}}]",
    "tags that say what is so": "routes: !!seq [!!map {name: !!str a, models: [x], url: 'http://x'}]",
    "a byte order mark": f"\ufeffroutes: [{ROUTE}]",
    "one document, with its marks": f"%YAML 1.1\n---\nroutes: [{ROUTE}]\n...\n",
}


@pytest.mark.parametrize("text", GOOD.values(), ids=GOOD)
def test_all_of_yaml_may_be_used(load, text):
    """Whatever the way to write them, routes are routes."""
    assert load(text).routes[0].name in "ab"


BAD = {
    "nothing": ("# nothing\n", "is empty"),
    "several documents": (f"routes: [{ROUTE}]\n---\nroutes: []", "line 2: expected a single document"),
    "several, and nothing in them": ("---\n---", "line 2: expected a single document"),
    "a list": ("- a", "is no mapping"),
    "null": ("~", "is no mapping"),
    "control characters": ("routes: \x01", "special characters are not allowed"),
    "a list as key": ("{[a]: b}", "line 1: a key is no text: put it in quotes"),
    "a mapping as key": ("? {a: b}\n: c", "line 1: a key is no text: put it in quotes"),
    "itself as key": ("a: 1\n? &a [*a]\n: b", "line 2: a key is no text: put it in quotes"),
    "a number as key": ("routes: []\n1: x", "line 2: a key is no text: put it in quotes"),
    "nothing as key": ("routes: []\n? \n: x", "line 2: a key is no text: put it in quotes"),
    "a list said to be a text as key": ("!!str [a]: b", "line 1: a key is no text: put it in quotes"),
    "a list in itself": ("&a [*a]", "is no mapping"),
    "a mapping in itself": ("&a {routes: *a}", "line 1: routes should be a valid tuple"),
    "a route in itself": (f"routes: [&a {{<<: {ROUTE}, url: *a}}]", "line 1: routes.0.url should be a valid string"),
    "a merge with itself": ("&a {<<: *a}", "line 1: routes is missing"),
    "a merge with what is around it": ("&a {<<: &b {<<: *a}}", "line 1: routes is missing"),
    "a merge with a number": ("<<: 5", "line 1: while constructing a mapping, expected a mapping or list"),
    "two merges": ("<<: {a: b}\n<<: {c: d}", "line 2: << stands there twice"),
    "a key twice": ("routes: []\nroutes: []", "line 2: routes stands there twice"),
    "a key twice, deep down": ("routes:\n- a:\n  - b: 1\n    b: 2", "line 4: b stands there twice"),
    "a key twice, of two lines": ('{"a\\nb": 1, "a\\nb": 2}', r"line 1: 'a\nb' stands there twice"),
    "a key of two lines": (f'{{routes: [{ROUTE}], "a\\nb": 1}}', r"line 1: 'a\nb' is no known field"),
    "no such anchor": ("routes: *nope", "line 1: found undefined alias 'nope'"),
    "no such tag": ("routes: !x y", "line 1: could not determine a constructor for the tag '!x'"),
    "a tag of Python": ("routes: !!python/object/apply:os.system [ls]", "line 1: could not determine a constructor"),
    "a tag of another kind": ("routes: !!int [a]", "line 1: expected a scalar node, but found sequence"),
    "no integer": ("routes: []\nx: !!int ''", "line 2: this is no int: put it in quotes if it is a text"),
    "no number": ("routes: !!float x", "line 1: this is no float: put it in quotes if it is a text"),
    "no truth value": ("routes: !!bool x", "line 1: this is no bool: put it in quotes if it is a text"),
    "no time": ("routes: !!timestamp x", "line 1: this is no timestamp: put it in quotes if it is a text"),
    "a date that is none": ("routes: 2001-13-45", "line 1: this is no timestamp: put it in quotes if it is a text"),
    "a number without end": ("routes: " + "9" * DEEP, "line 1: this is no int: put it in quotes if it is a text"),
    "lists without end": ("[" * DEEP, "is nested too deeply"),
    "mappings without end": ("{a: " * DEEP, "is nested too deeply"),
    "keys without end": ("? " * DEEP, "is nested too deeply"),
}


@pytest.mark.parametrize(("text", "says"), BAD.values(), ids=BAD)
def test_what_is_wrong_is_said_in_one_line(load, text, says):
    """Each problem is named, with its line where it has one, and no exception of a library gets through."""
    with pytest.raises(ValueError, match=re.escape(says)) as wrong:
        load(text)
    assert type(wrong.value) is ValueError
    assert "\n" not in str(wrong.value)


def test_what_stands_in_many_places_is_looked_at_once(load):
    """Aliases of aliases are a small file of which nobody could visit every place."""
    text = "routes: []\nx0: &x0 [1]\n" + "".join(f"x{n}: &x{n} [*x{n - 1}, *x{n - 1}]\n" for n in range(1, 100))
    with pytest.raises(ValueError, match="x0 is no known field"):
        load(text)


PIECES = (
    *("&a ", "*a", "&b ", "*b", "<<", ": ", ":", ", ", "[", "]", "{", "}", "? ", "- ", "\n", "  ", "---\n", "...\n"),
    *("!!int ", "!!str ", "!!set ", "!!omap ", "!!binary ", "!!timestamp ", "!x ", "~", "1", "x", "routes", "name"),
    *("'", '"', "\\n", "|\n", ">\n", "#", "%", "=", "true", "2001-13-45", "\t", "\u2028", "\x00", ROUTE),
)


@given(st.lists(st.sampled_from(PIECES)).map("".join))
def test_whatever_is_written_is_read_or_refused(load, text):
    """No text makes anything but routes or one line that says what is wrong."""
    try:
        load(text)
    except ValueError as wrong:
        assert type(wrong) is ValueError
        assert len(str(wrong).splitlines()) == 1

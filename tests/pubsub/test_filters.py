"""Subscription filters."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handler.local.pubsub.core.filters import compile_filter
from handler.local.pubsub.core.limits import RefusedError

ATTRIBUTES = {"a": "1", "name": "com", "iana.org/language_tag": "en", "my-key_2": "x\u307fy", "quote": 'a"b'}


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("", True),
        ("attributes:a", True),
        ("attributes:b", False),
        ('attributes:"a"', True),
        ('attributes:"iana.org/language_tag"', True),
        ("attributes:my-key_2", True),
        ('attributes.a = "1"', True),
        ('attributes.a="1"', True),
        ('attributes.a = "2"', False),
        ('attributes.b = "1"', False),
        ('attributes.a != "2"', True),
        ('attributes.a != "1"', False),
        ('attributes.b != "1"', True),
        ('attributes."iana.org/language_tag" = "en"', True),
        ('attributes.my-key_2 = "x\\u307fy"', True),
        ('attributes.quote = "a\\"b"', True),
        ('hasPrefix(attributes.name, "co")', True),
        ('hasPrefix(attributes.name, "")', True),
        ('hasPrefix(attributes.name, "om")', False),
        ('hasPrefix(attributes.b, "")', False),
        ("NOT attributes:a", False),
        ("-attributes:a", False),
        ("NOT attributes:b", True),
        ("NOT NOT attributes:a", True),
        ("attributes:a AND attributes:b", False),
        ("attributes:a AND attributes:name AND attributes:quote", True),
        ("attributes:b OR attributes:a", True),
        ("attributes:b OR attributes:c OR attributes:d", False),
        ("NOT attributes:b AND attributes:a", True),
        ("NOT (attributes:b OR attributes:a)", False),
        ("(attributes:b OR attributes:a) AND attributes:name", True),
        ("attributes:b OR (attributes:a AND attributes:c)", False),
        ("  attributes:a\n AND\tattributes:name ", True),
    ],
)
def test_filter(text: str, matches: bool) -> None:
    """Each form of the documented syntax."""
    assert compile_filter(text, missing_differs=True)(ATTRIBUTES) is matches


def test_whether_a_missing_attribute_differs_can_be_switched() -> None:
    """`!=` on a missing key, the one thing the documentation leaves open."""
    assert not compile_filter('attributes.b != "1"', missing_differs=False)(ATTRIBUTES)


@pytest.mark.parametrize(
    "text",
    [
        "nonsense", "attributes", "attributes:", "attributes.a", "attributes.a =", "attributes.a = 1",
        "attributes.a = 'x'", 'attributes.a < "1"', "attributes:a AND", "attributes:a attributes:b", "(attributes:a",
        "NOT",         "attributes:a and attributes:b", "attributes:a AND attributes:b OR attributes:c",
        'hasSuffix(attributes.a, "x")',
        "attributes:iana.org/x", 'attributes.a = "\\u12"', "attributes:" + "a" * 246,
    ],
)  # fmt: skip
def test_no_filter(text: str) -> None:
    """What is no filter is refused when the subscription is made."""
    with pytest.raises(RefusedError, match="filter"):
        compile_filter(text, missing_differs=True)


WORDS = [
    "attributes", ":", ".", "a", "=", "!=", '"x"', "AND", "OR", "NOT", "-", "(", ")", "hasPrefix", ",",
    "attributes:a", 'attributes.a = "1"', 'hasPrefix(attributes.a, "x")',
]  # fmt: skip


@given(st.text(max_size=80) | st.lists(st.sampled_from(WORDS), max_size=9).map(" ".join))
def test_any_text_is_a_filter_or_refused(text: str) -> None:
    """No text whatsoever does anything else."""
    with contextlib.suppress(RefusedError):
        assert compile_filter(text, missing_differs=True)({}) in {True, False}


@given(st.text(max_size=20), st.text(max_size=20))
def test_any_value_can_be_written(key: str, value: str) -> None:
    """Quoted and escaped, every key and value can be asked for."""
    quoted = ['"' + "".join(f"\\U{ord(letter):08x}" for letter in text) + '"' for text in (key, value)]
    text = f"attributes.{quoted[0]} = {quoted[1]}"
    if len(text) <= 256 and not any("\ud800" <= letter <= "\udfff" for letter in key + value):
        assert compile_filter(text, missing_differs=True)({key: value})

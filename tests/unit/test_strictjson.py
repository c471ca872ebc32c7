"""JSON as the RFC has it, and nothing beyond."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handler.rules import strictjson
from handler.rules.strictjson import JsonError
from tests.parts.jsonvalues import FINITE, json_values

values = json_values(depth=4)


@given(values)
def test_what_is_written_is_read_back(value):
    """A round trip changes nothing: numbers, key order and every string, lone surrogates among them."""
    text = strictjson.dumps(value)
    assert json.dumps(value) == json.dumps(strictjson.loads(text))


@given(st.binary(max_size=200))
@settings(max_examples=300)
def test_no_bytes_raise_anything_but_json_error(data):
    """Whatever the bytes, the answer is a value or a JsonError."""
    try:
        strictjson.loads(data)
    except JsonError as error:
        assert str(error)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"NaN", "NaN"),
        (b'{"a": [Infinity]}', "Infinity"),
        (b"-Infinity", "-Infinity"),
        (b"1e400", "double"),
        (b"[-1e400]", "double"),
        (b"1" * 4301, "4,300 digits"),
        (b"\xff", "UTF-8 at byte 0"),
        ('"é"'.encode("latin-1"), "UTF-8 at byte 1"),
        ('{"a": 1}'.encode("utf-16"), "UTF-8"),
        (b"\xef\xbb\xbf{}", "BOM"),
        (b"", "Expecting value"),
        (b"{} {}", "Extra data"),
        (b'{"a": 1,}', "line 1"),
        (b"'a'", "Expecting value"),
        (b"[" * 201 + b"]" * 201, "200 levels"),
        (b'{"a":' * 201 + b"1" + b"}" * 201, "200 levels"),
        (b"[" * 100_000, "200 levels"),
    ],
)
def test_refused(text, reason):
    """What is not JSON, or cannot be kept exactly, is refused with the reason and without quoting it."""
    with pytest.raises(JsonError, match=reason):
        strictjson.loads(text)


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 200 + b"]" * 200,
        b"[" + b"{}," * 500 + b"{}]",
        b"9" * 4300,
        b"[9007199254740993, -9007199254740993]",
        rb'"\ud800"',
        '{"b": 1, "a": "日本語 🚀"}'.encode(),
    ],
)
def test_kept_exactly(text):
    """Everything within the limits comes back byte by byte, but for white space."""
    assert text.replace(b", ", b",").replace(b": ", b":") == strictjson.dumps(strictjson.loads(text))


# RFC 8259, rule by rule: what every parser has to take, and as what.
TAKEN = {
    "true": True,
    "false": False,
    "null": None,
    " \t\r\n1 \t\r\n": 1,
    "0": 0,
    "-0": 0,
    "-1": -1,
    "-0.0": 0.0,
    "0e1": 0.0,
    "0e+1": 0.0,
    "1E22": 1e22,
    "1e-2": 0.01,
    "1.5E+2": 150.0,
    "123.456e-78": 1.23456e-76,
    "0.%s1" % ("0" * 80): 1e-81,
    "123456789012345678901234567890": 123456789012345678901234567890,
    '""': "",
    r'"\"\\\/\b\f\n\r\t"': '"\\/\b\f\n\r\t',
    r'"\u0000\u001f\u007f"': "\x00\x1f\x7f",
    r'"\u00e9\u00E9"': "éé",
    r'"\ud83d\ude80"': "🚀",
    r'"\uDBFF\uDFFF"': "\U0010ffff",
    r'"\ufdd0\uFFFE\uffff"': "\ufdd0\ufffe\uffff",
    r'"\\u0041"': r"\u0041",
    r'"\u2028\u2029"': "\u2028\u2029",
    '"\u2028\u2029\x7f\u200b"': "\u2028\u2029\x7f\u200b",
    '"\ufeff"': "\ufeff",
    '"\U0001f680\U0010ffff\ufdd0"': "\U0001f680\U0010ffff\ufdd0",
    '"/* no comment */ // none"': "/* no comment */ // none",
    "[]": [],
    "[ ]": [],
    "[[], {}]": [[], {}],
    "[1,null,\n2]": [1, None, 2],
    "{}": {},
    '{"":0}': {"": 0},
    '{"a":{"b":[{"c":null}]}}': {"a": {"b": [{"c": None}]}},
    r'{"a\u0000b":1}': {"a\x00b": 1},
    '{"a":1,"a":2}': {"a": 2},
    r'{"a":1,"\u0061":2}': {"a": 2},
    '{"__proto__":1,"constructor":2}': {"__proto__": 1, "constructor": 2},
}
# What no parser may take.
NOT_TAKEN = (
    *("", " ", "\x00", "nul", "nulll", "True", "NULL", "undefined", "TRUE", "nan", "inf", "Nan", "-NaN", "+Infinity"),
    *(
        "-",
        "+1",
        "- 1",
        "--1",
        "01",
        "-01",
        "00",
        "1.",
        ".5",
        "-.5",
        "1.e1",
        ".e1",
        "1e",
        "1e+",
        "1E-",
        "1e1.5",
        "1e1e1",
    ),
    *("0x1", "0b1", "0o7", "1_000", "1,000", "1 000", "1f", "1a", "1+2", "\uff11", "\u0663", "½", "1\u00a0"),
    *('"', '"a', 'a"', "'a'", '"a"b', '"\n"', '"\t"', '"\x00"', '"\x1f"', '"a\\"', "“a”"),
    *(
        r'"\"',
        r'"\a"',
        r'"\x41"',
        r'"\0"',
        r'"\u"',
        r'"\u1"',
        r'"\u12"',
        r'"\u123"',
        r'"\u12g4"',
        r'"\U0041"',
        r'"\u 041"',
    ),
    *(
        r'"\u+041"',
        r'"\u-041"',
        r'"\u0x41"',
        r'"\u004_"',
        '"\\u00\uff141"',
        r'"\ud83d\u"',
        r'"\ud83d\ude8"',
        r"\u0041",
        r"\n",
    ),
    *(
        "[",
        "]",
        "[1",
        "[1,",
        "[1,]",
        "[,1]",
        "[,]",
        "[1,,2]",
        "[1 2]",
        "[1:2]",
        "[1;2]",
        "[1]]",
        "[[1]",
        "[}",
        "[1}",
        "(1)",
    ),
    *("{", "}", "{a:1}", "{'a':1}", '{"a"}', '{"a":}', '{"a" 1}', '{"a",1}', '{"a":1,}', '{,"a":1}', '{"a":1,,"b":2}'),
    *(
        '{"a":1 "b":2}',
        '{"a"::1}',
        '{"a":1:2}',
        '{"a":1]',
        '{"a":1}}',
        "{1:1}",
        "{null:1}",
        "{[]:1}",
        '{"a":1',
        '{"a',
        "{]",
    ),
    *("1 2", "[][]", "{}{}", "{}[]", "null null", '"a""b"', "1,", "{},", ",1", ":1"),
    *("1//x", "/**/1", "1/**/", "#x\n1", "[1/*x*/]", "<!-- -->1", "<a/>", "*", "$", "@1", "`a`", "[1\x0b]", "[\x0c1]"),
    *("\u00a01", "\u20281", "\ufeff1", "[\u30001]", "[\u200b]", "1\x00", "[1]\x00", "\x001", "{}\x1a"),
)
# Bytes that are no UTF-8.
NOT_UTF8 = (
    *(
        b'"\x80"',
        b'"\xbf"',
        b'"\xc3"',
        b'"\xe2\x82"',
        b'"\xf0\x9f\x9a"',
        b'"\xfe"',
        b'"\xff"',
        b"\xff\xfe",
        b"[\xff]",
        b"{\xff:1}",
    ),
    *(b'"\xc0\x80"', b'"\xc0\xaf"', b'"\xc1\xbf"', b'"\xe0\x80\x80"', b'"\xf0\x80\x80\x80"', b'"\xf8\x88\x80\x80\x80"'),
    *(
        b'"\xed\xa0\x80"',
        b'"\xed\xbf\xbf"',
        b'"\xed\xa0\xbd\xed\xba\x80"',
        b'"\xf4\x90\x80\x80"',
        b'"\xf5\x80\x80\x80"',
    ),
    *(b'"\xe9"', b'"\\u00\xff1"', b'"a\xe2\x28\xa1"', b"\x00\xff1", "[1]é".encode("latin-1")),
)
# What the RFC leaves to each parser, and what this one makes of it; see also the two tables above.
OURS = {
    r'"\ud800"': "\ud800",
    r'"\udc00"': "\udc00",
    r'"\ud800a"': "\ud800a",
    r'"\ud800\n"': "\ud800\n",
    r'"\ud800\ud800\udc00"': "\ud800\U00010000",
    r'"\udc00\ud800"': "\udc00\ud800",
    r'{"\ud800":1}': {"\ud800": 1},
    "1e-400": 0.0,
    "123e-10000000": 0.0,
    "-1e-400": -0.0,
    "1.%s" % ("9" * 10_000): 2.0,
    "[%s1]" % ("1," * 100_000): [1] * 100_001,
}


@pytest.mark.parametrize(("text", "expected"), (TAKEN | OURS).items())
def test_what_json_is(text, expected):
    """All that the RFC calls JSON is read as what it says; where it leaves a choice, nothing is lost but precision."""
    actual = strictjson.loads(text.encode())
    assert (type(actual), actual) == (type(expected), expected)


@pytest.mark.parametrize("text", [*(text.encode() for text in NOT_TAKEN), *NOT_UTF8])
def test_what_json_is_not(text):
    """Nothing beyond the RFC is taken, however common."""
    with pytest.raises(JsonError):
        strictjson.loads(text)


def test_overflow_is_let_through_where_the_text_is_only_passed_on():
    """With finite=False the model's own numbers are nobody's business."""
    assert [math.inf] == strictjson.loads(b"[1e400]", finite=False)


def test_pretty_keeps_other_scripts_readable():
    """What is printed for a person has no escapes."""
    assert strictjson.pretty({"é": "日"}) == '{\n  "é": "日"\n}'


# --- large texts are read by another parser first


def outcome(text, **options):
    """The value, written down, or the reason why there is none."""
    try:
        return json.dumps(strictjson.loads(text, **options))
    except JsonError as error:
        return str(error)


def large(text):
    """The same text, with so much white space that it counts as large."""
    return text + b" " * strictjson.LARGE_BYTES


ODD = [
    b"1e400",
    b"-1E+0400",
    b"[1e99, 1e308, 1e309]",
    b"9" * 400,
    b"9" * 400 + b".0",
    b"9" * 4301,
    b'"e123 and 1e999"',
    b'{"a":1,"a":2}',
    b"-0",
    b"-0.0",
    b"1E2",
    b"0.1e-400",
    b"5e-324",
    b"2.2250738585072011e-308",
    b"123456789012345678901234567890",
    rb'"\ud800"',
    rb'"\ud83d\ude80 \u0000 \/"',
    b'"\xed\xa0\x80"',
    b'"\x01"',
    b"[NaN]",
    b"Infinity",
    b"[" * 200 + b"]" * 200,
    b"[" * 201 + b"]" * 201,
    b"[1,]",
    b"01",
    b"tru",
    b"\xef\xbb\xbf{}",
    b"{} {}",
]


@pytest.mark.parametrize("text", ODD, ids=lambda text: text[:20].decode("latin-1"))
@pytest.mark.parametrize("finite", [True, False])
def test_a_large_text_is_read_as_a_small_one(text, finite):
    """The same value, and the same reason where there is none."""
    assert outcome(large(text), finite=finite) == outcome(text, finite=finite)


@given(values)
@settings(max_examples=200, deadline=None)
def test_any_large_text_is_read_as_a_small_one(value):
    """Down to the last digit and the order of keys."""
    text = strictjson.dumps(value)
    assert outcome(large(text)) == outcome(text)


@given(FINITE)
@settings(deadline=None)
def test_every_number_is_read_exactly(number):
    """The fast parser's numbers are the nearest doubles, too."""
    assert strictjson.loads(large(repr(number).encode())) == number

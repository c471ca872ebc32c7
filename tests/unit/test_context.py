"""Where a push stands in a trace."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handler.telemetry.context import _TRACEPARENT, Context, context_of

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.mark.parametrize(
    ("traceparent", "expected"),
    [
        (f"00-{TRACE}-{SPAN}-01", Context(TRACE, SPAN, 1)),
        (f"00-{TRACE}-{SPAN}-00", Context(TRACE, SPAN, 0)),
        (f"00-{TRACE}-{SPAN}-03", Context(TRACE, SPAN, 3)),
        (f"42-{TRACE}-{SPAN}-01-more", Context(TRACE, SPAN, 1)),
        (f"ff-{TRACE}-{SPAN}-01", None),
        (f"00-{'0' * 32}-{SPAN}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"00-{TRACE.upper()}-{SPAN}-01", None),
        (f"00-{TRACE}-01", None),
        ("", None),
    ],
)
def test_traceparent(traceparent, expected):
    """W3C's form, of any version but the one that is none."""
    assert context_of({}, {"traceparent": traceparent}) == expected


def test_the_publishers_trace_counts_before_the_platforms():
    """Google's client says in attributes where the message comes from; an attribute that is none is none."""
    headers = {"traceparent": f"00-{'1' * 32}-{SPAN}-00"}
    published = {"googclient_traceparent": f"00-{TRACE}-{SPAN}-01", "googclient_tracestate": "a=b"}
    assert context_of(published, headers) == Context(TRACE, SPAN, 1, "a=b")
    assert context_of({"googclient_traceparent": "nonsense"}, headers) is None
    assert context_of({}, headers).trace_id == "1" * 32


def test_a_state_that_is_too_long_is_left_out():
    """The trace goes on without it."""
    published = {"googclient_traceparent": f"00-{TRACE}-{SPAN}-01", "googclient_tracestate": "a" * 513}
    assert context_of(published, {}) == Context(TRACE, SPAN, 1)


def test_who_decides_to_record():
    """Only the lowest bit says so; the others are handed on."""
    assert [Context(TRACE, SPAN, flags).sampled for flags in (0, 1, 2, 3)] == [False, True, False, True]
    assert Context(TRACE, SPAN, 3).traceparent == f"00-{TRACE}-{SPAN}-03"


@given(st.text() | st.from_regex(_TRACEPARENT, fullmatch=True))
def test_any_text(text):
    """It is a context, whose own form is read again, or none."""
    context = context_of({"googclient_traceparent": text}, {})
    assert context is None or context_of({}, {"traceparent": context.traceparent}) == context


def test_cloud_loggings_fields():
    """By them a line is found from its trace, and the other way round."""
    assert Context(TRACE, SPAN, 1).for_log("p") == {
        "logging.googleapis.com/trace": f"projects/p/traces/{TRACE}",
        "logging.googleapis.com/spanId": SPAN,
        "logging.googleapis.com/trace_sampled": True,
    }

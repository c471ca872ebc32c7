"""Any JSON value, drawn quickly: what `hypothesis.strategies.recursive` draws takes four to ten times as long."""

from hypothesis import strategies as st

FINITE = st.floats(allow_nan=False, allow_infinity=False)


def json_values(keys=None, floats=FINITE, depth=3, width=3):
    """Values with so many levels of arrays and objects, each of which has up to `width` members."""
    text = st.text()
    simple = st.none() | st.booleans() | st.integers() | floats | text
    values = simple
    for _ in range(depth):
        values = simple | st.lists(values, max_size=width) | json_objects(values, keys, width)
    return values


def json_objects(values, keys=None, width=3):
    """Objects with up to `width` of these values."""
    return st.dictionaries(st.text() if keys is None else keys, values, max_size=width)

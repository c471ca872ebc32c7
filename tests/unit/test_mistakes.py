"""Every field of a request has words for what is wrong with it."""

import json

import pytest
from pydantic import BaseModel, ValidationError

from handler.rules.message import mistakes
from handler.rules.message.contract import ErrorCode, InferenceRequest, Options, RequestError, parse_request

PATH = "/v1/completions"
FIELDS = [*InferenceRequest.model_fields, *(f"options.{name}" for name in Options.model_fields)]


def parsed(field, value):
    """A request with this value in one of its fields, read."""
    document = {"metadata": {}, "body": {}, "options": {}}
    *outer, name = field.split(".")
    (document["options"] if outer else document)[name] = value
    return parse_request(json.dumps(document).encode(), [PATH])


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize(
    "value", [True, 0, -1, 1.5, 10**400, "", "urgent", "1", [], ["high"], {}, {"x": 1}, None], ids=str
)
def test_any_value_in_any_field(field, value):
    """Whatever stands in a field, it is read, or refused by the field's name; nothing else happens."""
    try:
        parsed(field, value)
    except RequestError as refused:
        assert (f"`{field}`" in str(refused)) is (refused.code is not ErrorCode.PATH_NOT_ALLOWED)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("urgent", '`options.priority` must be "high", "normal" or "low".'),
        (1, '`options.priority` must be "high", "normal" or "low", not a number.'),
        (["high"], '`options.priority` must be "high", "normal" or "low", not an array.'),
    ],
)
def test_a_priority_that_there_is_not(value, says):
    """It is refused with those that there are."""
    with pytest.raises(RequestError) as refused:
        parsed("options.priority", value)
    assert (refused.value.code, str(refused.value)) == (ErrorCode.INVALID_REQUEST, says)


def test_every_field_has_its_form():
    """Else its requester would be told less than can be known."""
    assert set(mistakes._FORMS) == set(FIELDS)


@pytest.mark.parametrize("document", [{}, {"new": "x"}])
def test_a_field_without_a_form(document):
    """Is refused by its name all the same."""
    model = type("Model", (BaseModel,), {"__annotations__": {"new": int}})
    with pytest.raises(ValidationError) as problems:
        model.model_validate(document)
    mistake = mistakes.explain(problems.value)
    assert (mistake.param, "`new`" in str(mistake)) == ("new", True)

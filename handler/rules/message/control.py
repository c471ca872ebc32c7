"""Control messages: what a requester publishes to have requests cancelled, or to learn where they stand. Pure."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from handler.rules import strictjson
from handler.rules.message.attributes import MAX_VALUE_BYTES
from handler.rules.message.contract import ErrorCode, RequestError, echoable
from handler.rules.message.mistakes import shown

# The attribute that makes a message a control message; its value is the verb.
ATTRIBUTE = "relay_control"

Name = Annotated[str, StringConstraints(min_length=1, max_length=MAX_VALUE_BYTES)]


class Verb(StrEnum):
    """What can be asked."""

    CANCEL = "cancel"
    STATUS = "status"


class Meant(BaseModel):
    """Which requests: a whole batch, one request, or one request of a batch."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    batch_id: Name | None = Field(default=None, description="the messages' attribute `batch_id`")
    request_id: Name | None = Field(
        default=None,
        description="the message id that publishing returned, or the message's attribute `custom_id`; without "
        "`batch_id` the latter is looked for among messages that have none either",
    )

    @model_validator(mode="after")
    def _means_something(self) -> Self:
        if self.batch_id is None and self.request_id is None:
            raise ValueError("neither batch_id nor request_id is given")
        return self


class ControlMessage(BaseModel):
    """The data of a message with the attribute `relay_control`: one of `cancel` and `status`, as the attribute says."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    metadata: dict = Field(default_factory=dict, description="any JSON object; comes back with the response")  # type: ignore[type-arg]
    cancel: Meant | None = Field(default=None, description="what is not to be called for any more")
    status: Meant | None = Field(default=None, description="what is asked about")

    @model_validator(mode="after")
    def _asks_one_thing(self) -> Self:
        if (self.cancel is None) == (self.status is None):
            raise ValueError("one of cancel and status is wanted")
        return self

    @property
    def verb(self) -> Verb:
        """What is asked."""
        return Verb.STATUS if self.cancel is None else Verb.CANCEL

    @property
    def meant(self) -> Meant:
        """Of which requests."""
        return self.cancel or self.status or Meant()


def is_control(attributes: Mapping[str, str]) -> bool:
    """Whether a message is for the relay itself."""
    return ATTRIBUTE in attributes


def parse_control(data: bytes, attributes: Mapping[str, str]) -> ControlMessage:
    """Read a control message. Raises RequestError and nothing else, whatever the bytes."""
    document = _document(data)
    metadata = echoable(document.get("metadata") if isinstance(document, dict) else None, len(data))
    try:
        message = ControlMessage.model_validate(document)
    except ValidationError as problems:
        problem = problems.errors(include_url=False)[0]
        param = shown(".".join(map(str, problem["loc"])))
        what = f"`{param}`: {problem['msg']}" if param else problem["msg"].removeprefix("Value error, ")
        raise _refused(f"The control message cannot be read: {what}.", metadata, param or None) from None
    if attributes[ATTRIBUTE] != message.verb:
        said = f"The attribute `{ATTRIBUTE}` and the data differ: both say `cancel`, or both say `status`."
        raise _refused(said, metadata, ATTRIBUTE)
    return message


def _document(data: bytes) -> Any:
    try:
        return strictjson.loads(data)
    except strictjson.JsonError as problem:
        said = f"The control message's data is not JSON: {problem}. Write {_EXAMPLE}."
        raise RequestError(ErrorCode.INVALID_JSON, said) from None


_EXAMPLE = '{"cancel": {"batch_id": "..."}}, {"cancel": {"request_id": "..."}}, or the same with "status"'


def _refused(said: str, metadata: Any, param: str | None) -> RequestError:
    return RequestError(ErrorCode.INVALID_REQUEST, f"{said} Write {_EXAMPLE}.", param=param, metadata=metadata)

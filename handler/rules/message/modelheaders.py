"""Attributes of a request that the model service gets as headers. Pure."""

import re
from collections.abc import Mapping, Sequence

from handler.rules.message.contract import ErrorCode, InferenceRequest, RequestError
from handler.rules.message.options import Priority

_SAFE = re.compile(r"[!-~](?:[ -~]{0,1022}[!-~])?")


def model_headers(
    pairs: Sequence[tuple[str, str]], request: InferenceRequest, attributes: Mapping[str, str], priority: Priority
) -> Mapping[str, str]:
    """The headers, of pairs of attribute and header name. Raises RequestError for a value that no header can have.

    `priority` and `deadline` are what counts for the request where the message has no such attributes.
    """
    if not pairs:
        return {}
    deadline = request.options.deadline
    known = {"priority": priority.value, "deadline": deadline.isoformat() if deadline else "", **attributes}
    found = {header: (attribute, known[attribute]) for attribute, header in pairs if known.get(attribute)}
    for attribute, value in found.values():
        if not _SAFE.fullmatch(value):
            raise RequestError(
                ErrorCode.INVALID_REQUEST,
                f"The attribute `{attribute}` goes to the model service as a header, and may only have printable "
                "characters of ASCII, with no blank at either end.",
                param=f"attributes.{attribute}",
                metadata=request.metadata,
            )
    return {header: value for header, (_, value) in found.items()}

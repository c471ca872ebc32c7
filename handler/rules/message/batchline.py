"""Takes a line of an OpenAI batch file for what it plainly means. Pure.

Source: https://platform.openai.com/docs/guides/batch: `custom_id`, `method`, `url` and `body`.
"""

from collections.abc import Mapping
from typing import Any

from handler.rules.message.mistakes import Mistake, json_type

_OWN = ("custom_id", "method", "url")


def metadata(document: Mapping[str, Any]) -> Any:
    """The metadata of a request, of which a batch line's `custom_id` is a part; what is no object stays as it is."""
    given, custom_id = document.get("metadata"), document.get("custom_id")
    if custom_id is None or not isinstance(given, dict | None) or "custom_id" in (given or {}):
        return given
    return {"custom_id": custom_id, **(given or {})}


def as_request(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """The fields of a request; a batch line's `url` is its path. Raises Mistake."""
    if document.keys().isdisjoint(_OWN):
        return document
    _check(document)
    request = {name: value for name, value in document.items() if name not in _OWN}
    if document.get("url") is not None:
        request["path"] = document["url"]
    if document.get("custom_id") is not None:
        request["metadata"] = metadata(document)
    return request


def _check(document: Mapping[str, Any]) -> None:
    custom_id, method, url = map(document.get, _OWN)
    if not isinstance(custom_id, str | int | None) or isinstance(custom_id, bool):
        raise Mistake("custom_id", f"`custom_id` must be a string, not {json_type(custom_id)}.")
    given = document.get("metadata")
    if custom_id is not None and isinstance(given, dict) and given.get("custom_id", custom_id) != custom_id:
        raise Mistake("custom_id", "`custom_id` and `metadata.custom_id` differ: leave one out.")
    if method is not None and not (isinstance(method, str) and method.upper() == "POST"):
        raise Mistake("method", '`method` must be "POST", which is how the model is called, or left out.')
    if not isinstance(url, str | None):
        raise Mistake("url", f"`url` must be a string, not {json_type(url)}.")
    path = document.get("path")
    if url is not None and path is not None and str(path).removeprefix("/") != url.removeprefix("/"):
        raise Mistake("url", "`path` and `url` differ: `url` is another name for `path`, leave it out.")

"""Finds the error in a JSON body, in any of the shapes that model servers and what stands before them write. Pure.

Whose trouble it is stands in handler/rules/verdict/diagnosis.py.
"""

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any


class Shape(StrEnum):
    """The form of an error, which tells who wrote it."""

    API = "api"  # with an `error`, as the model's own API has it
    FLAT = "flat"  # JSON of another form: a framework's, a gateway's
    TEXT = "text"  # plain text, or nothing
    PAGE = "page"  # HTML: a proxy's


@dataclass(frozen=True, slots=True)
class Complaint:
    """An error as the model service worded it: of a long message its beginning and its end.

    `label` is its type and code; `status` the HTTP status that the error itself names, None if it names none.
    """

    message: str = ""
    label: str = ""
    status: int | None = None
    shape: Shape = Shape.API

    @property
    def words(self) -> str:
        """Its message, type and code, for matching; `^` and `$` in a pattern are the ends of a line of the message."""
        return f"{self.message}\n<{self.label}>"


# What a server says itself stands before or after what it quotes of the request, which may have megabytes: nothing else
# happens in the process while it is searched, and a prompt's words are not the server's.
_END_CHARACTERS = 1_500
_LABEL_CHARACTERS = 500


def complaint_in(value: Any, *, succeeded: bool) -> Complaint | None:
    """The error in a JSON body, if there is one.

    In a success only what cannot be part of an answer counts: `error: null` is an answer. Elsewhere any object does.
    """
    found = _found(value, succeeded=succeeded)
    return found and replace(found, message=_ends(found.message), label=found.label[:_LABEL_CHARACTERS])


def _ends(message: str) -> str:
    if len(message) <= 2 * _END_CHARACTERS:
        return message
    # The dots keep a line that is cut from looking like a whole one.
    return f"{message[:_END_CHARACTERS]}...\n...{message[-_END_CHARACTERS:]}"


def _found(value: Any, *, succeeded: bool) -> Complaint | None:
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict) and "error" in value[0]:
        value = value[0]  # Gemini
    if isinstance(value, str) and not succeeded:
        return Complaint(value, shape=Shape.FLAT)
    if not isinstance(value, dict):
        return None
    found = _typed(value) or _in_choices(value)
    if found is not None or (succeeded and not _has_no_answer(value)):
        return found
    return _flat(value, succeeded=succeeded)


def _typed(value: dict[str, Any]) -> Complaint | None:
    """`error` as an object or as text (OpenAI, TGI, Ollama); flat with `object: error` (vLLM, SGLang, FastChat)."""
    inner = value.get("error")
    if not inner and value.get("object") != "error":
        return None
    beside = _worded({key: one for key, one in value.items() if key != "error"}) or Complaint()
    if isinstance(inner, dict) and any(inner.values()):
        found = _worded(inner) or Complaint()
        return replace(found, status=found.status or beside.status)
    if isinstance(inner, str) and inner.strip():
        if beside.status is not None and beside.status != value.get("code"):  # Spring, NestJS: the status's own words
            return replace(beside, message=beside.message or inner, shape=Shape.FLAT)
        return replace(beside, message=f"{inner}\n{beside.message}")
    if inner is True or _http_status(inner) or value.get("object") == "error":
        return replace(beside, status=beside.status or _http_status(inner))
    return None


def _in_choices(value: dict[str, Any]) -> Complaint | None:
    """OpenRouter: each choice broke off with an error of its own."""
    choices = value.get("choices")
    if not isinstance(choices, list) or not choices:
        return None
    errors = [isinstance(one, dict) and isinstance(one.get("error"), dict) and one["error"] for one in choices]
    return _worded(errors[0]) if errors[0] and all(errors) else None


_ANSWERS = frozenset(
    "choices data output results text predictions outputs embeddings content response".split()  # noqa: SIM905
)


def _has_no_answer(value: dict[str, Any]) -> bool:
    return all(value.get(name) is None for name in _ANSWERS)


def _flat(value: dict[str, Any], *, succeeded: bool) -> Complaint | None:
    """What frameworks, gateways and some providers write: the words are at the top, or in a member of another name."""
    found = next(filter(None, map(_inner, (value.get(name) for name in _NESTED))), None)
    if found is None:
        found = _worded(value)
        if succeeded and not (found and _says_that_it_failed(value, found)):
            return None
    return replace(found or Complaint(), shape=Shape.FLAT)


_NESTED = ("errors", "detail", "base_resp")  # Cloudflare; FastAPI and KoboldCpp; MiniMax, which has it in successes too


def _inner(value: Any) -> Complaint | None:
    first = value[0] if isinstance(value, list) and value else value
    return _worded(first) if isinstance(first, dict) and first.get("status_code") != 0 else None


def _says_that_it_failed(value: dict[str, Any], found: Complaint) -> bool:
    """Whether what has no answer in it is an error, and not an answer of a shape that is not known here."""
    if not found.message:
        return False
    failed = value.get("success") is False or value.get("status") in ("error", "failed") or value.get("error_code")
    coded = isinstance(value.get("code"), str) and value["code"].lower() not in ("", "0", "200", "ok", "success")
    only_words = value.keys() == {"detail"} or (coded and value.keys() <= {*_MESSAGES, *_LABELS, "request_id"})
    return bool(failed or only_words or found.status is not None)


_MESSAGES = ("message", "msg", "detail", "error_msg", "errorMessage", "status_msg", "title", "reason")
_LABELS = ("type", "code", "status", "error_code", "error_type")
_STATUSES = ("code", "status", "status_code", "statusCode")


def _worded(value: dict[str, Any]) -> Complaint | None:
    """The words of one error; None where it has none, which is how serialisers write "no error"."""
    texts = [text for name in _MESSAGES if isinstance(text := value.get(name), str) and text.strip()]
    labels = [str(label) for name in _LABELS if isinstance(label := value.get(name), str | int) and label]
    if not texts and not labels:
        return None
    status = next((found for name in _STATUSES if (found := _http_status(value.get(name)))), None)
    return Complaint("\n".join(texts), " ".join(labels), status)


def _http_status(value: Any) -> int | None:
    text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    return int(text) if re.fullmatch(r"[45]\d\d", text) else None

"""Responses that no message can hold: written to the bucket, with a reference in their place."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from handler.admission import Refused
from handler.config.settings import Settings
from handler.greenlets import DeadlineCut, DeadlinePassed, Deadlines
from handler.rules.message.content import unwrap_content
from handler.rules.message.contract import Answer
from handler.rules.message.reference import Reference, Stored
from handler.rules.verdict.outcome import Reason
from handler.rules.verdict.reply import ModelReply, Overflow, is_storable
from handler.storage import Objects, StorageFailed, TooLarge

PREFIX = "responses/"
MB = 1 << 20


class ResponseObjects:
    """Writes responses to the bucket, each under its message's key, and so in the same place if it is made again."""

    def __init__(self, bucket: str, settings: Settings, objects: Objects) -> None:
        self._bucket = bucket
        self._limit = settings.max_response_mb * MB
        self._objects = objects
        self._deadlines = Deadlines()

    def overflow(self, key: str) -> Overflow:
        """Takes the reply to this message while it comes; to be called within the call's deadline."""
        return partial(self._stream, key)

    def _stream(self, key: str, head: ModelReply, parts: Iterator[bytes]) -> Stored | None:
        return self._written(key, head.content_type, parts) if is_storable(head) else None

    def stored(self, key: str, answer: Answer, seconds: float) -> Answer | None:
        """The answer that refers to an answer's content, written within `seconds`.

        None where there is too much of it, or where it is an error. Raises StorageFailed, and Refused after `abort`.
        """
        if not 200 <= answer.status_code < 300:
            return None
        content = unwrap_content(answer.body) if answer.wraps else answer.body
        try:
            with self._deadlines.within(seconds):
                stored = self._written(key, answer.wraps or "application/json", iter((content,)))
        except DeadlineCut:
            raise Refused(Reason.DRAINING, "cut off") from None
        except DeadlinePassed:
            raise StorageFailed("not in time") from None
        return replace(answer, body=stored.to_json(), wraps="", is_reference=True) if stored else None

    def abort(self) -> None:
        """End every write of an answer that is there already, and all that are still to begin."""
        self._deadlines.cut()

    def _written(self, key: str, content_type: str, parts: Iterator[bytes]) -> Stored | None:
        reference = Reference(self._bucket, f"{PREFIX}{key}")
        try:
            return self._objects.write(reference, content_type or "application/octet-stream", parts, self._limit)
        except TooLarge:
            return None

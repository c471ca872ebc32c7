"""The claim check: what the relay asks of Cloud Storage, whether or not there is any."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial

from handler.admission import Refused
from handler.config.settings import Settings
from handler.greenlets import DeadlineCut, DeadlinePassed, Deadlines
from handler.rules.message.content import unwrap_content
from handler.rules.message.contract import Answer, InferenceRequest
from handler.rules.message.reference import Reference, Stored
from handler.rules.verdict.outcome import Reason
from handler.rules.verdict.reply import ModelReply, Overflow, is_storable
from handler.storage import NoSuchObject, Objects, StorageFailed, TooLarge
from handler.storage.requests import Fetched, RequestObjects

PREFIX = "responses/"
CHECKED = "inference-relay-check"  # an object that is looked for and written to see whether that may be
CHECK_SECONDS = 60.0


class ClaimCheck:
    """Fetches what requests refer to, and stores what no message can hold. Thread-safe."""

    def __init__(self, settings: Settings, objects: Objects | None = None) -> None:
        """Without `objects` nothing is read and nothing stored."""
        self._objects = objects
        self._requests = RequestObjects(settings, objects)
        self._bucket = settings.response_bucket if objects else None
        self._limit = settings.max_response_mb << 20
        self._writing = Deadlines()

    def fetched(self, request: InferenceRequest, seconds: float) -> AbstractContextManager[Fetched]:
        """The request with what it refers to, during a `with` block.

        Raises RequestError and StorageFailed, and Refused where there is no room for it within `seconds`, or no time
        left. What is streamed while the model is called raises the first two there.
        """
        reference = request.find_reference()
        if reference is None:
            return nullcontext(Fetched(request))
        return self._requests.fetched(request, reference, seconds)

    def overflow(self, name: str) -> Overflow | None:
        """What stores a model's reply that no message can hold, under this name; None if there is no bucket.

        To be called while the reply comes, within the call's deadline. It raises StorageFailed.
        """
        return partial(self._stream, name) if self._bucket else None

    def _stream(self, name: str, head: ModelReply, parts: Iterator[bytes]) -> Stored | None:
        return self._written(name, head.content_type, parts) if is_storable(head) else None

    def stored(self, name: str, answer: Answer, seconds: float) -> Answer | None:
        """The answer that refers to an answer's content, written under this name within `seconds`.

        None where there is no bucket, or too much of it, or where it is an error. Raises StorageFailed, and Refused
        after `abort`.
        """
        if not (self._bucket and 200 <= answer.status_code < 300):
            return None
        content = unwrap_content(answer.body) if answer.wraps else answer.body
        try:
            with self._writing.within(seconds):
                stored = self._written(name, answer.wraps or "application/json", iter((content,)))
        except DeadlineCut:
            raise Refused(Reason.DRAINING, "cut off") from None
        except DeadlinePassed:
            raise StorageFailed("not in time") from None
        return replace(answer, body=stored.to_json(), wraps="", is_reference=True) if stored else None

    def _written(self, name: str, content_type: str, parts: Iterator[bytes]) -> Stored | None:
        """Where it is now; None where there is too much of it."""
        if self._objects is None or self._bucket is None:
            return None
        reference = Reference(self._bucket, f"{PREFIX}{name}")
        try:
            return self._objects.write(reference, content_type or "application/octet-stream", parts, self._limit)
        except TooLarge:
            return None

    def cannot_read(self, bucket: str) -> str:
        """Why requests cannot refer to objects in a bucket; "" where they can."""
        try:
            if self._objects:
                self._objects.find(Reference(bucket, CHECKED))
        except NoSuchObject:
            return ""
        except StorageFailed as error:
            return str(error)
        return ""

    def cannot_write(self) -> str:
        """Why no response can be stored; "" where one can: it is stored twice, since that takes another right."""
        try:
            for _ in range(2):
                self.stored(CHECKED, Answer(200, b"{}"), CHECK_SECONDS)
        except StorageFailed as error:
            return str(error)
        return ""

    def drain(self) -> None:
        """Fetch nothing any more: no model is called for it."""
        self._requests.drain()

    def abort(self) -> None:
        """Store nothing any more: the process is about to end."""
        self._writing.cut()

    def close(self) -> None:
        """Disconnect."""
        if self._objects:
            self._objects.close()


def claim_check(settings: Settings) -> ClaimCheck:
    """As the settings want it. Google's library is not loaded unless there is a bucket."""
    if not (settings.request_buckets or settings.response_bucket):
        return ClaimCheck(settings)
    from handler.storage.objects import CloudStorage

    return ClaimCheck(settings, CloudStorage(settings.routing.slots))

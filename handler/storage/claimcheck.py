"""The claim check: what the relay asks of Cloud Storage, whether or not there is any."""

from contextlib import AbstractContextManager, nullcontext

from handler.config.settings import Settings
from handler.rules.message.contract import Answer, InferenceRequest
from handler.rules.message.reference import Reference
from handler.rules.verdict.reply import Overflow
from handler.storage import NoSuchObject, Objects, StorageFailed
from handler.storage.requests import Fetched, RequestObjects
from handler.storage.responses import ResponseObjects

CHECKED = "inference-relay-check"  # an object that is looked for and written to see whether that may be
CHECK_SECONDS = 60.0


class ClaimCheck:
    """Fetches what requests refer to, and stores what no message can hold. Thread-safe."""

    def __init__(self, settings: Settings, objects: Objects | None = None) -> None:
        """Without `objects` nothing is read and nothing stored."""
        self._objects = objects
        self._requests = RequestObjects(settings, objects)
        self._responses = None
        if objects and settings.response_bucket:
            self._responses = ResponseObjects(settings.response_bucket, settings, objects)

    def fetched(self, request: InferenceRequest, seconds: float) -> AbstractContextManager[Fetched]:
        """The request with what it refers to, during a `with` block.

        Raises RequestError and StorageFailed, and Refused where there is no room for it within `seconds`, or no time
        left. What is streamed while the model is called raises the first two there.
        """
        reference = request.reference
        if reference is None:
            return nullcontext(Fetched(request))
        return self._requests.fetched(request, reference, seconds)

    def overflow(self, key: str) -> Overflow | None:
        """What takes a model's reply to the message of this key that no message can hold; None if there is no bucket.

        It raises StorageFailed.
        """
        return self._responses.overflow(key) if self._responses else None

    def stored(self, key: str, answer: Answer, seconds: float) -> Answer | None:
        """The answer that refers to an answer's content, written within `seconds`; None where it is not stored.

        Raises StorageFailed, and Refused after `abort`.
        """
        return self._responses.stored(key, answer, seconds) if self._responses else None

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
        if self._responses:
            self._responses.abort()

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

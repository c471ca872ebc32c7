"""What a request refers to: looked up once, checked, and then read as that one generation."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from handler.admission import Refused
from handler.admission.turns import in_turn
from handler.config.settings import Settings
from handler.greenlets import DeadlineCut, DeadlinePassed, Deadlines
from handler.rules import strictjson
from handler.rules.message.contract import ErrorCode, InferenceRequest, RequestError
from handler.rules.message.reference import FILE_FIELD, Reference
from handler.rules.message.streamed import File
from handler.rules.verdict.outcome import PAST_DEADLINE, Reason
from handler.storage import Found, NoSuchObject, Objects, StorageFailed
from handler.storage.semaphore import ByteSemaphore

MB = 1 << 20
FIND_SECONDS = 60.0
LOAD_SECONDS = 120.0
LEAST_SECONDS = 5.0  # with less than this Cloud Storage is not asked, or it would be said to have failed


@dataclass(frozen=True, slots=True)
class Fetched:
    """A request with the body that it referred to, or with the file that is to be sent in a form."""

    request: InferenceRequest
    file: File | None = None


class RequestObjects:
    """Makes of a request that refers to an object one that can be sent to the model."""

    def __init__(self, settings: Settings, objects: Objects | None) -> None:
        self._deadlines = Deadlines()
        # A push that has just come has twice as much at the least.
        self._least_seconds = min(LEAST_SECONDS, settings.model_timeout_seconds / 2)
        self._buckets = settings.request_buckets
        self._max_file = settings.max_file_mb * MB
        self._max_body = settings.max_body_ref_mb * MB
        self._objects = objects
        self._memory = ByteSemaphore(settings.max_waiting_mb * MB)

    @contextmanager
    def fetched(self, request: InferenceRequest, reference: Reference, seconds: float) -> Iterator[Fetched]:
        """The request with what it refers to; a body is held during the `with` block.

        Raises RequestError, StorageFailed, and Refused where there is no room within `seconds`, or too little time.
        """
        until = time.monotonic() + seconds
        file = self._found(request, reference, min(_left(until, request, self._least_seconds), FIND_SECONDS))
        if request.is_form:
            yield Fetched(request, file)
            return
        with self._memory.taken(file.size, until - time.monotonic()):
            yield self._loaded(file, min(_left(until, request, self._least_seconds), LOAD_SECONDS))

    def drain(self) -> None:
        """Break off what is being fetched and send away who waits for room, for good."""
        self._deadlines.cut()
        self._memory.drain()

    def _found(self, request: InferenceRequest, reference: Reference, seconds: float) -> "_File":
        if self._objects is None or reference.bucket not in self._buckets:
            allowed = f"Use one of: {', '.join(self._buckets)}." if self._buckets else "It reads none."
            message = f"The service does not read the bucket {reference.bucket}. {allowed}"
            raise _refused(ErrorCode.REFERENCE_NOT_ALLOWED, message, request)
        with self._in_time(seconds), _there(reference, request):
            found = self._objects.find(reference)
        self._check(found, self._max_file if request.is_form else self._max_body, request)
        return _File(self._objects, found, request)

    def _check(self, found: Found, limit: int, request: InferenceRequest) -> None:
        if found.size > limit:
            message = f"{found.reference} has {found.size:,} bytes; the service takes {limit:,}."
            raise _refused(ErrorCode.REFERENCE_TOO_LARGE, message, request)
        problem = "is empty" if not found.size else "is compressed (Content-Encoding): store it as it is"
        if found.content_encoding not in ("", "identity") or not found.size:
            raise _refused(ErrorCode.INVALID_REFERENCE, f"{found.reference} {problem}.", request)

    def _loaded(self, file: "_File", seconds: float) -> Fetched:
        request, reference = file.request, file.found.reference
        with self._in_time(seconds):
            content = b"".join(file)
        try:
            document = in_turn(len(content), strictjson.loads, content)
        except strictjson.JsonError as problem:
            raise _refused(ErrorCode.INVALID_JSON, f"{reference} cannot be read as JSON: {problem}.", request) from None
        if not isinstance(document, dict):
            message = f"{reference} must hold a JSON object, what the model's HTTP API takes."
            raise _refused(ErrorCode.INVALID_REQUEST, message, request)
        return Fetched(request.model_copy(update={"body": document, "body_ref": None}))

    @contextmanager
    def _in_time(self, seconds: float) -> Iterator[None]:
        try:
            with self._deadlines.within(seconds):
                yield
        except DeadlineCut:
            raise Refused(Reason.DRAINING, "cut off") from None
        except DeadlinePassed:
            raise StorageFailed("not in time") from None


class _File:
    """The bytes of an object that a request refers to, read anew each time that they are asked for."""

    def __init__(self, objects: Objects, found: Found, request: InferenceRequest) -> None:
        self._objects, self.found, self.size = objects, found, found.size
        self.name, self.content_type = found.reference.name, found.content_type
        # Of a request whose file is sent later nothing is held but what an error says.
        self.request = request.model_copy(update={"body": {}, "metadata": {}}) if request.is_form else request

    def __iter__(self) -> Iterator[bytes]:
        with _there(self.found.reference, self.request):
            yield from self._objects.read(self.found)


def _left(until: float, request: InferenceRequest, least: float) -> float:
    """Seconds until then: more than `least`.

    Raises Refused where there are fewer, and RequestError where the request's own deadline has passed as well.
    """
    seconds, deadline = until - time.monotonic(), request.options.deadline
    if seconds > least:
        return seconds
    if deadline is not None and deadline <= datetime.now(UTC):
        code, param = ErrorCode.DEADLINE_EXCEEDED, "options.deadline"
        raise RequestError(code, PAST_DEADLINE, param=param, metadata=request.metadata)
    raise Refused(Reason.OVERDUE, "too little time is left to fetch what it refers to")


def _refused(code: ErrorCode, message: str, request: InferenceRequest) -> RequestError:
    param = f"body.{FILE_FIELD}" if request.is_form else "body_ref"
    return RequestError(code, message, param=param, metadata=request.metadata)


@contextmanager
def _there(reference: Reference, request: InferenceRequest) -> Iterator[None]:
    try:
        yield
    except NoSuchObject:
        message = f"There is no {reference}. Was it deleted, written anew or not written yet?"
        raise _refused(ErrorCode.REFERENCE_NOT_FOUND, message, request) from None

"""What a request refers to: looked up once, checked, and then read as that one generation."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from handler import strictjson
from handler.admission.turns import in_turn
from handler.config.settings import Settings
from handler.delivery import Inference, with_body
from handler.greenlets import Deadline, DeadlinePassed
from handler.model.multipart import Multipart
from handler.rules.contract import ErrorCode
from handler.rules.reference import FILE_FIELD, Reference
from handler.storage import Found, NoSuchObject, Objects, StorageFailed, Unusable
from handler.storage.room import Room

MB = 1 << 20
FIND_SECONDS = 60.0
LOAD_SECONDS = 120.0


class RequestObjects:
    """Makes of a request that refers to an object one that can be sent to the model."""

    def __init__(self, settings: Settings, objects: Objects | None) -> None:
        self._buckets = settings.request_buckets
        self._max_file = settings.max_file_mb * MB
        self._max_body = settings.max_body_ref_mb * MB
        self._objects = objects
        self._room = Room(settings.max_waiting_mb * MB)

    @contextmanager
    def fetched(self, inference: Inference, reference: Reference, seconds: float) -> Iterator[Inference]:
        """The request with the file that it refers to, or with its body, which is held during the `with` block.

        Raises Unusable, StorageFailed, and Refused where there is no room within `seconds`.
        """
        until = time.monotonic() + seconds
        found = self._found(inference, reference, min(seconds, FIND_SECONDS))
        if inference.is_form:
            yield replace(inference, body=self._form(inference, found))
            return
        with self._room.taken(found.size, until - time.monotonic()):
            yield self._loaded(inference, found, min(until - time.monotonic(), LOAD_SECONDS))

    def _found(self, inference: Inference, reference: Reference, seconds: float) -> Found:
        param = _param(inference)
        if self._objects is None or reference.bucket not in self._buckets:
            allowed = f"Use one of: {', '.join(self._buckets)}." if self._buckets else "It reads none."
            message = f"The service does not read the bucket {reference.bucket}. {allowed}"
            raise Unusable(ErrorCode.REFERENCE_NOT_ALLOWED, message, param=param)
        with _in_time(seconds), _there(reference, param):
            found = self._objects.find(reference)
        self._check(found, self._max_file if inference.is_form else self._max_body, param)
        return found

    def _check(self, found: Found, limit: int, param: str) -> None:
        if found.size > limit:
            message = f"{found.reference} has {found.size:,} bytes; the service takes {limit:,}."
            raise Unusable(ErrorCode.REFERENCE_TOO_LARGE, message, param=param)
        problem = "is empty" if not found.size else "is compressed (Content-Encoding): store it as it is"
        if found.content_encoding not in ("", "identity") or not found.size:
            raise Unusable(ErrorCode.INVALID_REFERENCE, f"{found.reference} {problem}.", param=param)

    def _form(self, inference: Inference, found: Found) -> Multipart:
        assert isinstance(inference.body, bytes)  # noqa: S101
        fields = strictjson.loads(inference.body)
        pieces = _Pieces(self._objects, found, _param(inference))
        return Multipart(fields, FILE_FIELD, found.reference.name, found.content_type, found.size, pieces)

    def _loaded(self, inference: Inference, found: Found, seconds: float) -> Inference:
        with _in_time(seconds):
            content = b"".join(_Pieces(self._objects, found, _param(inference)))
        try:
            document = in_turn(len(content), strictjson.loads, content)
        except strictjson.JsonError as problem:
            message = f"{found.reference} cannot be read as JSON: {problem}."
            raise Unusable(ErrorCode.INVALID_JSON, message, param="body_ref") from None
        if not isinstance(document, dict):
            message = f"{found.reference} must hold a JSON object, what the model's HTTP API takes."
            raise Unusable(ErrorCode.INVALID_REQUEST, message, param="body_ref")
        del content
        return in_turn(found.size, with_body, inference, document)


class _Pieces:
    """The bytes of an object, anew each time that they are asked for."""

    def __init__(self, objects: Objects | None, found: Found, param: str) -> None:
        self._objects, self._found, self._param = objects, found, param

    def __iter__(self) -> Iterator[bytes]:
        with _there(self._found.reference, self._param):
            yield from self._objects.read(self._found) if self._objects else ()


def _param(inference: Inference) -> str:
    return f"body.{FILE_FIELD}" if inference.is_form else "body_ref"


@contextmanager
def _there(reference: Reference, param: str) -> Iterator[None]:
    try:
        yield
    except NoSuchObject:
        message = f"There is no {reference}. Was it deleted, written anew or not written yet?"
        raise Unusable(ErrorCode.REFERENCE_NOT_FOUND, message, param=param) from None


@contextmanager
def _in_time(seconds: float) -> Iterator[None]:
    try:
        with Deadline(seconds):
            yield
    except DeadlinePassed:
        raise StorageFailed("not in time") from None

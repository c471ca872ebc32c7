"""Objects in Cloud Storage, read and written in pieces: the only module of the service that knows Google's library.

It speaks HTTP by requests, so that waiting sets a greenlet aside. Each piece has its own bound in time and is tried
again on brief trouble; whoever calls sets the one deadline for the whole.
"""

import hashlib
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import google.auth.exceptions
from google.api_core import exceptions
from google.cloud import storage
from google.cloud.storage.retry import DEFAULT_RETRY
from requests.adapters import HTTPAdapter

from handler.frames import empty, let_go
from handler.rules.message.reference import Reference, Stored
from handler.storage import Found, NoSuchObject, StorageFailed, TooLarge

# What is held of an object while it passes through. Google wants multiples of 256 KiB where a piece is written.
READ_BYTES = 2 << 20
WRITE_BYTES = 4 << 20
TIMEOUT_SECONDS = (5.0, 20.0)  # to connect; for the next byte
RETRY_SECONDS = 30.0  # for one piece, all tries together


class CloudStorage:
    """Reads and writes objects. Thread-safe; connects when it is first wanted, in the process that wants it."""

    def __init__(self, connections: int) -> None:
        self._connections = connections
        self._lock = threading.Lock()
        self._client: Any = None

    def find(self, reference: Reference) -> Found:
        """Look an object up, and pin its generation. Raises NoSuchObject and StorageFailed."""
        with _told():
            blob = self._blob(reference)
            blob.reload(timeout=TIMEOUT_SECONDS, retry=_retry())
        return Found(
            replace(reference, generation=int(blob.generation)),
            int(blob.size),
            blob.content_type or "",
            blob.content_encoding or "",
        )

    def read(self, found: Found) -> Iterator[bytes]:
        """The bytes of an object's one generation, as they lie there. Raises NoSuchObject and StorageFailed."""
        with _told():
            blob = self._blob(found.reference)
        for start in range(0, found.size, READ_BYTES):
            end = min(start + READ_BYTES, found.size)
            yield self._piece(blob, start, end)

    def _piece(self, blob: Any, start: int, end: int) -> bytes:
        with _told():
            piece: bytes = blob.download_as_bytes(
                start=start,
                end=end - 1,
                raw_download=True,
                checksum=None,  # there are none of pieces
                timeout=TIMEOUT_SECONDS,
                retry=_retry(),
            )
        if len(piece) != end - start:
            raise StorageFailed("an object had another size than it said")
        return piece

    def write(self, reference: Reference, content_type: str, parts: Iterator[bytes], limit: int) -> Stored:
        """Write an object of unknown size, in the place of one that has its name; nothing of it where that fails.

        Raises TooLarge beyond `limit` bytes, StorageFailed, and whatever `parts` raises.
        """
        source = _Source(parts, limit)
        try:
            try:
                with _told():
                    blob = self._blob(reference)
                    blob.upload_from_file(source, content_type=content_type, timeout=TIMEOUT_SECONDS, retry=_retry())
            except NoSuchObject:
                raise StorageFailed("there is no such bucket: see RESPONSE_BUCKET") from None
            except StorageFailed:
                if source.error is None:
                    raise
            if source.error is not None:
                raise source.error  # not in the `except`: it would hold what holds it
            return Stored(str(reference), source.tell(), content_type, source.sha256.hexdigest())
        finally:
            del source

    def close(self) -> None:
        """Disconnect."""
        if self._client is not None:
            self._client.close()

    def _blob(self, reference: Reference) -> Any:
        bucket = self._connected().bucket(reference.bucket)
        return bucket.blob(reference.name, chunk_size=WRITE_BYTES, generation=reference.generation)

    def _connected(self) -> Any:
        with self._lock:
            if self._client is None:
                # The library would ask for the bucket itself beside the first object, for its traces: another right.
                os.environ.setdefault("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
                client = storage.Client(project=None)
                client._http.mount("https://", HTTPAdapter(pool_maxsize=self._connections))
                client._http.mount("http://", HTTPAdapter(pool_maxsize=self._connections))
                self._client = client
            return self._client


class _Source:
    """A stream of unknown length, as Google's library reads one. `error` is what went wrong in it, if anything did."""

    def __init__(self, parts: Iterator[bytes], limit: int) -> None:
        self._parts = parts
        self._limit = limit
        self._buffer = bytearray()
        self._position = 0
        self.sha256 = hashlib.sha256()
        self.error: Exception | None = None

    def tell(self) -> int:
        """How many bytes were read."""
        return self._position

    def read(self, size: int) -> bytes:
        """The next bytes: fewer than `size` only at the end."""
        try:
            self._fill(size)
        except Exception as error:
            self.error = error
            raise
        piece = bytes(memoryview(self._buffer)[:size])
        del self._buffer[:size]
        self._position += len(piece)
        self.sha256.update(piece)
        return piece

    def _fill(self, size: int) -> None:
        while len(self._buffer) < size and (part := next(self._parts, None)) is not None:
            self._buffer += part
            if self._position + len(self._buffer) > self._limit:
                raise TooLarge


def _retry() -> Any:
    return partial(DEFAULT_RETRY.with_timeout(RETRY_SECONDS), on_error=let_go)


@contextmanager
def _told() -> Iterator[None]:
    """Every way that Cloud Storage can fail, in one of two words."""
    try:
        yield
    except exceptions.NotFound as error:
        empty(error)
        if "bucket does not exist" in str(error):
            raise StorageFailed("there is no such bucket: see REQUEST_BUCKETS and RESPONSE_BUCKET") from None
        raise NoSuchObject from None
    except Exception as error:  # noqa: BLE001 - whatever it is, nothing was read or written
        empty(error)
        raise StorageFailed(_cause(error)) from None


# What an operator can do about it. Google's own text names the object, which is the requester's: it is not passed on.
_HINTS: Mapping[type[Exception], str] = {
    exceptions.Forbidden: "the service account needs roles/storage.objectViewer on each of REQUEST_BUCKETS, and "
    "roles/storage.objectUser on RESPONSE_BUCKET",
    exceptions.Unauthorized: "the service has no valid credentials",
    google.auth.exceptions.DefaultCredentialsError: "there are no application default credentials",
}


def _cause(error: Exception) -> str:
    """The error's kind and a hint, never its text."""
    cause = getattr(error, "cause", None) if isinstance(error, exceptions.RetryError) else None
    cause = cause or error
    hint = next((hint for kind, hint in _HINTS.items() if isinstance(cause, kind)), "")
    return f"{type(cause).__name__}: {hint}" if hint else type(cause).__name__

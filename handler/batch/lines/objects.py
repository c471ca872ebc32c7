"""Objects in Cloud Storage, by their gs:// names: the only module of the batch client that knows Google's library."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from google.api_core.exceptions import GoogleAPIError
from google.auth.exceptions import GoogleAuthError

from handler.batch.errors import CannotRun

_SCHEME = "gs://"


def is_object(name: str) -> bool:
    """Whether the name is an object's."""
    return name.startswith(_SCHEME)


@contextmanager
def opened(name: str, mode: str) -> Iterator[IO[bytes]]:
    """An object to read ("rb") or to write ("wb"), in pieces. Raises CannotRun."""
    with _told(name), _blob(name).open(mode) as stream:
        yield stream


def content(name: str) -> bytes:
    """All the bytes of an object, as they lie there. Raises CannotRun."""
    if not is_object(name):
        raise CannotRun(f"{name} is not in Cloud Storage")
    with _told(name):
        whole: bytes = _blob(name).download_as_bytes(raw_download=True)
    return whole


@contextmanager
def _told(name: str) -> Iterator[None]:
    """What Cloud Storage refuses is a sentence."""
    try:
        yield
    except (GoogleAPIError, GoogleAuthError) as error:
        raise CannotRun(f"{name}: {getattr(error, 'message', error)}") from None


def _blob(name: str) -> Any:
    try:
        from google.cloud import storage
    except ImportError:
        raise CannotRun("gs:// needs: pip install 'inference-relay[gs]'") from None
    try:
        return storage.Blob.from_uri(name, client=storage.Client(project=None))
    except ValueError:
        raise CannotRun(f"{name} is no object's name: write gs://BUCKET/NAME") from None

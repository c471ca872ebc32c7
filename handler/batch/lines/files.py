"""Request files wherever they are: a path, `-`, a gs:// name; gzip, Zstandard; read line by line in bounded memory."""

import gzip
import hashlib
import os
import shutil
import sys
import zlib
from codecs import BOM_UTF8
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from handler.batch.errors import CannotRun
from handler.batch.lines import objects

# A request of 10 MB, and whatever escapes a careful JSON writer adds to it. What is longer is skipped, never held.
MAX_LINE_BYTES = 64 << 20


def is_standard(name: str) -> bool:
    """Whether the name means standard input or output."""
    return name == "-"


@contextmanager
def opened(name: str) -> Iterator[IO[bytes]]:
    """The decompressed bytes of a request file. Raises CannotRun where there is none."""
    try:
        with _raw(name) as raw, _decompressed(name, raw) as stream:
            yield stream
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise CannotRun(f"{name}: {error.strerror or error}") from None
    except _damages(name) as error:
        raise CannotRun(f"{name} is damaged: {error}") from None


@contextmanager
def _raw(name: str) -> Iterator[IO[bytes]]:
    if is_standard(name):
        yield sys.stdin.buffer
    elif objects.is_object(name):
        with objects.opened(name, "rb") as stream:
            yield stream
    else:
        with Path(name).open("rb") as stream:
            yield stream


def _decompressed(name: str, raw: IO[bytes]) -> Any:
    if name.endswith(".gz"):
        return gzip.open(raw)
    if name.endswith(".zst"):
        return _zstd().open(raw)
    return _Borrowed(raw)


class _Borrowed:
    """A stream that somebody else closes."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def __enter__(self) -> IO[bytes]:
        return self._stream

    def __exit__(self, *_: object) -> None:
        """Leave it open."""


def _zstd() -> Any:
    try:
        if sys.version_info >= (3, 14):
            from compression import zstd
        else:
            from backports import zstd
    except ImportError:
        raise CannotRun(".zst files need: pip install 'inference-relay[batch]'") from None
    return zstd


def _damages(name: str) -> tuple[type[Exception], ...]:
    return (gzip.BadGzipFile, EOFError, zlib.error, *((_zstd().ZstdError,) if name.endswith(".zst") else ()))


def lines(stream: IO[bytes]) -> Iterator[tuple[int, bytes | None]]:
    """Each line that is not blank, with its number from 1; None for one that is too long to be a request."""
    number = 0
    while text := stream.readline(MAX_LINE_BYTES):
        number += 1
        if len(text) == MAX_LINE_BYTES and not text.endswith(b"\n"):
            _skip_rest(stream)
            yield number, None
            continue
        text = text.removeprefix(BOM_UTF8) if number == 1 else text
        if text.strip():
            yield number, text


def _skip_rest(stream: IO[bytes]) -> None:
    while (part := stream.readline(MAX_LINE_BYTES)) and not part.endswith(b"\n"):
        pass


def fingerprint(name: str) -> str:
    """SHA-256 of a file as it lies there, compressed or not."""
    try:
        with _raw(name) as raw:
            digest = hashlib.sha256()
            while part := raw.read(1 << 20):
                digest.update(part)
    except OSError as error:
        raise CannotRun(f"{name}: {error.strerror or error}") from None
    return digest.hexdigest()


@contextmanager
def unchanged(name: str) -> Iterator[None]:
    """See that a local file is not written to meanwhile. Raises CannotRun."""
    before = _stamp(name)
    yield
    if _stamp(name) != before:
        raise CannotRun(f"{name} was changed while it was read. Nothing was sent: run it again when it is whole")


def _stamp(name: str) -> object:
    """What differs once a local file was written to; what is elsewhere is there as a whole."""
    if is_standard(name) or objects.is_object(name):
        return None
    try:
        found = Path(name).stat()
    except OSError as error:
        raise CannotRun(f"{name}: {error.strerror or error}") from None
    return found.st_ino, found.st_size, found.st_mtime_ns


def spool(target: Path) -> None:
    """Copy standard input to a file, so that it can be read twice and a killed run can go on."""
    part = target.with_name(target.name + ".part")
    with part.open("wb") as copy:
        shutil.copyfileobj(sys.stdin.buffer, copy)
        copy.flush()
        os.fsync(copy.fileno())
    part.replace(target)


def deliver(source: Path, name: str) -> None:
    """Put a finished file where it is wanted: compressed, in Cloud Storage, or on standard output."""
    with source.open("rb") as plain:
        if is_standard(name):
            shutil.copyfileobj(plain, sys.stdout.buffer)
            sys.stdout.buffer.flush()
        elif objects.is_object(name):
            with objects.opened(name, "wb") as remote:
                _compress(name, plain, remote)
        else:
            part = Path(name + ".part")
            with part.open("wb") as local:
                _compress(name, plain, local)
                local.flush()
                os.fsync(local.fileno())
            part.replace(name)


def _compress(name: str, plain: IO[bytes], target: Any) -> None:
    if name.endswith(".gz"):
        with gzip.open(target, "wb") as packed:
            shutil.copyfileobj(plain, packed)
    elif name.endswith(".zst"):
        with _zstd().open(target, "wb") as packed:
            shutil.copyfileobj(plain, packed)
    else:
        shutil.copyfileobj(plain, target)

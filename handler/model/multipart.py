"""A form with a file in it (multipart/form-data, RFC 7578), which is read while it is sent and never held."""

import mimetypes
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from urllib3.fields import RequestField
from urllib3.filepost import choose_boundary, encode_multipart_formdata

from handler.rules import strictjson
from handler.rules.message.reference import FILE_FIELD
from handler.rules.message.streamed import File

# What a form may have besides its file: as many bytes as a message, and more fields than anybody fills in. Each item of
# a list has the list's name anew, and costs about a kilobyte while the form is made.
MAX_FIELDS_BYTES = 10_000_000
MAX_FIELDS = 10_000
_ESCAPED = str.maketrans({'"': "%22", "\n": "%0A", "\r": "%0D"})  # as urllib3 writes them in a name


class FormError(ValueError):
    """Fields that become no form. The message says why, and quotes nothing."""


class Multipart:
    """The body of a request, as requests takes one: its length is known, and it can be sent again."""

    def __init__(
        self, fields: Mapping[str, Any], file: str, path: str, content_type: str, size: int, content: Iterable[bytes]
    ) -> None:
        """`fields` are JSON; `file` is the field that holds the file, whose own name is the last part of `path`.

        `content` has `size` bytes, each time that it is iterated over. Raises FormError.
        """
        name = path.rstrip("/").rpartition("/")[2]
        content_type = content_type or mimetypes.guess_type(name)[0] or "application/octet-stream"
        boundary = choose_boundary()
        # urllib3 writes the whole of a form whose file is empty; the file goes where it ends.
        parts = [RequestField.from_tuples(key, text) for key, text in form_fields(fields)]
        parts.append(RequestField.from_tuples(file, (name, b"", content_type)))
        whole, self.content_type = encode_multipart_formdata(parts, boundary)
        self._tail = f"\r\n--{boundary}--\r\n".encode()
        self._head = whole.removesuffix(self._tail)
        self.held = len(self._head)
        self._size, self._content = size, content

    def __len__(self) -> int:
        return len(self._head) + self._size + len(self._tail)

    def __iter__(self) -> Iterator[bytes]:
        yield self._head
        yield from self._content
        yield self._tail


def form(fields: Mapping[str, Any], file: File) -> Multipart:
    """The form of a file and of fields that are JSON. Raises FormError."""
    return Multipart(fields, FILE_FIELD, file.name, file.content_type, file.size, file)


def form_fields(fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """JSON as the fields of a form, in the way of OpenAI's clients: `name[]` for lists, `name[key]` for objects.

    Raises FormError where they are too many or too large, counting what is empty, or where UTF-8 has no such text.
    """
    used = 0
    for number, (name, value) in enumerate(_values(fields.items()), 1):
        text = "" if value is None else value if isinstance(value, str) else strictjson.dumps(value).decode()
        used += _size(name.translate(_ESCAPED)) + _size(text)
        if number > MAX_FIELDS or used > MAX_FIELDS_BYTES:
            raise FormError("The form has more than 10,000 fields, or they come to more than 10 MB.")
        if value is not None:
            yield name, text


def _values(named: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """What is in lists and objects, one at a time; for the list or object itself, before that, None."""
    for name, value in named:
        if isinstance(value, dict):
            yield name, None
            yield from _values((f"{name}[{key}]", one) for key, one in value.items())
        elif isinstance(value, list):
            yield name, None
            inner = name if name.endswith("[]") else f"{name}[]"
            yield from _values((inner, one) for one in value)
        else:
            yield name, value


def _size(text: str) -> int:
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        raise FormError("A field of the form has half of a surrogate pair (\\ud800): UTF-8 has no such text.") from None

"""A form with a file in it (multipart/form-data, RFC 7578), which is read while it is sent and never held."""

import mimetypes
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from urllib3.fields import RequestField
from urllib3.filepost import choose_boundary, encode_multipart_formdata

from handler.rules import strictjson
from handler.rules.message.reference import FILE_FIELD
from handler.rules.message.streamed import File


class Multipart:
    """The body of a request, as requests takes one: its length is known, and it can be sent again."""

    def __init__(
        self, fields: Mapping[str, Any], file: str, path: str, content_type: str, size: int, content: Iterable[bytes]
    ) -> None:
        """`fields` are JSON; `file` is the field that holds the file, whose own name is the last part of `path`.

        `content` has `size` bytes, each time that it is iterated over.
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
        self._size, self._content = size, content

    def __len__(self) -> int:
        return len(self._head) + self._size + len(self._tail)

    def __iter__(self) -> Iterator[bytes]:
        yield self._head
        yield from self._content
        yield self._tail


def form(fields: bytes, file: File) -> Multipart:
    """The form of a file and of fields that are JSON."""
    return Multipart(strictjson.loads(fields), FILE_FIELD, file.name, file.content_type, file.size, file)


def form_fields(fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """JSON as the fields of a form, in the way of OpenAI's clients: `name[]` for lists, `name[key]` for objects."""
    for name, value in fields.items():
        if isinstance(value, dict):
            yield from form_fields({f"{name}[{key}]": one for key, one in value.items()})
        elif isinstance(value, list):
            for one in value:
                yield from form_fields({name if name.endswith("[]") else f"{name}[]": one})
        elif value is not None:
            yield name, value if isinstance(value, str) else strictjson.dumps(value).decode()

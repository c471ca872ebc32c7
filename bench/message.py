"""Pushes as Pub/Sub sends them, in bytes. All of one size differ in their numbers only, so that making one is quick."""

import base64
from collections.abc import Sequence
from datetime import UTC, datetime

_FIRST_ID = 10**12  # of the message ids, which so have the same length
_REQUEST = '{"path": "/v1/completions", "metadata": {"id": "%(index)09d"}, "body": {"user": "%(index)09d", '
_REQUEST += '"model": "m", "max_tokens": 16, "prompt": "'
_LINE = "The sea is a place of beauty, and whoever has seen it once will want to see it again.\\n"
_HEAD = (
    "POST / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    "User-Agent: CloudPubSub-Google\r\nAccept: application/json\r\nContent-Length: {length}\r\n"
    "Accept-Encoding: gzip, deflate, br\r\n\r\n"
)


def message_id(index: int) -> str:
    """The id of the message with this index."""
    return str(_FIRST_ID + index)


def index_of(key: str) -> int:
    """The index of the message with this id; -1 if it is none of the bench's."""
    return int(key) - _FIRST_ID if key.isdigit() and len(key) == len(str(_FIRST_ID)) else -1


def data(index: int, prompt_bytes: int) -> bytes:
    """A message's data: a request with a prompt of about `prompt_bytes`."""
    return (_REQUEST % {"index": index} + _prompt(prompt_bytes)).encode()


def _prompt(size: int) -> str:
    """A prompt, and the end of the request around it."""
    return f'{_LINE * (size // len(_LINE) + 1)}"}}}}'


class Mold:
    """Makes the pushes of one run, to a server on `port`, with prompts of about `prompt_bytes`."""

    def __init__(self, port: int, prompt_bytes: int) -> None:
        self._pad = "x" * (-len(_REQUEST % {"index": 0}) % 3)  # base64 in two pieces needs a multiple of three
        self._rest = base64.b64encode(_prompt(prompt_bytes).encode())
        self._begin, self._end = self._envelope()
        self._head = _HEAD.format(port=port, length=sum(map(len, self._body(0)))).encode()

    def push(self, index: int) -> Sequence[bytes]:
        """The whole HTTP request, in parts; the same for the same index."""
        return self._head, *self._body(index)

    def _body(self, index: int) -> Sequence[bytes]:
        request = base64.b64encode((_REQUEST % {"index": index} + self._pad).encode())
        key = b"%d" % (_FIRST_ID + index)
        return self._begin % (key, key), request, self._rest, self._end

    def _envelope(self) -> tuple[bytes, bytes]:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        begin = f'{{"deliveryAttempt":1,"message":{{"attributes":{{"tenant":"bench"}},"publishTime":"{now}",'
        begin += f'"publish_time":"{now}","messageId":"%d","message_id":"%d","data":"'.replace("%d", "%b")
        return begin.encode(), b'"},"subscription":"projects/bench/subscriptions/push"}'

"""The stand-in for the model service: so many slots, and a time for each request that is the same in every run."""

import argparse
import asyncio
import json
import math
import random
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import httptools

from bench import message, standin

SIGMA = 0.5  # of the logarithm: one request in a hundred takes three times as long as most
# Keys whose value names the message: in a request's body, and in a push, should one come here directly.
_KEYS = (b'"user"', b'"messageId"')
_LONGEST = 32  # of the key's value, with colon, blank and quotes


def service_times(count: int, mean: float, sigma: float = SIGMA, seed: int = 1) -> Sequence[float]:
    """The seconds that each message's request takes, by the message's index: lognormal; always `mean` with sigma 0."""
    draw = random.Random(seed)
    mu = math.log(mean) - sigma**2 / 2
    return [draw.lognormvariate(mu, sigma) for _ in range(count)]


def index_of(body: bytes) -> int:
    """The index of the message that a request's body belongs to; -1 if it has none. Reads no JSON: bodies are large."""
    for key in _KEYS:
        if (at := body.find(key)) >= 0:
            value = body[at + len(key) : at + len(key) + _LONGEST].split(b'"')[1]
            return message.index_of(value.decode()) if len(value) > len(b"%09d" % 0) else int(value)
    return -1


@dataclass(frozen=True, slots=True)
class _Request:
    """A request that has arrived as a whole, at `arrived` on the monotonic clock."""

    connection: "_Connection"
    index: int
    arrived: float


class Slots:
    """The model: takes as many requests at once as it has slots, the others first come, first served."""

    def __init__(self, count: int, times: Sequence[float]) -> None:
        self.free = count
        self.calls: list[tuple[int, float, float, float]] = []  # index; arrived, in a slot, done: monotonic clock
        self._times = times
        self._waiting: deque[_Request] = deque()
        self._later = asyncio.get_running_loop().call_later

    def take(self, request: _Request) -> None:
        """Begin with the request, or let it wait for a slot."""
        if self.free:
            self.free -= 1
            self._begin(request)
        else:
            self._waiting.append(request)

    def _begin(self, request: _Request) -> None:
        seconds = self._times[request.index] if 0 <= request.index < len(self._times) else 0.0
        self._later(seconds, self._end, request, time.monotonic())

    def _end(self, request: _Request, begun: float) -> None:
        request.connection.answer()
        self.calls.append((request.index, request.arrived, begun, time.monotonic()))
        if self._waiting:
            self._begin(self._waiting.popleft())
        else:
            self.free += 1


class _Connection(asyncio.Protocol):
    """One connection of the service: requests one after the other. httptools calls the on_ methods."""

    def __init__(self, slots: Slots, response: bytes) -> None:
        self._slots = slots
        self._response = response
        self._parser = httptools.HttpRequestParser(self)
        self._body: list[bytes] = []
        self._keep = True

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.close()

    def on_body(self, part: bytes) -> None:
        self._body.append(part)

    def on_message_complete(self) -> None:
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body = []
        self._keep = self._parser.should_keep_alive()  # which only now is known
        if self._parser.get_method() == b"POST":
            self._slots.take(_Request(self, index_of(body), time.monotonic()))
        else:
            self.answer()

    def answer(self) -> None:
        """Send the response. A connection that was closed meanwhile does not get any."""
        self._transport.write(self._response)
        if not self._keep:
            self._transport.close()


def response(status: int = 200) -> bytes:
    """A response in the size and form of a short completion, or one without content."""
    if status == 204:
        return b"HTTP/1.1 204 No Content\r\n\r\n"
    choice = {"index": 0, "text": " a place of beauty, and of danger.", "logprobs": None, "finish_reason": "length"}
    usage = {"prompt_tokens": 212, "completion_tokens": 16, "total_tokens": 228}
    document = {"id": "cmpl-0123456789abcdef0123456789abcdef", "object": "text_completion", "created": 1767225600}
    body = json.dumps(document | {"model": "m", "choices": [choice], "usage": usage}).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


async def _serve(slots: int, times: Sequence[float], status: int) -> None:
    model = Slots(slots, times)
    connect = partial(_Connection, model, response(status))
    server = await asyncio.get_running_loop().create_server(connect, "127.0.0.1", 0, backlog=4096)
    standin.say({"port": server.sockets[0].getsockname()[1]})
    await standin.told()
    standin.say({"calls": model.calls})


def main() -> None:
    """Serve until the standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slots", type=int, required=True, help="requests worked on at once")
    parser.add_argument("--messages", type=int, required=True, help="with a service time; later ones take none")
    parser.add_argument("--mean", type=float, required=True, help="seconds of service, on average")
    parser.add_argument("--sigma", type=float, default=SIGMA, help="spread of it, of the logarithm (%(default)s)")
    parser.add_argument("--status", type=int, choices=[200, 204], default=200, help="204 answers as the relay would")
    given = parser.parse_args()
    times = service_times(given.messages, given.mean, given.sigma)
    standin.run(partial(_serve, given.slots, times, given.status))


if __name__ == "__main__":
    main()

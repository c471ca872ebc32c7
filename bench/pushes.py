"""The stand-in for Pub/Sub's side of pushing: keeps a number of pushes in flight until every message is answered."""

import argparse
import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

import httptools

from bench import standin
from bench.message import Mold

AGAIN_SECONDS = 0.1  # after which a push that got anything but a 204 is repeated
STALL_SECONDS = 60.0  # without a single 204: something is stuck


class Pushes:
    """All messages of a run, and what became of them. Times are on the monotonic clock."""

    def __init__(self, port: int, mold: Mold, messages: int) -> None:
        self.port, self.mold, self.messages = port, mold, messages
        self.sent: list[float] = []  # by index: the first time that the message was sent
        self.answered: list[float | None] = [None] * messages
        self.statuses: Counter[str] = Counter()  # of what was not a 204
        self.over = asyncio.Event()
        self._left = messages
        self._progress = time.monotonic()

    def next(self) -> int | None:
        """The index of the next message, if there is one."""
        if len(self.sent) == self.messages:
            return None
        self.sent.append(time.monotonic())
        return len(self.sent) - 1

    def answer(self, index: int) -> None:
        """Note a 204."""
        self.answered[index] = self._progress = time.monotonic()
        self._left -= 1
        if not self._left:
            self.over.set()

    async def wait(self) -> None:
        """Until every message is answered, or none has been for a long time."""
        while not self.over.is_set() and time.monotonic() < self._progress + STALL_SECONDS:
            try:
                await asyncio.wait_for(self.over.wait(), 1)
            except TimeoutError:
                continue


class Lane:
    """One push in flight, over one connection for as long as that lasts."""

    def __init__(self, pushes: Pushes) -> None:
        self._pushes = pushes
        self._loop = asyncio.get_running_loop()
        self._connection: _Connection | None = None
        self._index = -1  # of its message

    def start(self) -> None:
        """Push the next message, if there is one."""
        index = self._pushes.next()
        if index is not None:
            self._index = index
            self._push()

    def _push(self) -> None:
        if self._connection is None:
            self._connecting = self._loop.create_task(self._connect())
        else:
            self._connection.send(self._pushes.mold.push(self._index))

    async def _connect(self) -> None:
        try:
            _, self._connection = await self._loop.create_connection(
                lambda: _Connection(self), "127.0.0.1", self._pushes.port
            )
        except OSError as error:
            self._again(type(error).__name__)
        else:
            self._push()

    def finish(self, status: int, keep: bool) -> None:
        """Take the status of the push, and whether the connection goes on."""
        if not keep:
            self._connection = None
        if status == 204:
            self._pushes.answer(self._index)
            self.start()
        else:
            self._again(str(status))

    def lose(self, connection: "_Connection") -> None:
        """The peer has closed the connection, be it in the middle of a push or not."""
        if connection is self._connection:
            self._connection = None
            if connection.waiting:
                self._again("broken")

    def _again(self, why: str) -> None:
        self._pushes.statuses[why] += 1
        self._loop.call_later(AGAIN_SECONDS, self._push)


class _Connection(asyncio.Protocol):
    """One connection of a lane. httptools calls on_message_complete."""

    def __init__(self, lane: Lane) -> None:
        self.waiting = False  # for the response to a push
        self._lane = lane
        self._parser = httptools.HttpResponseParser(self)
        self._complete = self._keep = False  # of the response: whether it is there, and the connection goes on

    def send(self, push: Sequence[bytes]) -> None:
        """Send a push, and expect its response."""
        self.waiting, self._complete = True, False
        self._transport.writelines(push)

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def connection_lost(self, _error: Exception | None) -> None:
        self._lane.lose(self)

    def on_message_complete(self) -> None:
        self._complete, self._keep = True, self._parser.should_keep_alive()  # which only now is known

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.close()
            return
        if self._complete and self.waiting:
            self._finish()

    def _finish(self) -> None:
        self.waiting = False
        if not self._keep:
            self._transport.close()
        self._lane.finish(self._parser.get_status_code(), self._keep)


async def _push(port: int, in_flight: int, messages: int, prompt_bytes: int) -> None:
    mold = Mold(port, prompt_bytes)
    standin.say({"ready": True})
    if not await standin.told():
        return
    pushes = Pushes(port, mold, messages)
    for lane in [Lane(pushes) for _ in range(in_flight)]:
        lane.start()
    bench, over = asyncio.create_task(standin.told()), asyncio.create_task(pushes.wait())
    await asyncio.wait((bench, over), return_when=asyncio.FIRST_COMPLETED)
    if bench.done():  # it is gone
        return
    standin.say({"over": True})
    await bench
    standin.say({"sent": pushes.sent, "answered": pushes.answered, "statuses": pushes.statuses})


def main() -> None:
    """Push when a line comes in, say when it is over, and what was seen when the standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="where to push to, on this machine")
    parser.add_argument("--in-flight", type=int, required=True, help="pushes at once")
    parser.add_argument("--messages", type=int, required=True, help="how many to push")
    parser.add_argument("--prompt-bytes", type=int, required=True, help="length of each request's prompt")
    given = parser.parse_args()
    standin.run(partial(_push, given.port, given.in_flight, given.messages, given.prompt_bytes))


if __name__ == "__main__":
    main()

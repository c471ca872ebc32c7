"""A model service that misbehaves on command, and remembers every call that it got."""

import asyncio
import json
import random
import re
import time
from collections import Counter, defaultdict
from dataclasses import dataclass

from aiohttp import web

HANG_SECONDS = 600.0

OK = "ok"  # answered whole
ABANDONED = "abandoned"  # whoever called went away before the answer: an instance died, or gave up
INJECTED = frozenset({"overloaded", "limited", "reset", "hung", "cut"})  # failures that were asked for


@dataclass(frozen=True, slots=True)
class Manners:
    """How the model behaves: how long it takes, and which share of its calls fail in which way."""

    seconds: tuple[float, float] = (0.05, 0.3)
    overloaded: float = 0.0  # 503
    limited: float = 0.0  # 429
    reset: float = 0.0  # in the middle of the body
    hung: float = 0.0  # never answered

    def chosen(self, chance):
        """What becomes of one call."""
        left = chance.random()
        for outcome in ("overloaded", "limited", "reset", "hung"):
            left -= getattr(self, outcome)
            if left < 0:
                return outcome
        return OK


@dataclass(slots=True, eq=False)
class Call:
    """One call: for which request, when, and what became of it."""

    key: str
    began: float
    ended: float = 0.0
    outcome: str = ABANDONED


class Model:
    """Serves on one port; what happens to the nth call for a request depends on the seed alone."""

    def __init__(self, loop, seed, manners):
        self._loop, self._seed, self.manners = loop, seed, manners
        self.calls: list[Call] = []
        self._numbers = Counter()
        self._open: dict[Call, web.Request] = {}
        self._port = 0
        self._stopping = False

    @property
    def url(self):
        """Its MODEL_URL."""
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self):
        self._loop.run(self._start())
        return self

    def __exit__(self, *_):
        self._loop.run(self._stop())

    def stop(self):
        """Go away: everything that is being answered is cut off, and connecting is refused."""
        self._loop.run(self._stop())

    def start(self):
        """Come back, on the same port."""
        self._loop.run(self._start())

    def most_calls_within(self, seconds):
        """The most calls that one request cost within so many seconds."""
        times = defaultdict(list)
        for call in self.calls:
            times[call.key].append(call.began)
        return max((_most_within(began, seconds) for began in times.values()), default=0)

    async def _start(self):
        app = web.Application()
        app.router.add_post("/v1/completions", self._answer)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True, backlog=1024).start()
        self._port = self._runner.addresses[0][1]

    async def _stop(self):
        self._stopping = True
        for call, request in list(self._open.items()):
            call.outcome = "cut"
            if request.transport is not None:
                request.transport.abort()
        await self._runner.cleanup()
        self._stopping = False

    async def _answer(self, request):
        body = await request.json()
        call = Call(re.search(r"\[(.+?)\]", body["prompt"])[1], time.time())
        self._numbers[call.key] += 1
        self.calls.append(call)
        self._open[call] = request
        try:
            return await self._behave(request, call)
        finally:
            call.ended = time.time()
            if self._stopping and call.outcome == ABANDONED:
                call.outcome = "cut"
            del self._open[call]

    async def _behave(self, request, call):
        chance = random.Random(f"{self._seed} {call.key} {self._numbers[call.key]}")
        outcome = self.manners.chosen(chance)
        if outcome == "hung":
            call.outcome = outcome
            await asyncio.sleep(HANG_SECONDS)
        if outcome in ("overloaded", "limited"):
            call.outcome = outcome
            return web.json_response({"error": {"message": outcome}}, status=503 if outcome == "overloaded" else 429)
        await asyncio.sleep(chance.uniform(*self.manners.seconds))
        if outcome == "reset":
            call.outcome = outcome
            return await _break_off(request)
        return await _say(request, call)


async def _break_off(request):
    response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b'{"choices": [')
    request.transport.abort()
    return response


async def _say(request, call):
    body = json.dumps({"choices": [{"text": f"the answer to [{call.key}]"}]}).encode()
    response = web.Response(body=body, content_type="application/json")
    await response.prepare(request)
    await response.write_eof()
    if call.outcome == ABANDONED and request.transport is not None and not request.transport.is_closing():
        call.outcome = OK
    return response


def _most_within(began, seconds):
    began = sorted(began)
    return max(sum(first <= one < first + seconds for one in began) for first in began)

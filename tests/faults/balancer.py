"""The push endpoint: gives each push to the next instance in turn, and may deliver copies of its own."""

import asyncio
import json
import random
import time
from base64 import b64decode
from collections import Counter
from dataclasses import dataclass

import aiohttp
from aiohttp import web


@dataclass(frozen=True, slots=True)
class Copies:
    """Which share of the pushes is delivered again, how often, and how much later at most."""

    share: float = 0.0
    count: int = 1
    seconds: float = 0.0


@dataclass(slots=True)
class Push:
    """One push that an instance got: of which request, when, and how it ended."""

    key: str
    began: float
    ended: float = 0.0
    instance: int = 0
    status: int = 0


class Balancer:
    """Takes pushes and passes each to an instance, as a platform would; it survives instances going away.

    A connection that is refused costs nothing: the next instance gets the push. One that breaks is a nack.
    """

    def __init__(self, loop, seed, copies):
        self._loop, self._seed, self.copies = loop, seed, copies
        self.instances = []
        self.pushes: list[Push] = []
        self.killed_with: list[tuple[str, float]] = []  # requests that were in an instance at its SIGKILL, and when
        self._numbers = Counter()
        self._turn = 0
        self._busy: set[asyncio.Task] = set()

    @property
    def idle(self):
        """Whether no instance works on anything."""
        return not self._busy

    def __enter__(self):
        self._loop.run(self._start())
        return self

    def __exit__(self, *_):
        self._loop.run(self._stop())

    async def _start(self):
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=None)
        )
        app = web.Application(client_max_size=20 << 20)
        app.router.add_post("/", self._take)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, backlog=1024).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/"

    async def _stop(self):
        for task in self._busy:
            task.cancel()
        await asyncio.gather(*self._busy, return_exceptions=True)
        await self._session.close()
        await self._runner.cleanup()

    async def _take(self, request):
        body = await request.read()
        key = _key(body)
        self._numbers[key] += 1
        chance = random.Random(f"{self._seed} copies {key} {self._numbers[key]}")
        if chance.random() < self.copies.share:
            for _ in range(self.copies.count):
                self._begin(self._copy(chance.uniform(0, self.copies.seconds), key, body))
        # Pub/Sub may hang up; the instance is not told, as behind a real platform's front end.
        return web.Response(status=await asyncio.shield(self._begin(self._pass_on(key, body))))

    def _begin(self, work):
        task = asyncio.create_task(work)
        self._busy.add(task)
        task.add_done_callback(self._busy.discard)
        return task

    async def _copy(self, seconds, key, body):
        await asyncio.sleep(seconds)
        return await self._pass_on(key, body)

    async def _pass_on(self, key, body):
        push = Push(key, time.time())
        self.pushes.append(push)
        push.status = await self._try_each(push, body)
        push.ended = time.time()
        return push.status

    async def _try_each(self, push, body):
        for _ in self.instances:
            self._turn += 1
            push.instance = self._turn % len(self.instances)
            life = self.instances[push.instance].life
            try:
                return await self._send(life, body)
            except aiohttp.ClientConnectorError:
                continue
            except (aiohttp.ClientError, OSError):
                if life.killed is not None:
                    self.killed_with.append((push.key, life.killed))
                return 502
        return 503

    async def _send(self, life, body):
        headers = {"Content-Type": "application/json"}
        async with self._session.post(life.url, data=body, headers=headers, allow_redirects=False) as response:
            await response.read()
            return response.status


def _key(body):
    return json.loads(b64decode(json.loads(body)["message"]["data"]))["metadata"]["id"]

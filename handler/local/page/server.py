"""The page over HTTP, on 127.0.0.1: its files, its events, its buttons."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from aiohttp import web

from handler.local.page.controls import Controls
from handler.local.page.feed import Feed
from handler.local.page.guard import add_headers, guarded
from handler.local.page.orders import Refused

_STATIC = Path(__file__).with_name("static")
_VIEWERS = 32  # browsers that are told what happens, at once
_STREAM = {"Content-Type": "text/event-stream; charset=utf-8", "X-Accel-Buffering": "no"}


class PageServer:
    """Serves the page in the running event loop."""

    def __init__(self, feed: Feed, controls: Controls) -> None:
        self._feed, self._controls = feed, controls
        self._viewers = 0
        self._running: set[asyncio.Task[None]] = set()

    async def open(self, ports: Sequence[int]) -> int:
        """Listen on the first of `ports` that is free; returns it. OSError when none is."""
        app = web.Application(middlewares=[guarded], client_max_size=1 << 16)
        app.on_response_prepare.append(add_headers)
        app.add_routes(
            [
                web.get("/", self._page),
                web.get("/events", self._events),
                web.post("/requests", self._button(self._controls.publish)),
                web.post("/model", self._button(self._controls.change)),
                web.post("/service/kill", self._kill),
                web.static("/static", _STATIC),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        return await self._listen(ports)

    async def _listen(self, ports: Sequence[int]) -> int:
        for port in ports:
            with suppress(OSError):
                await web.TCPSite(self._runner, "127.0.0.1", port).start()
                return int(self._runner.addresses[0][1])
        raise OSError(f"cannot show the page: port {ports[-1]} is taken; choose another --page-port")

    async def close(self) -> None:
        """Let every browser go; a service that is being started is waited for, or nobody would end it."""
        if self._running:
            await asyncio.wait(self._running)
        await self._runner.cleanup()

    async def _page(self, _request: web.Request) -> web.FileResponse:
        return web.FileResponse(_STATIC / "index.html")

    async def _events(self, request: web.Request) -> web.StreamResponse:
        if self._viewers >= _VIEWERS:
            raise web.HTTPServiceUnavailable(text="too many browsers look at this page\n")
        self._viewers += 1
        try:
            response = web.StreamResponse(headers=_STREAM)
            await response.prepare(request)
            with suppress(ConnectionError):
                async for event in self._feed.events(request.headers.get("Last-Event-ID", "")):
                    await response.write(event)
            return response
        finally:
            self._viewers -= 1

    def _button(self, press: Callable[[Any], Awaitable[None]]) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def pressed(request: web.Request) -> web.Response:
            try:
                await press(await request.json())
            except Refused as refused:
                return web.Response(text=f"{refused}", status=400)
            except ValueError:
                return web.Response(text="JSON is expected", status=400)
            return web.Response(status=204)

        return pressed

    async def _kill(self, _request: web.Request) -> web.Response:
        """Begin it; what comes of it is told by events."""
        task = asyncio.create_task(self._killed())
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return web.Response(status=202)

    async def _killed(self) -> None:
        with suppress(Refused):
            await self._controls.kill()

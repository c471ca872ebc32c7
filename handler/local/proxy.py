"""A proxy in front of the model, which tells what the model is asked, and fails in its place on request."""

import asyncio
import itertools
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

import aiohttp
from aiohttp import web
from yarl import URL

from handler.local.loop import LoopThread
from handler.local.trouble import Cut, Mode, Trouble

_FAILURE = {"error": {"message": "failed, as asked", "type": "server_error", "param": None, "code": None}}
_SECONDS = 600
_LARGEST = 64 << 20
_OF_THE_CONNECTION = {"host", "connection", "keep-alive", "transfer-encoding", "content-length", "upgrade", "te"}
_NOT_ADDED = ["Accept", "Accept-Encoding", "Content-Type", "User-Agent"]


@dataclass(frozen=True, slots=True)
class CallBegan:
    """The model is asked; `call` is this call's number."""

    call: int
    body: bytes


@dataclass(frozen=True, slots=True)
class CallEnded:
    """What a call got: an HTTP status, or 0 where its connection just ended."""

    call: int
    status: int


Listener = Callable[[CallBegan | CallEnded], None]


class FaultProxy:
    """A proxy in a thread; `url` is its base URL, `model_url` the one behind it. `listener` is called in the thread.

    `trust` says whose certificates an https model may have, where they are not the public authorities'.
    """

    def __init__(
        self, model_url: str, listener: Listener = lambda _: None, trust: ssl.SSLContext | None = None
    ) -> None:
        self._target = model_url.rstrip("/")
        self._tell = listener
        self._trust = trust
        self._calls = itertools.count(1)
        self._trouble = Trouble()
        self._loop = LoopThread("fault-proxy")
        self._socket = _bound(0)
        self._port = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        self._loop.__enter__()
        self._loop.run(self._open())
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.run(self._close())
        self._loop.__exit__()

    def change(self, mode: Mode) -> None:
        """Let the model be like this from now on."""
        self._loop.run(self._change(mode))

    async def _open(self) -> None:
        self._changing = asyncio.Lock()
        timeout = aiohttp.ClientTimeout(total=_SECONDS)
        connector = aiohttp.TCPConnector(limit=0, ssl=self._trust or True)
        self._session = aiohttp.ClientSession(
            connector=connector, timeout=timeout, auto_decompress=False, skip_auto_headers=_NOT_ADDED
        )
        await self._come()

    async def _close(self) -> None:
        await self._runner.cleanup()
        self._socket.close()
        await self._session.close()

    async def _change(self, mode: Mode) -> None:
        async with self._changing:
            was_away = self._trouble.mode is Mode.AWAY
            self._trouble.change(mode)
            if was_away and mode is not Mode.AWAY:
                await self._come()
            elif mode is Mode.AWAY and not was_away:
                await self._leave()

    async def _come(self) -> None:
        app = web.Application(client_max_size=_LARGEST)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.05, handler_cancellation=True)
        await self._runner.setup()
        await web.SockSite(self._runner, self._socket).start()

    async def _leave(self) -> None:
        """Cut every call. The port stays ours; a connection to it is refused while nobody listens."""
        await self._runner.cleanup()
        self._socket = _bound(self._port)

    async def _answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        try:
            if request.method == "POST":
                return await self._called(request, body)
            return await self._passed_on(request, body)
        except Cut:
            if request.transport:
                request.transport.abort()
            return web.Response(status=502)  # which reaches nobody

    async def _called(self, request: web.Request, body: bytes) -> web.Response:
        call, status = next(self._calls), 0
        self._tell(CallBegan(call, body))
        try:
            response = await self._struck(request, body)
            status = response.status
            return response
        finally:
            self._tell(CallEnded(call, status))

    async def _struck(self, request: web.Request, body: bytes) -> web.Response:
        if status := await self._trouble.strike(body):
            return web.json_response(_FAILURE, status=status)
        return await self._passed_on(request, body)

    async def _passed_on(self, request: web.Request, body: bytes) -> web.Response:
        url, headers = URL(self._target + request.raw_path, encoded=True), _kept(request.headers)
        try:
            async with self._session.request(
                request.method, url, data=body or None, headers=headers, allow_redirects=False
            ) as reply:
                return web.Response(status=reply.status, headers=_kept(reply.headers), body=await reply.read())
        except (aiohttp.ClientError, OSError):
            raise Cut from None  # as the model would have: the connection just ends


def _kept(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in headers.items() if name.lower() not in _OF_THE_CONNECTION]


def _bound(port: int) -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(("127.0.0.1", port))
    return made

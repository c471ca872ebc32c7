"""One port for two protocols: gRPC, which is HTTP/2, goes to the gRPC server, HTTP/1.1 to the web application.

gRPC's server takes no connection that somebody else has accepted, so its bytes are handed on over a Unix socket.
"""

import asyncio
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import cast

_HTTP2 = b"PRI"  # how each HTTP/2 connection begins (RFC 9113 3.4); no method of HTTP/1.1 does


class Port:
    """Listens, and looks at the first bytes of each connection."""

    def __init__(self, http: Callable[[], asyncio.Protocol]) -> None:
        self._http = http
        self._folder = tempfile.mkdtemp(prefix="pubsub-")
        self.grpc_path = str(Path(self._folder) / "grpc")
        self._open: set[asyncio.Transport] = set()

    async def listen(self, host: str, port: int) -> int:
        """Take connections; returns the port. OSError when it is taken."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _First(self), host, port, backlog=1024)
        return int(self._server.sockets[0].getsockname()[1])

    def close(self) -> None:
        """Cut every connection, and take no more."""
        self._server.close()
        for transport in list(self._open):
            transport.abort()

    def forget(self) -> None:
        """Remove what is on the disk."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def opened(self, transport: asyncio.Transport) -> None:
        """Remember a connection, so that it can be cut."""
        self._open.add(transport)

    def closed(self, transport: asyncio.Transport) -> None:
        """Forget it."""
        self._open.discard(transport)

    def take_http(self, transport: asyncio.Transport, begun: bytes) -> None:
        """Let the web application have the connection."""
        self.closed(transport)
        protocol = self._http()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        protocol.data_received(begun)

    async def take_grpc(self, transport: asyncio.Transport, begun: bytes) -> None:
        """Hand everything on to the gRPC server, and back."""
        inner = _Pipe(self, transport)
        try:
            await asyncio.get_running_loop().create_unix_connection(lambda: inner, self.grpc_path)
        except OSError:
            transport.abort()
            return
        transport.set_protocol(_Pipe(self, inner.transport, transport))
        inner.transport.write(begun)
        transport.resume_reading()


class _First(asyncio.Protocol):
    """A connection of which nothing is known yet."""

    def __init__(self, port: Port) -> None:
        self._port, self._begun = port, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._port.opened(self._transport)

    def connection_lost(self, _error: Exception | None) -> None:
        self._port.closed(self._transport)

    def data_received(self, data: bytes) -> None:
        self._begun += data
        if not self._begun.startswith(_HTTP2[: len(self._begun)]):
            self._port.take_http(self._transport, self._begun)
        elif len(self._begun) >= len(_HTTP2):
            self._transport.pause_reading()
            self._task = asyncio.ensure_future(self._port.take_grpc(self._transport, self._begun))


class _Pipe(asyncio.Protocol):
    """One side of a connection that is handed on: what arrives goes to the other side, no faster than that takes it."""

    def __init__(self, port: Port, other: asyncio.Transport, transport: asyncio.Transport | None = None) -> None:
        self._port, self._other = port, other
        if transport is not None:
            self.transport = transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._port.opened(self.transport)

    def data_received(self, data: bytes) -> None:
        self._other.write(data)

    def pause_writing(self) -> None:
        self._other.pause_reading()

    def resume_writing(self) -> None:
        self._other.resume_reading()

    def connection_lost(self, _error: Exception | None) -> None:
        self._port.closed(self.transport)
        self._other.close()

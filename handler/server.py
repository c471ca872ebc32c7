"""gunicorn's worker for this service: an event loop, and a greenlet for each request.

gunicorn looks after the process and its settings; the connections are handler/connection.py's. Its own threaded worker
gives a thread to each request, and to each peer that is slow.
"""

import os
import resource
import signal
from collections.abc import Callable

from gunicorn.workers.base import Worker as BaseWorker

from handler import eventloop
from handler.connection import SWEEP_SECONDS, Bounds, Server

_BEAT_SECONDS = 1.0
_FLUSH_SECONDS = 0.1  # for the last responses to leave


class Worker(BaseWorker):  # type: ignore[misc]
    """Serves the WSGI application in this process' event loop.

    gunicorn.conf.py may set `bounds`, and `on_stop`, which is called when the process is told to end.
    """

    bounds: Bounds
    on_stop: Callable[[], None] = staticmethod(lambda: None)

    def init_process(self) -> None:
        """Start serving, in the worker process."""
        self._loop = eventloop.own()
        _allow_files()
        super().init_process()

    def init_signals(self) -> None:
        """Have signals come to the loop: the application is not interrupted half-way."""
        for number in self.SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        # The loop hears nothing before it runs; what comes while the application is loaded is not to be lost.
        signal.signal(signal.SIGTERM, self.handle_exit)

    def _hear_signals(self) -> None:
        loop = self._loop.asyncio
        loop.add_signal_handler(signal.SIGTERM, self._drain)
        for number in (signal.SIGINT, signal.SIGQUIT):
            loop.add_signal_handler(number, self._loop.stop)
        loop.add_signal_handler(signal.SIGUSR1, self.log.reopen_files)
        if not self.alive:
            self._drain()

    def run(self) -> None:
        """Serve until told to end."""
        loop = self._loop.asyncio
        self._server = Server(self.wsgi, self.bounds, self._loop, port=self.sockets[0].getsockname()[1])
        listening = loop.create_task(self._listen())
        listening.add_done_callback(lambda ended: ended.result())
        loop.call_soon(self._hear_signals)
        loop.call_soon(self._beat)
        loop.call_soon(self._sweep)
        self._loop.run()
        self._server.close()
        loop.call_later(_FLUSH_SECONDS, loop.stop)  # whoever else stops it now ends the wait, and nothing more
        loop.run_forever()

    async def _listen(self) -> None:
        for listener in self.sockets:
            # Listening again sets the backlog anew; one that overflows costs whoever connects a second.
            await self._loop.asyncio.create_server(
                self._server.connection, sock=listener.sock, backlog=self.cfg.backlog
            )

    def _beat(self) -> None:
        """Tell gunicorn that we live, and end when it does not."""
        self.notify()
        if os.getppid() != self.ppid:
            self._loop.stop()
        self._loop.asyncio.call_later(_BEAT_SECONDS, self._beat)

    def _sweep(self) -> None:
        self._server.sweep()
        self._loop.asyncio.call_later(SWEEP_SECONDS, self._sweep)

    def _drain(self) -> None:
        """Answer what is being worked on; new requests are still answered meanwhile, as the application likes."""
        self.alive = False
        self.on_stop()
        self._server.drain(self._loop.stop)
        self._loop.asyncio.call_later(self.cfg.graceful_timeout, self._loop.stop)


def _allow_files() -> None:
    """Let the process have as many connections as it may: a message in flight has two, and 1,024 is a usual limit."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

"""The event loop of this process: everything that waits for the network waits here, in one thread.

A thread for each message would cost more than the message: at a thousand in flight the interpreter's lock changes hands
several times a message, and each time it is fought over. So the messages are worked on in greenlets of the loop's own
thread: plain synchronous code, which is set aside while it waits, as `await` would do it, but without every function on
the way having to be a coroutine. Flask's handlers and requests' adapters are none.

The same code runs in any other thread too (another server, a test, the command line): there `wait` blocks the thread.

What is waited for is started, and reported, in the loop's thread. What only that thread touches needs no lock; and no
lock may be held while waiting, since whoever asks for it next may be in the same thread.
"""

import asyncio
import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, Generic, TypeVar

import greenlet
import uvloop

_RESTING_GREENLETS = 100  # kept for the next message
_BLOCKING_THREADS = 32  # for what can only block, for milliseconds: Redis
_SLOW_THREADS = 4  # for what may block for seconds: downloads

_log = logging.getLogger(__name__)

Value = TypeVar("Value")


class EventLoop:
    """An asyncio event loop, and greenlets in its thread that wait for what happens on it."""

    def __init__(self) -> None:
        self.asyncio = uvloop.new_event_loop()
        self._hub = greenlet.getcurrent()
        self._thread = 0
        self._resting: list[greenlet.greenlet] = []
        self._blocking = ThreadPoolExecutor(_BLOCKING_THREADS, "blocking")
        self._slow = ThreadPoolExecutor(_SLOW_THREADS, "slow")

    def run(self) -> None:
        """Run in this thread, until `stop`."""
        self._hub = greenlet.getcurrent()
        self._thread = threading.get_ident()
        asyncio.set_event_loop(self.asyncio)
        self.asyncio.run_forever()

    def stop(self) -> None:
        """Let `run` return. To be called in the loop's thread."""
        self.asyncio.stop()

    def spawn(self, work: Callable[[], None]) -> None:
        """Start `work` in a greenlet. To be called in the loop's thread, by what the loop calls."""
        resting = self._resting.pop() if self._resting else greenlet.greenlet(self._work, self._hub)
        resting.switch(work)

    def _work(self, work: Callable[[], None]) -> None:
        """Be a greenlet: do one work after the other. A new one for each would map and unmap a stack each time."""
        while True:
            _guarded(work)
            if len(self._resting) == _RESTING_GREENLETS:
                return
            self._resting.append(greenlet.getcurrent())
            work = self._hub.switch()

    def call(self, function: Callable[..., object], *args: Any) -> None:
        """Have the loop call a function soon. For any thread."""
        if threading.get_ident() == self._thread:
            self.asyncio.call_soon(function, *args)
        else:
            self.asyncio.call_soon_threadsafe(function, *args)

    def wait(self, begin: Callable[[Callable[[Value], None]], None]) -> Value:
        """Have `begin` called in the loop's thread with a function, wait until that is called, and return its argument.

        The function is to be called once, in the loop's thread. What `begin` raises is raised here.
        """
        waiting = greenlet.getcurrent()
        if waiting.parent is not self._hub:
            return self._block(begin)
        # Through the loop, and not at once: who reports may be a greenlet itself, which would never be gone on with.
        begin(partial(self._resume, waiting))
        value: Value = self._hub.switch()
        return value

    def _resume(self, waiting: greenlet.greenlet, value: object) -> None:
        self.asyncio.call_soon(waiting.switch, value)

    def _block(self, begin: Callable[[Callable[[Value], None]], None]) -> Value:
        if threading.get_ident() == self._thread:
            raise RuntimeError("what the loop calls must not wait: spawn a greenlet")
        future: Future[Value] = Future()
        self.asyncio.call_soon_threadsafe(_begin, begin, future)
        return future.result()

    def blocking(self, function: Callable[[], Value], *, slow: bool = False) -> Value:
        """Call what may block, or take a lock that is held while something blocks; a greenlet has a thread do it.

        What is `slow` shares a few threads with its like only.
        """
        if threading.get_ident() != self._thread:
            return function()

        def begin(done: Callable[[Future[Value]], None]) -> None:
            future = (self._slow if slow else self._blocking).submit(function)
            future.add_done_callback(lambda ended: self.call(done, ended))

        return self.wait(begin).result()


def _begin(begin: Callable[[Callable[[Value], None]], None], future: Future[Value]) -> None:
    try:
        begin(future.set_result)
    except Exception as error:  # noqa: BLE001 - it is raised in the thread that waits
        future.set_exception(error)


def _guarded(work: Callable[[], None]) -> None:
    """An exception would come out where the loop called, and end it."""
    try:
        work()
    except Exception:  # noqa: BLE001
        _log.exception("a bug: please report it with this traceback")


class Signal(Generic[Value]):
    """A value that comes once, or never. Any thread may set it; any thread and greenlet may wait for it."""

    def __init__(self) -> None:
        self._waiting: set[Callable[[Value | None], None]] = set()  # this and `_value` are the loop's thread's
        self._value: Value | None = None

    def set(self, value: Value) -> None:
        """Let everybody go on who waits, and who will."""
        get().call(self._set, value)

    def _set(self, value: Value) -> None:
        self._value = value
        for resume in tuple(self._waiting):
            resume(value)

    def wait(self, seconds: float) -> Value | None:
        """The value, as soon as it is there; None when the seconds have passed."""
        value: Value | None = get().wait(partial(self._begin, seconds))
        return value

    def _begin(self, seconds: float, done: Callable[[Value | None], None]) -> None:
        if self._value is not None or seconds <= 0:
            done(self._value)
            return

        def resume(value: Value | None) -> None:
            self._waiting.discard(resume)
            timer.cancel()
            done(value)

        timer = get().asyncio.call_later(seconds, resume, None)
        self._waiting.add(resume)


_current: EventLoop | None = None
_lock = threading.Lock()


def get() -> EventLoop:
    """The loop of this process. It runs in a thread of its own unless `own` was called first."""
    if _current is not None:
        return _current
    with _lock:
        return _current or _in_background()


def own() -> EventLoop:
    """Make the loop of this process, for the caller to run. To be called before anything waits."""
    global _current  # there is one per process
    _current = EventLoop()
    return _current


def _in_background() -> EventLoop:
    loop = own()
    started = threading.Event()
    loop.asyncio.call_soon(started.set)
    threading.Thread(target=loop.run, name="event-loop", daemon=True).start()
    started.wait()
    return loop


def _forget() -> None:
    """The loop's thread does not live on in a process that was forked."""
    global _current
    _current = None


os.register_at_fork(after_in_child=_forget)

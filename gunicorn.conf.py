"""How it runs in production: gunicorn -c gunicorn.conf.py 'functions_framework:create_app("handle","main.py")'.

One process, since room is counted per process; a thread for every message and some to spare, so that health checks and
refusals are answered while the model is busy. Scale with instances.
"""

import os
import signal
import sys
from types import FrameType
from typing import Any

from handler.config import Settings, SettingsError

try:
    _settings = Settings.from_environment(os.environ)
except SettingsError as error:
    sys.exit(str(error))

bind = f"0.0.0.0:{_settings.port}"
workers = 1
worker_class = "handler.server.Worker"  # gthread, without the ways for a few slow peers to stop it
threads = _settings.threads
worker_connections = 4 * threads  # accepted at once; below the threads, nothing would be accepted when all are busy
keepalive = 620  # above the 600 s for which Google's front ends keep connections: the side that forgets first resets
timeout = 0  # the model's time is bounded by the service itself
graceful_timeout = int(_settings.grace_seconds)
control_socket_disable = True
loglevel = "error"  # its warnings quote what strangers send


def post_worker_init(_worker: Any) -> None:
    """Let the service hear of SIGTERM: gunicorn has no hook for it, and stops only once all threads are idle."""
    from main import app

    stop = signal.getsignal(signal.SIGTERM)

    def drain_and_stop(number: int, frame: FrameType | None) -> None:
        app.drain(_settings.grace_seconds)
        if callable(stop):
            stop(number, frame)

    signal.signal(signal.SIGTERM, drain_and_stop)


def worker_exit(_server: Any, _worker: Any) -> None:
    """Leave nothing behind, if the service ever started."""
    if "main" in sys.modules and hasattr(sys.modules["main"], "app"):
        sys.modules["main"].app.close()

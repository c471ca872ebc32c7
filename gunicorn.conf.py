"""How it runs in production: gunicorn -c gunicorn.conf.py 'functions_framework:create_app("handle","main.py")'.

One process, since room is counted per process, with an event loop (handler/server.py). Scale with instances.
"""

import os
import sys
from functools import partial
from typing import Any

from handler.config import MAX_PUSH_BYTES, Settings, SettingsError
from handler.connection import Bounds

try:
    _settings = Settings.from_environment(os.environ)
except SettingsError as error:
    sys.exit(str(error))

bind = f"0.0.0.0:{_settings.port}"
workers = 1
worker_class = "handler.server.Worker"
timeout = 0  # the model's time is bounded by the service itself
graceful_timeout = int(_settings.grace_seconds)
control_socket_disable = True
loglevel = "error"  # its warnings quote what strangers send


def post_worker_init(worker: Any) -> None:
    """Give the worker what the settings say; and let the service hear when the process is told to end."""
    from main import app

    worker.bounds = Bounds(_settings.connections, MAX_PUSH_BYTES, _settings.receive_timeout_seconds)
    worker.on_stop = partial(app.drain, _settings.grace_seconds)


def worker_exit(_server: Any, _worker: Any) -> None:
    """Leave nothing behind, if the service ever started."""
    if "main" in sys.modules and hasattr(sys.modules["main"], "app"):
        sys.modules["main"].app.close()

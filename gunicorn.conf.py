"""How it runs in production: gunicorn -c gunicorn.conf.py 'functions_framework:create_app("handle","main.py")'.

One process, since room is counted per process, with a greenlet for each push. Scale with instances.
"""

import gc

from handler import greenlets

# Objects made and not freed, after which cycles among them are looked for. Messages leave none behind (a test looks),
# and imports hardly any: to search everything again and again takes time for nothing.
gc.set_threshold(10_000, 10, 10)
greenlets.patch()

import os  # noqa: E402 - nothing may be imported before it is patched
import sys  # noqa: E402
from functools import partial  # noqa: E402
from typing import Any  # noqa: E402

from handler.config.settings import Settings, SettingsError  # noqa: E402
from handler.telemetry import logs  # noqa: E402

try:
    _settings = Settings.from_environment(os.environ)
except SettingsError as error:
    sys.exit(str(error))

bind = f"0.0.0.0:{_settings.port}"
workers = 1
worker_class = "handler.server.Worker"
worker_connections = _settings.connections
keepalive = 620  # above the 600 s for which Google's front ends keep connections: who forgets first resets
timeout = 0  # the model's time is bounded by the service itself
graceful_timeout = int(_settings.grace_seconds)
control_socket_disable = True
# Nothing that a proxy says of a request is believed, so nobody need be looked up who might say it.
forwarded_allow_ips, forwarder_headers = "*", ""
secure_scheme_headers: dict[str, str] = {}
logger_class = "handler.server.Quiet"
logconfig_dict = logs.for_gunicorn()


def pre_fork(_server: Any, _worker: Any) -> None:
    """Keep what is loaded in memory that both processes share: to search it for cycles is to write to all of it."""
    gc.freeze()


def post_worker_init(worker: Any) -> None:
    """Let the service hear when the process is told to end."""
    from main import app

    worker.on_stop = partial(app.drain, _settings.grace_seconds)
    gc.freeze()  # what is loaded is not searched any more


def worker_exit(_server: Any, _worker: Any) -> None:
    """Leave nothing behind, if the service ever started."""
    if "main" in sys.modules and hasattr(sys.modules["main"], "app"):
        sys.modules["main"].app.close()

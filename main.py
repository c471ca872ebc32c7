"""The entry point: `functions-framework --target=handle --source=main.py`, or gunicorn as gunicorn.conf.py has it."""

from handler import greenlets

is_first = greenlets.patch()

import logging  # noqa: E402 - nothing may be imported before it is patched
import os  # noqa: E402
import sys  # noqa: E402

import flask  # noqa: E402

from handler.app import App  # noqa: E402
from handler.config.doubts import doubts  # noqa: E402
from handler.config.settings import Settings, SettingsError  # noqa: E402
from handler.telemetry import exposition, logs  # noqa: E402

try:
    settings = Settings.from_environment(os.environ)
    logs.configure(settings.log_level)
    exposition.start(settings)
    app = App(settings)
except SettingsError as error:
    print(error, file=sys.stderr)
    # gunicorn starts a worker that failed anew, for ever, unless it says 3.
    sys.exit(3)

# The functions-framework command reads these when it makes its server, after it has read this file. Nothing that
# proxies say of a request is believed, so that two that disagree keep none from being answered.
os.environ.setdefault("THREADS", str(settings.connections))
os.environ.setdefault("FORWARDED_ALLOW_IPS", "")
for doubt in doubts(settings, os.environ):
    logging.getLogger("handler").warning(doubt)
if is_first:  # else gunicorn.conf.py was
    logging.getLogger("handler").warning(
        "served by the functions-framework command: on SIGTERM pushes are not told that it ends, and what is at the "
        "model has 30 s; gunicorn -c gunicorn.conf.py drains properly"
    )
if flask.has_app_context():
    flask.current_app.wsgi_app = app.in_front_of(flask.current_app.wsgi_app)  # type: ignore[assignment, method-assign]


def handle(request: flask.Request) -> flask.Response:
    """Answer one HTTP request: a push, or a health check."""
    return app(request)

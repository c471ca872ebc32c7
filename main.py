"""The entry point: `functions-framework --target=handle --source=main.py`, or gunicorn as gunicorn.conf.py has it."""

import logging
import os
import sys

import flask

from handler import telemetry
from handler.app import App
from handler.config import Settings, SettingsError

try:
    settings = Settings.from_environment(os.environ)
except SettingsError as error:
    print(error, file=sys.stderr)
    # gunicorn starts a worker that failed anew, for ever, unless it says 3.
    sys.exit(3)

# The functions-framework command reads these two when it makes its server, after it has read this file.
os.environ.setdefault("THREADS", str(settings.threads))
telemetry.configure(settings.log_level)
for doubt in settings.doubts(os.environ):
    logging.getLogger("handler").warning(doubt)
app = App(settings)
if flask.has_app_context():
    flask.current_app.wsgi_app = app.in_front_of(flask.current_app.wsgi_app)  # type: ignore[assignment, method-assign]


def handle(request: flask.Request) -> flask.Response:
    """Answer one HTTP request: a push, or a health check."""
    return app(request)

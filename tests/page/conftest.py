"""The page as `make up` serves it, in front of a model that takes a while, and a browser that shows it.

Nothing here, nor in the tests of the whole, imports from the program.
"""

import json
import os
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

import pytest

from tests.parts.model import Model, http, serving
from tests.parts.processes import BIN, missing, process

SLOTS = 8
SECONDS = 0.25  # that a call takes
SAID = "a place of beauty and wonder"


def slowly(connection):
    """Answer after a while, as models do."""
    time.sleep(SECONDS)
    body = json.dumps({"choices": [{"text": f" {SAID}."}]}).encode()
    connection.sendall(http(200, "application/json", body, "Connection: close"))


class SlowModel(Model):
    """A model that takes its time for every prompt, and tells its name."""

    request_queue_size = 500

    def reply(self, prompt):
        """The next reply to a prompt."""
        if prompt == "GET /v1/models":
            return http(200, "application/json", b'{"object": "list", "data": [{"id": "slow-model"}]}')
        return self.replies.get(prompt, slowly)


@pytest.fixture
def model():
    """A model that does as it is told."""
    with serving(Model()) as made:
        yield made


@pytest.fixture(scope="module")
def slow_model():
    """A model for all tests of a file."""
    with serving(SlowModel()) as made:
        yield made


class Up:
    """What `up` has started: the page's URL, and the page's server as a program sees it."""

    def __init__(self, printed):
        self.page = re.search(r"^  (http://127\.0\.0\.1:\d+/)$", printed, re.M).group(1)
        self.pubsub = re.search(r"PUBSUB_EMULATOR_HOST=(\S+)", printed).group(1)
        self.service = re.search(r"curl -i (\S+)", printed).group(1)
        self.origin = self.page.rstrip("/")

    def post(self, path, fields=None, **headers):
        """Press a button; the status and what was said."""
        headers = {"Content-Type": "application/json", "Origin": self.origin} | headers
        headers = {name: value for name, value in headers.items() if value is not None}
        data = fields if isinstance(fields, bytes) else json.dumps(fields or {}).encode()
        request = urllib.request.Request(self.page + path, data, headers, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def publish(self, prompt, count=1, **fields):
        """Publish by the form."""
        order = {"prompt": prompt, "count": count, "priority": "normal", "model": "m"} | fields
        assert self.post("requests", order) == (204, b"")

    @contextmanager
    def watched(self, last_id=""):
        """What a browser knows, kept up to date by events."""
        request = urllib.request.Request(self.page + "events", headers={"Last-Event-ID": last_id} if last_id else {})
        with urllib.request.urlopen(request, timeout=60) as response:
            yield Watched(response)


class Watched:
    """The events of one connection, read as far as is asked."""

    def __init__(self, response):
        self._response = response
        self.last_id = ""
        self.messages = {}
        self.state = {}
        self._silent = 0  # comments since the last event, one every 15 s

    def next(self):
        """Take in one event."""
        event = {}
        while "data" not in event:
            event = {}
            while line := self._line():
                name, _, value = line.partition(": ")
                event[name] = value
        self.last_id = event["id"]
        self.state = json.loads(event["data"])
        if self.state["all"]:
            self.messages.clear()
        self.messages |= {message["number"]: message for message in self.state["messages"]}
        return self.state

    def _line(self):
        line = self._response.readline().decode().rstrip("\n")
        self._silent = self._silent + 1 if line.startswith(":") else 0 if line else self._silent
        if self._silent > 2:
            raise TimeoutError
        return line

    def until(self, condition):
        """Take in events until it holds of this; silence of a minute is a failure."""
        while not (self.state and condition(self)):
            try:
                self.next()
            except TimeoutError:
                raise AssertionError((self.state, list(self.messages.values())[-3:])) from None
        return self

    def last(self):
        """The message that was published last."""
        return self.messages[max(self.messages)]


@contextmanager
def running_up(model_url, page_port=0, **environment):
    """`inference-relay local up`, as `make up` runs it."""
    arguments = [BIN / "inference-relay", "local", "up", "--pubsub-port", "0", "--port", "0"]
    arguments += [] if page_port is None else ["--page-port", page_port]
    environment = {"MODEL_SLOTS": str(SLOTS), **environment}
    if model_url:
        environment["MODEL_URL"] = model_url
    with process(arguments, environment, measured=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        printed = ""
        for line in child.stdout:
            printed += line
            if "The service logs below" in line:
                break
        yield Up(printed)


@pytest.fixture(scope="module")
def up(slow_model):
    """One for all tests of a file; the model's brief trouble is not waited out, so that they need not wait either."""
    with running_up(slow_model.url, PATIENCE_SECONDS="0") as started:
        yield started


# --- the browser


def chromium():
    """Where Debian's chromium is, or one by another name, or None."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def browser():
    """A real Chromium; in CI it has to be there. No longer than a file: Playwright's event loop is in others' way."""
    if not chromium():
        missing("needs chromium (apt-get install chromium)")
    with started_browser() as made:
        yield made


@contextmanager
def started_browser():
    """Chromium, driven by Playwright. Its sandbox is off where it cannot be had: for root."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=chromium(), chromium_sandbox=os.geteuid() != 0)
        yield made
        made.close()


@pytest.fixture
def page(browser):
    """A page of its own, in which nothing may go wrong: no error, no refusal by the Content-Security-Policy."""
    with browser.new_context(viewport={"width": 1280, "height": 1000}, reduced_motion="no-preference") as context:
        made = context.new_page()
        made.complaints = complaints = []
        made.on("console", lambda message: complaints.append(message.text) if message.type != "log" else None)
        made.on("pageerror", lambda error: complaints.append(str(error)))
        yield made
        assert complaints == []

"""What the buttons do to the service and the model, where a real one would not oblige."""

import asyncio
import itertools
import json

import pytest

from handler.local.page import controls
from handler.local.page.controls import Controls
from handler.local.page.orders import Order, Refused
from handler.local.service import ServiceFailed
from handler.local.trouble import Mode


class Service:
    """A service that starts as often as it is told to, and says what is done to it."""

    def __init__(self, *starts):
        self.log = []
        self._starts = list(starts)

    def kill(self):
        self.log.append("kill")

    def start(self):
        self.log.append("start")
        if self._starts and (trouble := self._starts.pop(0)):
            raise trouble


class Model:
    """A model that remembers how it was told to be."""

    def __init__(self):
        self.modes = []

    def change(self, mode):
        self.modes.append(mode)


@pytest.fixture
def quick(monkeypatch):
    """No time passes while a service is down."""
    monkeypatch.setattr(controls, "_DOWN_SECONDS", 0.0)


def pressed(service, model=None):
    """Controls, and each state that they tell."""
    told = []
    made = Controls(model or Model(), service, None, lambda: told.append(made.view()))
    return made, told


def test_kill_and_start(quick):
    """Killed, starting, running: each is told."""
    service = Service()
    made, told = pressed(service)
    asyncio.run(made.kill())
    assert service.log == ["kill", "start"]
    assert [each["service"]["state"] for each in told] == ["killed", "starting", "running"]
    assert made.view()["service"] == {"state": "running", "trouble": "", "kills": 1}


@pytest.mark.parametrize("kind", [ServiceFailed, OSError], ids=["its own trouble", "the machine's"])
def test_a_service_that_does_not_come_back(quick, kind):
    """It is said why, and pressing again tries again; also where the machine has no process left to give."""
    made, _ = pressed(service := Service(kind("port 8080 is taken"), None))
    asyncio.run(made.kill())
    assert made.view()["service"] == {"state": "failed", "trouble": "port 8080 is taken", "kills": 1}
    asyncio.run(made.kill())
    assert made.view()["service"] == {"state": "running", "trouble": "", "kills": 1}
    assert service.log == ["kill", "start"] * 2


def test_pressed_twice(quick):
    """A service that is down already is not killed once more."""
    made, _ = pressed(service := Service())

    async def twice():
        first = asyncio.create_task(made.kill())
        await asyncio.sleep(0)
        with pytest.raises(Refused, match="down already"):
            await made.kill()
        await first

    asyncio.run(twice())
    assert service.log == ["kill", "start"]


def test_modes():
    """The model is told, and then the browsers."""
    model = Model()
    made, told = pressed(Service(), model)
    asyncio.run(made.change({"mode": "hangs"}))
    assert (model.modes, [each["model"] for each in told]) == ([Mode.HANGS], ["hangs"])
    for wrong in ({"mode": "mad"}, {}, [], None):
        with pytest.raises(Refused, match="works, fails, busy, hangs, slow, away"):
            asyncio.run(made.change(wrong))


def test_requests():
    """Equal requests can be told apart at the model, by a field that it passes over; each says what is asked."""
    order = Order.of({"prompt": "The sea is", "count": 2, "priority": "high", "model": " m "})
    made = [json.loads(data) for data in order.requests(itertools.count(7))]
    body = {"model": "m", "prompt": "The sea is", "max_tokens": 24}
    assert made == [
        {"metadata": {"id": name}, "options": {"priority": "high"}, "body": {**body, "user": name}}
        for name in ("page-7", "page-8")
    ]

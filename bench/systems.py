"""The systems that can be measured: how each is started."""

import re
import shlex
import sys
from argparse import ArgumentTypeError
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

TOPIC = "projects/bench/topics/responses"
_BIN = Path(sys.executable).parent


@dataclass(frozen=True, slots=True)
class System:
    """A program that takes pushes.

    In the words of `command` and in the values of `environment` {port}, {model}, {sink} and {concurrency} stand for the
    port to listen on, the model's base URL, HOST:PORT of the Pub/Sub, and how many pushes will be in flight.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)

    def started(
        self, port: int, model_port: int, sink_port: int, concurrency: int
    ) -> tuple[Sequence[str], Mapping[str, str]]:
        """The command and the environment to start it with."""
        model, sink = f"http://127.0.0.1:{model_port}", f"127.0.0.1:{sink_port}"
        values = {"port": str(port), "model": model, "sink": sink, "concurrency": str(concurrency)}
        environment = {name: _filled(value, values) for name, value in (_COMMON | dict(self.environment)).items()}
        return [_filled(word, values) for word in self.command], environment


_COMMON = {
    "MODEL_URL": "{model}",
    "RESPONSE_TOPIC": TOPIC,
    "PUSH_AUTH": "none",
    "PUBSUB_EMULATOR_HOST": "{sink}",
    "PUBSUB_PROJECT_ID": "bench",
    "PORT": "{port}",
}
# Programs beside the relay, which has MODEL_SLOTS.
_CONCURRENCY = {"CONCURRENCY": "{concurrency}"}


def _filled(text: str, values: Mapping[str, str]) -> str:
    """Not str.format: commands have braces of their own."""
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", value)
    return text


def peer(text: str) -> System:
    """A system from NAME=COMMAND. Raises ArgumentTypeError if it is none."""
    name, _, command = text.partition("=")
    words = shlex.split(command)
    if not (re.fullmatch(r"[A-Za-z0-9_.-]+", name) and words):
        raise ArgumentTypeError(f"{text!r} is not NAME=COMMAND, such as mine='mine --port {{port}}'")
    return System(name, words, _CONCURRENCY)


GUNICORN = (str(_BIN / "gunicorn"), "-c", "gunicorn.conf.py", 'functions_framework:create_app("handle","main.py")')
_FRAMEWORK = (str(_BIN / "functions-framework"), "--target=handle")

_SLOTS = {"MODEL_SLOTS": "{concurrency}"}

# No program at all: pushes go straight to the model. So good could a system be that took no time.
DIRECT = System("direct", ())
SYSTEMS = {
    system.name: system
    for system in (
        System("relay", GUNICORN, _SLOTS),
        System("reference", (*_FRAMEWORK, "--source=bench/reference.py"), _CONCURRENCY | {"THREADS": "{concurrency}"}),
        System("relay-ff", (*_FRAMEWORK, "--source=main.py"), _SLOTS),
        DIRECT,
    )
}

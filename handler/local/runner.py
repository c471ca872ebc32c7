"""`inference-relay local run` and `up`: the whole relay on this machine, used as it is used in production."""

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from handler.batch.asking import text_of
from handler.batch.options import Options, Paths, listed
from handler.local import stack
from handler.rules import strictjson

_COULD_NOT_RUN = 2
_INTERRUPTED = 130
_LONGEST = 200
_HARMLESS_NAME = re.compile(r"[\w.:/@+-]+", re.ASCII)  # within the quotes of a shell and of Python
_NO_NAME = "name-of-your-model"


def run(console: Console, requests: Path, answers: Path | None, model: str | None) -> int:
    """Start everything, answer `requests` with `batch run`, show the answers; its exit status.

    The answers go to `answers`, or to a folder that is removed again.
    """
    try:
        return _run(console, requests, answers, model)
    except KeyboardInterrupt:
        # `batch run` says that it can go on, which it could if its Pub/Sub were still there.
        gone = "interrupted. Here it cannot go on from there: what waited in the local Pub/Sub is gone"
        console.print(f"{gone}: {_anew(answers)}", soft_wrap=True)
        return _INTERRUPTED


def _anew(answers: Path | None) -> str:
    """What to do to have it run from the start."""
    if answers is None:
        return "run it again"
    paths = Paths.of(str(answers), Options())
    return f"remove {listed((*paths.outputs, f'every {paths.journal}*'))}, and run it again"


def _run(console: Console, requests: Path, answers: Path | None, model: str | None) -> int:
    with tempfile.TemporaryDirectory(prefix="inference-relay-") as folder:
        output = answers or Path(folder) / "answers.jsonl"
        with (
            (Path(folder) / "service.log").open("w") as log,
            _status(console) as say,
            stack.running(log=log, starting=lambda part: say(f"starting {part}")) as parts,
        ):
            say("")
            status = _batch_run(console, requests, output, model)
            redelivered = parts.broker.stats().redelivered
            say("stopping")
        if status != _COULD_NOT_RUN:
            _show(console, output)
            console.print(f"redeliveries by Pub/Sub: {redelivered}", highlight=False)
            if answers is None:
                console.print(
                    "the two files are gone: inference-relay local run FILE -o ANSWERS keeps them", highlight=False
                )
        return status


def _batch_run(console: Console, requests: Path, answers: Path, model: str | None) -> int:
    """Run the command that a person would, in a process of its own, and show it."""
    arguments = ["batch", "run", str(requests), "-o", str(answers), *(["--model", model] if model else [])]
    console.print("$ inference-relay", *arguments, style="bold", highlight=False, soft_wrap=True)
    return subprocess.run(
        [sys.executable, "-c", "from handler.commands.cli import main; main()", *arguments], check=False
    ).returncode


@contextmanager
def _status(console: Console) -> Iterator[Callable[[str], None]]:
    """Says what is being done, on a terminal; nothing for an empty text."""
    with console.status("starting") as status:

        def say(text: str) -> None:
            if text:
                status.start()
                status.update(text)
            else:
                status.stop()

        yield say


def _show(console: Console, answers: Path) -> None:
    """Print what came of each line, shortly: from the plain files, which stand beside a compressed one."""
    for file in Paths.of(str(answers), Options()).outputs:
        for line in file.read_bytes().splitlines() if file.exists() else ():
            console.print(_shortly(strictjson.loads(line, finite=False)), markup=False, highlight=False, soft_wrap=True)


def _shortly(line: dict[str, Any]) -> str:
    response = line["response"]
    if response is None:
        return f"{line['custom_id']}: {line['error']['message']}"
    body = strictjson.dumps(response["body"])
    text = " ".join((text_of(body) or body.decode()).split())
    return f"{line['custom_id']}: {response['status_code']} {text[:_LONGEST]}"


def up(console: Console, pubsub_port: int, service_port: int, page_ports: Sequence[int]) -> None:
    """Start everything, say how to use it, and leave it running until interrupted."""
    with stack.running(pubsub_port=pubsub_port, service_port=service_port, page_ports=page_ports) as parts:
        # A command that is wrapped breaks when it is copied.
        console.print(_howto(parts), markup=False, soft_wrap=True)
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            console.print("stopping")


def _howto(parts: stack.Stack) -> str:
    """Commands to be copied, with the model's own name where it says one that can stand in them."""
    model = parts.model_name if _HARMLESS_NAME.fullmatch(parts.model_name) else _NO_NAME
    address, service, page = parts.broker.address, parts.service_url, parts.page_url
    return _HOWTO.format(pubsub=address, service=service, page=page, model=model, stack=stack)


_HOWTO = """\
The relay is up. Ctrl-C stops it.

See it work, break it and see nothing lost, in a browser:

  {page}

Publish a request (in another shell, in this project's virtual environment or any with google-cloud-pubsub):

  export PUBSUB_EMULATOR_HOST={pubsub}
  python - <<'EOF'
  from google.cloud import pubsub_v1
  request = b'{{"metadata": {{"id": "1"}}, "body": {{"model": "{model}", "prompt": "The sea is", "max_tokens": 16}}}}'
  print(pubsub_v1.PublisherClient().publish("{stack.REQUESTS}", request).result())
  EOF

Read the answers:

  python - <<'EOF'
  from google.cloud import pubsub_v1
  subscriber = pubsub_v1.SubscriberClient()
  pulled = subscriber.pull(subscription="{stack.ANSWERS}", max_messages=10)
  for received in pulled.received_messages:
      print(received.message.data.decode(), dict(received.message.attributes))
      subscriber.acknowledge(subscription="{stack.ANSWERS}", ack_ids=[received.ack_id])
  EOF

Or post one push by hand; its answer comes to the same subscription:

  curl -i {service}/ -d "{{\\"message\\": {{\\"messageId\\": \\"by-hand\\", \\"data\\": \\"$(printf \\
    '{{"metadata": {{"id": "2"}}, "body": {{"model": "{model}", "prompt": "The sky is", "max_tokens": 16}}}}' \\
    | base64 -w0)\\"}}}}"

The service logs below, a line for each push.
"""

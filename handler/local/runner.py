"""`inference-relay local run` and `up`: the whole relay on this machine, watched from the outside."""

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from handler import strictjson
from handler.local import stack
from handler.local.display import show
from handler.local.exchange import Requester

# The longest that nothing may happen: a slow model of the user's own is given its time.
PATIENCE_SECONDS = 600.0


def read_requests(file: Path, model: str | None) -> list[bytes]:
    """The requests in a JSONL file, one a line, as they stand; `model` replaces the model's name in each."""
    lines = [line for line in file.read_bytes().splitlines() if line.strip()]
    return [_with_model(line, model) for line in lines] if model else lines


def _with_model(line: bytes, model: str) -> bytes:
    try:
        request = strictjson.loads(line)
        request["body"]["model"] = model
    except (strictjson.JsonError, LookupError, TypeError):
        return line  # a request that is wrong on purpose stays as it is
    return strictjson.dumps(request)


def run(console: Console, requests: Sequence[bytes]) -> bool:
    """Start everything, answer `requests`, show each response; whether all were answered."""
    started = time.monotonic()
    with tempfile.NamedTemporaryFile("w", prefix="inference-relay-", suffix=".log") as log, _bar(console) as bar:
        task = bar.add_task("starting", total=len(requests))
        with stack.running(log=log, starting=lambda part: bar.update(task, description=f"starting {part}")) as parts:
            bar.update(task, description="answering")
            with Requester(stack.REQUESTS, stack.ANSWERS) as requester:
                requester.publish(requests)
                statuses = []
                for exchange in requester.responses(PATIENCE_SECONDS):
                    statuses.append(exchange.status_code)
                    show(console, exchange, len(statuses), len(requests))
                    bar.advance(task)
            redelivered = parts.broker.stats().redelivered
            bar.update(task, description="stopping")
            summary = _summary(statuses, len(requests), redelivered, time.monotonic() - started)
            console.print(summary, highlight=False, soft_wrap=True)
    return len(statuses) == len(requests)


def _summary(statuses: Sequence[int], total: int, redelivered: int, seconds: float) -> str:
    errors = sum(status >= 400 for status in statuses)
    missing = f", {total - len(statuses)} without an answer" if len(statuses) < total else ""
    return (
        f"{len(statuses)} of {total} requests answered: {len(statuses) - errors} by the model, {errors} with an error"
        f"{missing}; redeliveries: {redelivered}; {seconds:.1f} s"
    )


@contextmanager
def _bar(console: Console) -> Iterator[Progress]:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        yield bar


def up(console: Console, pubsub_port: int, service_port: int) -> None:
    """Start everything, say how to use it, and leave it running until interrupted."""
    with stack.running(pubsub_port=pubsub_port, service_port=service_port) as parts:
        howto = _HOWTO.format(pubsub=parts.broker.address, service=parts.service_url, stack=stack)
        console.print(howto, markup=False, soft_wrap=True)  # a command that is wrapped breaks when it is copied
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            console.print("stopping")


_HOWTO = """\
The relay is up. Ctrl-C stops it.

Publish a request (in another shell, in this project's virtual environment or any with google-cloud-pubsub):

  export PUBSUB_EMULATOR_HOST={pubsub}
  python - <<'EOF'
  from google.cloud import pubsub_v1
  request = b'{{"metadata": {{"id": "1"}}, "body": {{"model": "smollm2", "prompt": "The sea is", "max_tokens": 16}}}}'
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
    '{{"metadata": {{"id": "2"}}, "body": {{"model": "smollm2", "prompt": "The sky is", "max_tokens": 16}}}}' \\
    | base64 -w0)\\"}}}}"

The service logs below, a line for each push.
"""

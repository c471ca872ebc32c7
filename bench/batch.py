"""How fast `batch submit` and `batch collect` are, and how much memory they take: see bench/README.md.

The broker here is no Pub/Sub: it takes publishes, and answers each at once with a canned response, so that it is not
what is measured. It is a process of its own, over gRPC, on the same cores.
"""

import argparse
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty
from google.pubsub_v1 import types

PROMPT = "Summarise this. " + "The sea is a place of beauty. " * 15  # with the rest, a message of about 700 bytes
BODY = {
    "id": "cmpl-1",
    "object": "text_completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "text": "The sea. " * 40, "finish_reason": "stop", "logprobs": None}],
    "usage": {"prompt_tokens": 100, "completion_tokens": 80, "total_tokens": 180},
}


class Broker:
    """Takes publishes, and has a response for each."""

    def __init__(self) -> None:
        self.answers: deque[bytes] = deque()
        self.ids = itertools.count(1)
        self.body = json.dumps(BODY).encode()
        self.received = types.ReceivedMessage.pb()
        self.response = types.PublishResponse.pb()

    def publish(self, request: Any, _: Any) -> Any:
        """Confirm, and have the answers."""
        names = [f"m{next(self.ids)}" for _ in request.messages]
        for name, message in zip(names, request.messages, strict=True):
            self.answers.append(self._answer(name, message))
        return self.response(message_ids=names)

    def _answer(self, name: str, message: Any) -> Any:
        attributes = {**message.attributes, "request_message_id": name, "status_code": "200", "model": "m"}
        metadata = json.dumps(
            {key: message.attributes[key] for key in ("custom_id", "batch_id")}, separators=(",", ":")
        ).encode()
        data = b'{"status_code":200,"metadata":%b,"body":%b}' % (metadata, self.body)
        return self.received(ack_id=name, message={"data": data, "attributes": attributes, "message_id": name})

    def pull(self, request: Any, _: Any) -> Any:
        """Hand out answers, at once if there are some."""
        taken = []
        for _ in range(50):
            while self.answers and len(taken) < request.max_messages:
                taken.append(self.answers.popleft())
            if taken:
                break
            time.sleep(0.02)
        return types.PullResponse.pb()(received_messages=taken)


def serve() -> None:
    """Be the broker."""
    broker = Broker()
    calls: dict[str, dict[str, tuple[Callable[..., Any], Any]]] = {
        "Publisher": {"Publish": (broker.publish, types.PublishRequest.pb())},
        "Subscriber": {
            "Pull": (broker.pull, types.PullRequest.pb()),
            "Acknowledge": (lambda *_: Empty(), types.AcknowledgeRequest.pb()),
            "CreateSubscription": (lambda request, _: request, types.Subscription.pb()),
            "DeleteSubscription": (lambda *_: Empty(), types.DeleteSubscriptionRequest.pb()),
        },
    }
    server = grpc.server(futures.ThreadPoolExecutor(16), options=[("grpc.max_receive_message_length", -1)])
    for service, methods in calls.items():
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(call, kind.FromString, lambda reply: reply.SerializeToString())
            for name, (call, kind) in methods.items()
        }
        name = f"google.pubsub.v1.{service}"
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(name, handlers)])
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    server.wait_for_termination()


@contextmanager
def broker() -> Iterator[dict[str, str]]:
    """The broker in a process of its own; the environment of who is to use it."""
    with subprocess.Popen([sys.executable, __file__, "serve"], stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout
        port = int(running.stdout.readline())
        try:
            yield {**os.environ, "PUBSUB_EMULATOR_HOST": f"127.0.0.1:{port}"}
        finally:
            running.terminate()


def timed(environment: dict[str, str], *arguments: str) -> tuple[float, float, float]:
    """Run a command; the seconds from its start to its end, its processor's seconds, and its peak of memory in MB."""
    command = [str(Path(sys.executable).with_name("inference-relay")), "batch", *arguments, "--quiet"]
    begun = time.perf_counter()
    child = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - begun
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0, f"{arguments[0]} ended with {child.returncode}"
    return seconds, usage.ru_utime + usage.ru_stime, peak(usage)


def peak(usage: resource.struct_rusage) -> float:
    """Peak of the resident memory, in MB; Linux counts in KiB."""
    return usage.ru_maxrss * 1024 / 1e6


def write_requests(path: Path, lines: int) -> None:
    """Write a batch file in OpenAI's form."""
    with path.open("w") as file:
        for number in range(lines):
            body = {"model": "m", "prompt": PROMPT, "max_tokens": 100}
            line = {"custom_id": f"request-{number}", "method": "POST", "url": "/v1/completions", "body": body}
            file.write(json.dumps(line) + "\n")


def once(lines: int) -> dict[str, float]:
    """Submit and collect, each with a fresh process: lines a second, start and check included, and MB."""
    with tempfile.TemporaryDirectory() as folder, broker() as environment:
        requests, answers = Path(folder) / "requests.jsonl", Path(folder) / "answers.jsonl"
        write_requests(requests, lines)
        out, out_cpu, out_peak = timed(environment, "submit", str(requests), "-o", str(answers))
        back, back_cpu, back_peak = timed(environment, "collect", "-o", str(answers))
        with answers.open() as file:
            assert len({json.loads(line)["custom_id"] for line in file}) == lines
    return {
        "submit": lines / out,
        "collect": lines / back,
        "submit, of processor time": lines / out_cpu,
        "collect, of processor time": lines / back_cpu,
        "submit MB": out_peak,
        "collect MB": back_peak,
    }


def main() -> None:
    """Measure, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", nargs="?", choices=["serve"], help=argparse.SUPPRESS)
    parser.add_argument("--lines", type=int, default=50_000)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.role:
        serve()
        return
    found = [once(arguments.lines) for _ in range(arguments.runs)]
    print(f"{arguments.lines:,} lines{'':<20} {'median':>9} {'least':>9} {'most':>9}")
    for name in found[0]:
        values = [each[name] for each in found]
        unit = "" if name.endswith("MB") else "/s"
        print(f"{name:<32} {statistics.median(values):>9,.0f} {min(values):>9,.0f} {max(values):>9,.0f}  {unit}")


if __name__ == "__main__":
    main()

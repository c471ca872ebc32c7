"""How fast the local Pub/Sub is, and how much memory 3,000 outstanding pushes take: see bench/README.md.

The broker is one process, the endpoint another, and this one publishes. On two cores they share them.
"""

import argparse
import asyncio
import json
import re
import statistics
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
from aiohttp import web
from google.cloud import pubsub_v1
from google.pubsub_v1 import PublisherClient, SubscriberClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport
from google.pubsub_v1.types import PublishRequest, PublishResponse

MESSAGE = b"x" * 500
OUTSTANDING = 3000
QUICK = 30  # pushes that /slow answers at once, so that the push window opens


def serve_endpoint() -> None:
    """Be the endpoint: /fast answers at once, /slow holds pushes; GET / tells how many are held, and how many came."""
    counts = {"came": 0, "held": 0}

    async def fast(request: web.Request) -> web.Response:
        await request.read()
        counts["came"] += 1
        return web.Response(status=204)

    async def slow(request: web.Request) -> web.Response:
        await request.read()
        counts["came"] += 1
        if counts["came"] > QUICK:
            counts["held"] += 1
            await asyncio.sleep(600)
        return web.Response(status=204)

    async def tell(_: web.Request) -> web.Response:
        return web.json_response(counts)

    async def run() -> None:
        app = web.Application()
        app.add_routes([web.post("/fast", fast), web.post("/slow", slow), web.get("/", tell)])
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=4096).start()
        print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
        await asyncio.Event().wait()

    asyncio.run(run())


@contextmanager
def process(*arguments: str) -> Iterator[tuple[int, str]]:
    """Run a Python program; give its process id and the first line it prints."""
    with subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout
        try:
            yield running.pid, running.stdout.readline().strip()
        finally:
            running.terminate()


class Bench:
    """One fresh broker and one fresh endpoint."""

    def __init__(self, address: str, broker_pid: int, endpoint: str) -> None:
        self.pid = broker_pid
        self.endpoint = endpoint
        self.channel = grpc.insecure_channel(address)
        self.publisher = PublisherClient(transport=PublisherGrpcTransport(channel=self.channel))
        self.subscriber = SubscriberClient(transport=SubscriberGrpcTransport(channel=self.channel))
        self.topic = f"projects/bench/topics/t{uuid.uuid4().hex}"
        self.publisher.create_topic(name=self.topic)

    def publish_alone(self, count: int) -> float:
        """Publishes a second, of one message each, from 32 threads; the stub alone, since its wrapper is slower."""
        request, answer = PublishRequest.pb(), PublishResponse.pb()
        call = self.channel.unary_unary(
            "/google.pubsub.v1.Publisher/Publish", request.SerializeToString, answer.FromString
        )
        message = request(topic=self.topic, messages=[{"data": MESSAGE}])

        def publish(_: int) -> None:
            call(message, timeout=60)

        with ThreadPoolExecutor(32) as pool:
            begun = time.perf_counter()
            list(pool.map(publish, range(count)))
        return count / (time.perf_counter() - begun)

    def publish_batched(self, count: int) -> float:
        """Messages a second through google-cloud-pubsub's own batching."""
        client = pubsub_v1.PublisherClient(transport=PublisherGrpcTransport(channel=self.channel))
        begun = time.perf_counter()
        for future in [client.publish(self.topic, MESSAGE) for _ in range(count)]:
            future.result(60)
        return count / (time.perf_counter() - begun)

    def push_fast(self, count: int) -> float:
        """Pushes a second to an endpoint that answers at once."""
        self.subscribe("/fast")
        begun = time.perf_counter()
        self.send(count)
        self.wait("came", count)
        return count / (time.perf_counter() - begun)

    def hold(self, count: int) -> float:
        """Peak memory of the broker in MB, with `count` pushes outstanding."""
        self.subscribe("/slow")
        self.send(count + QUICK)
        self.wait("held", count)
        peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text())
        assert peak
        return int(peak[1]) / 1000

    def subscribe(self, path: str) -> None:
        """Push to the endpoint's path."""
        name = f"projects/bench/subscriptions/s{uuid.uuid4().hex}"
        push = {"push_endpoint": self.endpoint + path}
        self.subscriber.create_subscription(
            {"name": name, "topic": self.topic, "push_config": push, "ack_deadline_seconds": 600}
        )

    def send(self, count: int) -> None:
        """Publish in batches of 500, so that publishing takes little of the time."""
        for start in range(0, count, 500):
            size = min(500, count - start)
            self.publisher.publish(topic=self.topic, messages=[{"data": MESSAGE}] * size)

    def wait(self, what: str, count: int) -> None:
        """Wait until the endpoint counted so many."""
        while True:
            with urllib.request.urlopen(self.endpoint) as answer:
                if json.load(answer)[what] >= count:
                    return
            time.sleep(0.02)


def measure(name: str, unit: str, runs: int, figure: Callable[[Bench], float]) -> None:
    """Print the median, least and most of the runs, each with a fresh broker."""
    found = []
    for _ in range(runs):
        with (
            process("-m", "handler.local.pubsub", "--port", "0") as (pid, line),
            process(__file__, "serve") as (_, url),
        ):
            bench = Bench(line.split()[1].partition("=")[2], pid, url)
            found.append(figure(bench))
            bench.channel.close()
    print(f"{name:<58} {statistics.median(found):>9,.0f} {min(found):>9,.0f} {max(found):>9,.0f}  {unit}", flush=True)


def main() -> None:
    """Measure everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", nargs="?", choices=["serve"], help=argparse.SUPPRESS)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.role:
        serve_endpoint()
        return
    print(f"{'':<58} {'median':>9} {'least':>9} {'most':>9}")
    runs = arguments.runs
    measure("publishes of one message each, 32 at a time", "/s", runs, lambda bench: bench.publish_alone(4000))
    measure("messages through google-cloud-pubsub's batching", "/s", runs, lambda bench: bench.publish_batched(20000))
    measure("pushes to an endpoint that answers at once", "/s", runs, lambda bench: bench.push_fast(5000))
    measure(f"memory with {OUTSTANDING:,} pushes outstanding", "MB", runs, lambda bench: bench.hold(OUTSTANDING))


if __name__ == "__main__":
    main()

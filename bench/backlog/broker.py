"""The project's local Pub/Sub as a process of the bench's: for each line that comes in it says what it has counted."""

import argparse
from dataclasses import asdict
from functools import partial

from bench import standin
from bench.backlog.scenarios import SUBSCRIPTION
from handler.local.pubsub import Broker, Rules


async def _serve(rules: Rules) -> None:
    broker = Broker(0, rules)
    await broker.open()
    standin.say({"port": int(broker.address.rpartition(":")[2])})
    while await standin.told():
        counts = {"answers": broker.push_answers, "deliveries": broker.deliveries(SUBSCRIPTION)}
        standin.say(asdict(broker.stats()) | counts)
    await broker.close()


def main() -> None:
    """Serve until the standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--window-growth", required=True, help="of the push window: on every ack, or each round trip")
    parser.add_argument("--divisor", type=int, default=1, help="by which the times of the push backoff are divided")
    given = parser.parse_args()
    shortest, longest = Rules().push_backoff_range
    scaled = (shortest / given.divisor, longest / given.divisor)
    standin.run(partial(_serve, Rules(window_growth=given.window_growth, push_backoff_range=scaled)))


if __name__ == "__main__":
    main()

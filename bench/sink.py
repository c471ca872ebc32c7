"""The stand-in for Pub/Sub's side of publishing: takes every response, and remembers whose it is."""

from itertools import count
from typing import Any

import grpc
import grpc.aio
from google.pubsub_v1 import types

from bench import standin

_OPTIONS = (("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0), ("grpc.http2.max_ping_strikes", 0))


class Sink(grpc.GenericRpcHandler):
    """Answers Publish; gRPC itself says that there is nothing else."""

    def __init__(self) -> None:
        self.published: list[list[str]] = []  # for each Publish call, the request_message_id of each of its messages
        self._ids = count(1)
        self._answer = types.PublishResponse.pb()
        self._handler = grpc.unary_unary_rpc_method_handler(
            self._publish, types.PublishRequest.pb().FromString, self._answer.SerializeToString
        )

    def service(self, handler_call_details: Any) -> Any:
        """Find the handler of one call, for gRPC."""
        return self._handler if handler_call_details.method == "/google.pubsub.v1.Publisher/Publish" else None

    async def _publish(self, request: Any, _context: Any) -> Any:
        self.published.append([message.attributes["request_message_id"] for message in request.messages])
        return self._answer(message_ids=[str(next(self._ids)) for _ in request.messages])


async def _serve() -> None:
    sink = Sink()
    server = grpc.aio.server(options=_OPTIONS)
    server.add_generic_rpc_handlers((sink,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    standin.say({"port": port})
    await standin.told()
    standin.say({"published": sink.published})
    await server.stop(None)


def main() -> None:
    """Serve until the standard input ends."""
    standin.run(_serve)


if __name__ == "__main__":
    main()

"""A gRPC proxy in front of a broker, which refuses the calls of one method."""

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc

_UNLIMITED = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]


class Refusing(grpc.GenericRpcHandler):
    """Passes calls on as they are, but for those of `method`: the first `times` end with `status`, all where None.

    Without a `status` they wait for the proxy's end. `refused` counts them, and `times` may be changed meanwhile. To be
    used in a `with`; `address` is where it listens.
    """

    def __init__(self, broker, method, status, times=None):
        self._broker, self._method, self._status, self.times = broker, method, status, times
        self._numbers, self.refused = itertools.count(1), 0
        self._ended = threading.Event()

    def __enter__(self):
        self._channel = grpc.insecure_channel(self._broker, options=_UNLIMITED)
        self._server = grpc.server(ThreadPoolExecutor(16), handlers=[self], options=_UNLIMITED)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._server.stop(None).wait()
        self._channel.close()

    def service(self, handler_call_details):
        """What a call of this method is answered by."""
        method = handler_call_details.method

        def answered(request, context):
            if method.endswith(f"/{self._method}") and (self.times is None or next(self._numbers) <= self.times):
                self.refused += 1
                self._refuse(context)
            try:
                return self._channel.unary_unary(method)(
                    request, timeout=context.time_remaining(), metadata=_own(handler_call_details)
                )
            except grpc.RpcError as error:
                return context.abort(error.code(), error.details())

        return grpc.unary_unary_rpc_method_handler(answered)

    def _refuse(self, context):
        if self._status is None:
            self._ended.wait()
        context.abort(self._status or grpc.StatusCode.CANCELLED, "as the test wants it")


def _own(details):
    return [(key, value) for key, value in details.invocation_metadata if key == "x-goog-request-params"]

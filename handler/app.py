"""Wires the parts; takes one push in and gives one status out; answers the health checks."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from io import BytesIO
from typing import Any, BinaryIO

from flask import Request, Response
from werkzeug.exceptions import RequestEntityTooLarge

from handler import strictjson, telemetry
from handler.auth import AuthError, authenticator
from handler.config import JOINING, MAX_PUSH_BYTES, Settings
from handler.envelope import DecodeError, PubsubMessage, decode
from handler.inflight import Inflight, Places, Refused
from handler.ledgers import connect
from handler.model import ModelService
from handler.outcome import Reason, Verdict
from handler.publisher import Publisher
from handler.relay import Delivery, Relay
from handler.watchdog import Watchdog

WSGI = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

CUT_SECONDS = 1.5  # what it takes to answer a push whose call was cut off, and to end


class App:
    """The service as a function of HTTP requests."""

    def __init__(self, settings: Settings) -> None:
        self.inflight = Inflight(settings.concurrency, JOINING)
        self._pushes = Places(settings.pushes)
        self._watchdog = Watchdog()
        self._receive_seconds = settings.receive_timeout_seconds
        self._authenticate = authenticator(settings)
        self._model = ModelService(settings)
        self._ledger = connect(settings)
        self._relay = Relay(
            settings,
            self._model,
            Publisher(settings.response_topic, settings.publish_timeout_seconds),
            self._ledger,
            self.inflight.wait_for_drain,
        )
        self._routes: Mapping[str, Mapping[str, Callable[[Request], Response]]] = {
            "/": {"POST": self._push},
            "/health/live": {"GET": _live, "HEAD": _live},
            "/health/ready": {"GET": self._ready, "HEAD": self._ready},
        }

    def __call__(self, request: Request) -> Response:
        """Answer one HTTP request."""
        try:
            return self._respond(request)
        finally:
            # functions-framework reads what is left of the body into memory, however much that is; there is nothing
            # left that anybody wants.
            request.stream = BytesIO()

    def in_front_of(self, framework: WSGI) -> WSGI:
        """Make the WSGI application that answers pushes itself and leaves everything else to the framework.

        Routing, two contexts and an execution id, none of which a push needs, cost as much as its JSON and its HTTP.
        """

        def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
            if environ["PATH_INFO"] == "/" and environ["REQUEST_METHOD"] == "POST":
                return _acked(self._pushed(Request(environ)), environ, start_response)
            return framework(environ, start_response)

        return answer

    def drain(self, grace_seconds: float) -> None:
        """Take no more messages; cut off calls of the model shortly before `grace_seconds` are over.

        So that what is cut off is still given back to Pub/Sub, by an answer.
        """
        self.inflight.drain()
        timer = threading.Timer(max(grace_seconds - CUT_SECONDS, grace_seconds / 2), self._model.abort)
        timer.daemon = True
        timer.start()

    def close(self) -> None:
        """Stop what runs in the background, when everything is answered."""
        self._ledger.close()

    def _respond(self, request: Request) -> Response:
        methods = self._routes.get(request.path)
        if methods is None:
            return _json(404, {"error": f"no such path: pushes go to POST /, health is at {', '.join(self._health())}"})
        if request.method not in methods:
            return _json(405, {"error": f"use {' or '.join(methods)}"}, Allow=", ".join(methods))
        return methods[request.method](request)

    def _health(self) -> list[str]:
        return [path for path in self._routes if path != "/"]

    def _ready(self, _request: Request) -> Response:
        if self.inflight.draining:
            return _json(503, {"status": "draining"})
        return _json(200, {"status": "ready"})

    def _push(self, request: Request) -> Response:
        return _to_pubsub(self._pushed(request))

    def _pushed(self, request: Request) -> Verdict:
        arrived = time.monotonic()
        fields: dict[str, object] = {}
        verdict = self._verdict(request, arrived, fields)
        fields["seconds"] = round(time.monotonic() - arrived, 3)
        telemetry.record(verdict, fields)
        return verdict

    def _verdict(self, request: Request, arrived: float, fields: dict[str, object]) -> Verdict:
        """Every way that a push can end, bugs included; `fields` gets what the log should say of its message."""
        try:
            self._authenticate(request.headers.get("Authorization"))
            with self._pushes:  # bodies that arrive slowly take memory, or a thread, meanwhile
                delivery = self._delivery(request, arrived, fields)
                return self.inflight.answer(delivery.key, delivery.until, partial(self._relay.answer, delivery))
        except AuthError as error:
            return Verdict(error.reason, detail=str(error))
        except DecodeError as error:
            return Verdict(Reason.NOT_A_PUSH, detail=str(error))
        except RequestEntityTooLarge:
            return Verdict(Reason.PUSH_TOO_LARGE, detail=f"more than {MAX_PUSH_BYTES} bytes")
        except Refused as refused:
            return Verdict(refused.reason)
        except Exception:
            logging.getLogger(__name__).exception("a bug: please report it with this traceback", extra=fields)
            return Verdict(Reason.BUG)

    def _delivery(self, request: Request, arrived: float, fields: dict[str, object]) -> Delivery:
        message = decode(request.headers, self._body(request))
        fields.update(_identity(message))
        return self._relay.delivery(message, arrived)

    def _body(self, request: Request) -> bytes:
        with self._watchdog.watching(request.environ.get("gunicorn.socket"), self._receive_seconds):
            body = _read(request)
        # gunicorn ends a body that was cut off as if it were whole.
        if len(body) < (request.content_length or 0):
            raise DecodeError("the body was cut off")
        return body


def _read(request: Request) -> bytes:
    if (request.content_length or 0) > MAX_PUSH_BYTES:
        raise RequestEntityTooLarge
    length = request.content_length
    body = _read_at_most(request.environ["wsgi.input"], MAX_PUSH_BYTES + 1 if length is None else length)
    if len(body) > MAX_PUSH_BYTES:
        raise RequestEntityTooLarge
    return body


def _read_at_most(stream: BinaryIO, size: int) -> bytes:
    try:
        return stream.read(size)
    except Exception as error:  # noqa: BLE001 - the server has errors of its own for each way to break off a body
        raise DecodeError(f"the body could not be read: {type(error).__name__}") from None


def _identity(message: PubsubMessage) -> dict[str, Any]:
    return {
        "message_id": message.message_id,
        "subscription": message.subscription,
        "attempt": message.delivery_attempt,
    }


def _to_pubsub(verdict: Verdict) -> Response:
    """Pub/Sub looks at the status alone; whoever posts a wrong push by hand is told what is wrong with it."""
    if verdict.status == 204:
        return Response(status=204)
    said = f": {verdict.detail}" if verdict.detail and verdict.status < 500 else ""
    return _json(verdict.status, {"error": f"{verdict.reason}{said}"})


def _acked(verdict: Verdict, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """The same as WSGI; what nearly every push gets without a Response to be made of it."""
    if verdict.status == 204:
        start_response("204 No Content", [])
        return ()
    return _to_pubsub(verdict)(environ, start_response)


def _live(_request: Request) -> Response:
    return _json(200, {"status": "live"})


def _json(status: int, body: Mapping[str, Any], **headers: str) -> Response:
    return Response(strictjson.dumps(body), status=status, headers=headers, mimetype="application/json")

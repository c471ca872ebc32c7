"""Wires the parts; takes one push in and gives one status out; answers the health checks."""

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from io import BytesIO
from typing import Any, BinaryIO

from flask import Request, Response

from handler import routes
from handler.admission import Refused
from handler.admission.copies import Copies
from handler.admission.intake import Held, Intake
from handler.admission.turns import in_turn
from handler.config.settings import JOINING, MAX_PUSH_BYTES, Settings
from handler.delivery import Delivery
from handler.greenlets import Deadline, DeadlinePassed
from handler.ledger.connect import connect
from handler.publisher import Publisher
from handler.push.auth import AuthError, authenticator
from handler.push.envelope import DecodeError, decode
from handler.relay import Relay
from handler.routes import Streams
from handler.rules import strictjson
from handler.rules.verdict.outcome import Reason, Verdict
from handler.startup import StartupProbe
from handler.storage.claimcheck import claim_check
from handler.telemetry import exposition, logs, metrics
from handler.telemetry.connect import connect as connect_tracing
from handler.telemetry.record import PushRecord

WSGI = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

CUT_SECONDS = 1.5  # what it takes to answer a push whose call was cut off, and to end


class App:
    """The service as a function of HTTP requests."""

    def __init__(self, settings: Settings) -> None:
        self._receive_seconds = settings.receive_timeout_seconds
        self._draining = threading.Event()
        self._authenticate = authenticator(settings)
        self._intake = Intake(settings.routing.slots, settings.pushes, settings.max_waiting_mb << 20)
        self._copies = Copies(JOINING)
        self._streams = Streams(settings.routing)
        self._routes = routes.made(settings)
        self._ledger = connect(settings)
        publisher = Publisher(settings.response_topic)
        self._tracing = connect_tracing(settings)
        self._project = settings.response_topic.split("/")[1]
        self._startup_probe = StartupProbe(settings)
        self._claim_check = claim_check(settings)
        self._relay = Relay(settings, self._routes, publisher, self._ledger, self._draining.wait, self._claim_check)
        for route in self._routes:
            metrics.watch(route.name, route.line)
        metrics.watch_ledger("memory" if settings.ledger_url is None else "redis", self._ledger)
        self._health: Mapping[str, Mapping[str, Callable[[Request], Response]]] = {
            "/health/live": {"GET": _live, "HEAD": _live},
            "/health/startup": {"GET": self._startup, "HEAD": self._startup},
            "/health/ready": {"GET": self._ready, "HEAD": self._ready},
        }
        if settings.metrics_port == settings.port:
            self._health = {**self._health, exposition.PATH: {"GET": _metrics}}

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

        Routing, two contexts and an execution id, none of which a push needs, take a seventh of its processor time.
        """

        def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
            if environ["REQUEST_METHOD"] != "POST" or environ["PATH_INFO"] in self._health:
                return framework(environ, start_response)
            # Not populated: environ and request would hold each other, and the body, until cycles are looked for.
            verdict = self._pushed(Request(environ, populate_request=False))
            if verdict.status == 204:  # what nearly every push gets, and nothing has to be made for
                start_response("204 NO CONTENT", [])
                return ()
            return _to_pubsub(verdict)(environ, start_response)

        return answer

    def drain(self, grace_seconds: float) -> None:
        """Take no more messages; cut off what the model does shortly before `grace_seconds` are over.

        So that what is cut off is still given back to Pub/Sub, by an answer.
        """
        self._draining.set()
        self._routes.drain()
        self._relay.drain()
        self._claim_check.drain()
        timer = threading.Timer(max(grace_seconds - CUT_SECONDS, grace_seconds / 2), self._abort)
        timer.daemon = True
        timer.start()

    def _abort(self) -> None:
        """End the calls of the models, and the writing of their answers."""
        self._routes.abort()
        self._claim_check.abort()

    def close(self) -> None:
        """Stop what runs in the background, when everything is answered."""
        self._ledger.close()
        self._tracing.close()
        self._claim_check.close()

    def _respond(self, request: Request) -> Response:
        methods = self._health.get(request.path, {"POST": self._push})
        if request.method in methods:
            return methods[request.method](request)
        return self._refuse(request, methods)

    def _refuse(self, request: Request, methods: Iterable[str]) -> Response:
        """Say what there is, and leave a line: or else nobody can tell why nothing arrives."""
        logs.note_refused(request.method, request.path)
        error = f"pushes are POSTs to / or another path; GETs go to {', '.join(self._health)}"
        if request.path != "/" and request.path not in self._health:
            return _json(404, {"error": error})
        return _json(405, {"error": error}, Allow=", ".join(methods))

    def _startup(self, _request: Request) -> Response:
        return _json(*self._startup_probe.answer())

    def _ready(self, _request: Request) -> Response:
        if self._draining.is_set():
            return _json(503, {"status": "draining"})
        return _json(200, {"status": "ready"})

    def _push(self, request: Request) -> Response:
        return _to_pubsub(self._pushed(request))

    def _pushed(self, request: Request) -> Verdict:
        record = PushRecord(self._project, self._tracing)
        verdict = self._verdict(request, record)
        try:
            record.end(verdict)
        except Exception:  # noqa: BLE001 - what becomes of the message is settled
            logs.bug("a bug: please report it with this traceback", record.fields)
        return verdict

    def _verdict(self, request: Request, record: PushRecord) -> Verdict:
        """Every way that a push can end, bugs included."""
        try:
            self._authenticate(request.headers.get("Authorization"))
            return self._taken_in(request, record)
        except AuthError as error:
            return Verdict(error.reason, detail=str(error))
        except DecodeError as error:
            return Verdict(Reason.NOT_A_PUSH, detail=str(error))
        except Refused as refused:
            return Verdict(refused.reason, detail=refused.detail)
        except Exception:
            logging.getLogger(__name__).exception("a bug: please report it with this traceback", extra=record.fields)
            return Verdict(Reason.BUG)

    def _taken_in(self, request: Request, record: PushRecord) -> Verdict:
        if self._draining.is_set():
            raise Refused(Reason.DRAINING)
        size = _announced(request)
        with self._intake.take(size) as held:
            return self._answered(self._delivery(request, held, record))

    def _delivery(self, request: Request, held: Held, record: PushRecord) -> Delivery:
        """Decode a push. Nobody but the delivery may keep the message, whose data it lets go of while it waits."""
        body = self._body(request)
        message = in_turn(len(body), decode, request.headers, body)
        record.identify(message, request.headers)
        stream = self._streams.find(message.subscription)
        if stream is None:
            raise Refused(Reason.FORBIDDEN, "its subscription is none of the streams in ROUTES_FILE")
        return self._relay.delivery(message, stream, record.arrived, held, record)

    def _answered(self, delivery: Delivery) -> Verdict:
        """The verdict on a message, by whoever works on it. A delivery that was no attempt is counted as such."""
        work = partial(self._relay.answer, delivery)
        try:
            verdict = self._copies.answer(delivery.key, delivery.until, work, delivery.join)
        except Refused:
            self._ledger.no_attempt(delivery.key)
            raise
        # The failure that a copy is told of is the other one's attempt.
        if verdict.facts.is_no_attempt or (delivery.joined and verdict.status != 204):
            self._ledger.no_attempt(delivery.key)
        return verdict

    def _body(self, request: Request) -> bytes:
        try:
            with Deadline(self._receive_seconds):
                body = _read(request)
        except DeadlinePassed:
            raise DecodeError("the body took too long to arrive") from None
        if len(body) > MAX_PUSH_BYTES:
            raise Refused(Reason.PUSH_TOO_LARGE, f"more than {MAX_PUSH_BYTES} bytes")
        # gunicorn ends a body that was cut off as if it were whole.
        if len(body) < (request.content_length or 0):
            raise DecodeError("the body was cut off")
        return body


def _announced(request: Request) -> int:
    """The bytes of the body, at most."""
    length = request.content_length
    if length is not None and length > MAX_PUSH_BYTES:
        raise Refused(Reason.PUSH_TOO_LARGE, f"more than {MAX_PUSH_BYTES} bytes")
    return MAX_PUSH_BYTES if length is None else length


def _read(request: Request) -> bytes:
    stream: BinaryIO = request.environ["wsgi.input"]
    try:
        return stream.read(MAX_PUSH_BYTES + 1 if request.content_length is None else request.content_length)
    except Exception as error:  # noqa: BLE001 - the server has errors of its own for each way to break off a body
        raise DecodeError(f"the body could not be read: {type(error).__name__}") from None


def _to_pubsub(verdict: Verdict) -> Response:
    """Pub/Sub looks at the status alone; whoever posts a wrong push by hand is told what is wrong with it."""
    if verdict.status == 204:
        return Response(status=204)
    said = f": {verdict.detail}" if verdict.detail and verdict.status < 500 else ""
    return _json(verdict.status, {"error": f"{verdict.reason}{said}"})


def _metrics(request: Request) -> Response:
    return Response.from_app(exposition.application, request.environ)  # type: ignore[return-value]


def _live(_request: Request) -> Response:
    return _json(200, {"status": "live"})


def _json(status: int, body: Mapping[str, Any], **headers: str) -> Response:
    return Response(strictjson.dumps(body), status=status, headers=headers, mimetype="application/json")

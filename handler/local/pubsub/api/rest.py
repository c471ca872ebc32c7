"""The REST API, transcoded from the gRPC one by the HTTP rules of Google's protos, which its client library carries.

Source of the rules: google/api/http.proto; of the errors: cloud.google.com/apis/design/errors#http_mapping.
"""

import inspect
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web
from google.api_core.exceptions import from_grpc_status
from google.protobuf.json_format import MessageToDict, Parse, ParseDict, ParseError
from google.pubsub_v1.services.publisher.transports.rest_base import _BasePublisherRestTransport
from google.pubsub_v1.services.schema_service.transports.rest_base import _BaseSchemaServiceRestTransport
from google.pubsub_v1.services.subscriber.transports.rest_base import _BaseSubscriberRestTransport
from grpc import StatusCode

from handler.local.pubsub.api.grpc import Calls
from handler.local.pubsub.core.limits import RefusedError, require
from handler.local.pubsub.core.pb import Message

_RULES = (_BasePublisherRestTransport, _BaseSubscriberRestTransport, _BaseSchemaServiceRestTransport)
_LARGEST = 32 << 20  # bytes of a body: a publish of 10 MB, in base64
# Parameters of every Google API: cloud.google.com/apis/docs/system-parameters
_SYSTEM = {"alt", "callback", "fields", "key", "prettyPrint", "quotaUser", "access_token", "oauth_token", "userProject"}
_VARIABLE = re.compile(r"\{([\w.]+)(?:=([^}]*))?\}")


def routes(calls: Calls) -> list[web.RouteDef]:
    """A route for each HTTP rule of each call that there is."""
    known = {rpc: call for service in calls.values() for rpc, call in service.items()}
    rules = {
        (rule["method"], rule["uri"]): (rule, *call)
        for transport in _RULES
        for rpc, call in known.items()
        for rule in _rules(transport, rpc)
    }
    return [_route(*one) for one in rules.values()]


def application(calls: Calls) -> web.Application:
    """Everything that answers HTTP/1.1: the API, `GET /` for whoever asks whether it is up, and a word for the rest."""
    app = web.Application(client_max_size=_LARGEST, middlewares=[_errors])
    app.router.add_get("/", _is_up)
    app.router.add_routes(routes(calls))
    return app


def _rules(transport: Any, rpc: str) -> list[dict[str, str]]:
    """The rules of a call; of those that stream both ways there are none."""
    options = getattr(getattr(transport, f"_Base{rpc}", None), "_get_http_options", list)
    return list(options())


def _route(rule: Mapping[str, str], request: type[Message], call: Any) -> web.RouteDef:
    names: list[str] = []

    def segment(variable: re.Match[str]) -> str:
        names.append(variable[1])
        last = (
            "[^/]+" if rule["uri"][variable.end() :].startswith("/") else "[^/:]+"
        )  # a verb may follow, after a colon
        pattern = re.sub(r"\*$", last, variable[2] or "*").replace("*", "[^/]+")
        return f"{{v{len(names) - 1}:{pattern}}}"

    path = _VARIABLE.sub(segment, rule["uri"])

    async def answer(http: web.Request) -> web.Response:
        message = await _message(request(), http, rule.get("body", ""))
        for index, name in enumerate(names):
            _set(message, name, http.match_info[f"v{index}"])
        result = call(message)
        result = await result if inspect.isawaitable(result) else result
        return web.json_response({} if result is None else MessageToDict(result))

    return web.route(rule["method"].upper(), path, answer)


async def _message(message: Message, http: web.Request, body: str) -> Message:
    """The request that the body and the query say."""
    try:
        if body:
            target = message if body == "*" else getattr(message, body)
            Parse(await http.text() or "{}", target)
        ParseDict(_query(http), message)
    except (ParseError, UnicodeDecodeError) as error:
        require(False, f"not a request: {error}")
    return message


def _query(http: web.Request) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, value in http.query.items():
        if name not in _SYSTEM and not name.startswith("$"):
            *outer, last = name.split(".")
            inner = fields
            for one in outer:
                inner = inner.setdefault(one, {})
            inner[last] = value
    return fields


def _set(message: Message, name: str, value: str) -> None:
    *outer, last = name.split(".")
    for one in outer:
        message = getattr(message, one)
    setattr(message, last, value)


async def _is_up(_: web.Request) -> web.Response:
    return web.Response(text="Ok\n")


@web.middleware
async def _errors(request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> Any:
    try:
        return await handler(request)
    except RefusedError as refused:
        return _error(from_grpc_status(refused.status, "").code or 500, refused.status, str(refused))
    except web.HTTPRequestEntityTooLarge:
        return _error(413, StatusCode.INVALID_ARGUMENT, f"a request has at most {_LARGEST} bytes")
    except web.HTTPNotFound:
        hint = "this is the local Pub/Sub, whose API begins at /v1/projects/PROJECT"
        return _error(404, StatusCode.NOT_FOUND, f"no such path: {request.method} {request.path}; {hint}")
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        return _error(405, StatusCode.UNIMPLEMENTED, f"{request.path} takes {allowed}, not {request.method}")


def _error(code: int, status: StatusCode, message: str) -> web.Response:
    return web.json_response(
        {"error": {"code": int(code), "message": message, "status": status.name}}, status=int(code)
    )

"""`inference-relay check`: what is right and what is wrong, in plain words, before any traffic."""

import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from handler.config.doubts import doubts
from handler.config.routing import MODEL_FIELD, ONLY_ROUTE, Route, matcher
from handler.config.settings import Settings, SettingsError
from handler.ledger import Ledger, State
from handler.ledger.connect import connect
from handler.model.service import ModelService
from handler.publisher import OutgoingMessage, Publisher, PublishFailed, PublishRefused
from handler.push.keys import KeysUnavailable, download, parse
from handler.rules import strictjson
from handler.rules.message.contract import Answer, ErrorCode, encode_response
from handler.rules.verdict.complaint import complaint_in
from handler.rules.verdict.diagnosis import Kind
from handler.rules.verdict.outcome import ModelFailure
from handler.rules.verdict.reply import ModelReply, Reading, read
from handler.storage.claimcheck import claim_check

PROBE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: right, or wrong, or right and yet `doubtful`."""

    ok: bool
    text: str
    doubtful: bool = False


def run(environment: Mapping[str, str], model: str | None = None) -> Iterator[Finding]:
    """Look at the settings, then the model services, then the topics; `model` is asked for one token if given."""
    try:
        settings = Settings.from_environment(environment)
    except SettingsError as error:
        yield from (Finding(False, f"settings: {problem}") for problem in error.problems)
        return
    yield Finding(True, "settings: complete and consistent")
    yield from (Finding(True, f"settings: {doubt}", doubtful=True) for doubt in doubts(settings, environment))
    yield from _models(settings, model)
    if settings.push_auth == "verify":
        yield _keys(settings.push_certs_url)
    if settings.ledger_url is not None:
        yield _ledger(connect(settings))
    yield from _buckets(settings)
    publisher = Publisher(settings.response_topic)
    yield from (_publish(publisher, topic, settings.publish_timeout_seconds) for topic in _topics(settings))


def _models(settings: Settings, model: str | None) -> Iterator[Finding]:
    """Every route's model service; the one that serves `model` is asked for a token of it."""
    routes = settings.routing.routes
    match = matcher({pattern: number for number, route in enumerate(routes) for pattern in route.models})
    asked = match(model) if model else None
    for number, route in enumerate(routes):
        service = ModelService(route, settings.connect_timeout_seconds)
        yield from _route(service, route, model if number == asked else None)
    if model and asked is None:
        yield Finding(False, f"model {model}: no route in ROUTES_FILE takes it")


def _route(service: ModelService, route: Route, model: str | None) -> Iterator[Finding]:
    """A route's list of models, and `model` if there is one to ask for: one that answers says more than any list."""
    name = "model service" if route.name == ONLY_ROUTE else f"route {route.name}"
    listed = None if MODEL_FIELD in route.url else service.probe("/v1/models", PROBE_SECONDS)
    answer = _answers(service, model, route) if model else None
    if listed is not None:
        has_answered = answer is not None and answer.ok and not answer.doubtful
        yield _besides(name, listed, route) if has_answered else _listing(name, listed, route)
    elif answer is None:
        yield Finding(True, f"{name}: not asked, since its URL has a model's name in it: see --model NAME")
    if answer is not None:
        yield answer


def _besides(name: str, result: ModelReply | ModelFailure, route: Route) -> Finding:
    """The list of a service whose model has answered: that there is none does no harm, and anything else is a doubt."""
    finding = _listing(name, result, route)
    if finding.ok and not finding.doubtful:
        return finding
    why = _unreached(result) if isinstance(result, ModelFailure) else f"status {result.status}"
    text = f"{name}: gives no list of models at GET /v1/models ({why}), but its model answers"
    is_missing = isinstance(result, ModelReply) and result.status in _NO_LIST
    return Finding(True, text, doubtful=not is_missing)


def _listing(name: str, result: ModelReply | ModelFailure, route: Route) -> Finding:
    url, key = ("MODEL_URL", "MODEL_API_KEY") if route.name == ONLY_ROUTE else ("url", "the key")
    if result is ModelFailure.NO_CREDENTIALS:
        return Finding(False, f"{name}: {_unreached(result)}")
    if isinstance(result, ModelFailure):
        return Finding(False, f"{name}: {_unreached(result)}: is {url} right, and the service running?")
    if result.status in (401, 403) and route.auth.startswith("google"):
        return Finding(False, f"{name}: refuses the token (status {result.status}): {_GRANTS[route.auth]}")
    if result.status in (401, 403):
        return Finding(False, f"{name}: refuses the key (status {result.status}): set {key} to a valid one")
    if result.status in _NO_LIST:
        return _unlisted(name, result.status, url)
    if result.status != 200:
        return Finding(False, f"{name}: GET /v1/models gives status {result.status}; see whether --model NAME answers")
    if (reading := read(result)).kind is not Kind.ANSWER:
        return Finding(False, f"{name}: GET /v1/models: {_said(reading)}: {url} points at something else")
    names = _model_names(reading.answer.body)
    if names is None:
        return Finding(False, f"{name}: GET /v1/models gives no list of models: {url} points at something else")
    return Finding(True, f"{name}: answers {_WITH[route.auth]}; it serves {', '.join(names) or 'no model yet'}")


_NO_LIST = (404, 405)


def _unlisted(name: str, status: int, url: str) -> Finding:
    """Some services that work have no list of models there; but at a wrong URL nothing has: a model has to answer."""
    return Finding(
        False,
        f"{name}: GET /v1/models gives status {status}. {url} should be what comes before /v1 in the service's own "
        "URLs; if this service has no list of models, see whether one answers (--model NAME)",
    )


_WITH = {"none": "without a key", "key": "with the key"} | dict.fromkeys(
    ("google-id-token", "google-access-token"), "with a token"
)
_GRANTS = {
    "google-id-token": "its account needs roles/run.invoker there, and MODEL_AUDIENCE the URL that the service expects",
    "google-access-token": "its account needs roles/aiplatform.user in the model's project",
}


def _model_names(body: bytes) -> list[str] | None:
    try:
        return [str(model["id"]) for model in strictjson.loads(body, finite=False)["data"]]
    except (strictjson.JsonError, LookupError, TypeError):
        return None


# What a model may serve, by its path's ending, and one token's worth of asking for it; what is used most comes first.
_ASKED: Mapping[str, Mapping[str, Any]] = {
    "/completions": {"prompt": "1", "max_tokens": 1},
    "/chat/completions": {"messages": [{"role": "user", "content": "1"}], "max_tokens": 1},
    "/embeddings": {"input": "1"},
    "/rerank": {"query": "1", "documents": ["1"]},
    "/score": {"text_1": "1", "text_2": "1"},
    "/responses": {"input": "1", "max_output_tokens": 16},  # OpenAI takes no less
    "/messages": {"messages": [{"role": "user", "content": "1"}], "max_tokens": 1},
}


def _to_ask(paths: Collection[str]) -> list[str]:
    """Those of the paths that can be asked for little and without a file, in the order of the table."""
    return [path for ending in _ASKED for path in paths if _ending(path) == ending]


def _ending(path: str) -> str:
    """The longest ending of a path that the table has; "" if it has none."""
    return max((ending for ending in _ASKED if path.endswith(ending)), key=len, default="")


def _answers(service: ModelService, model: str, route: Route) -> Finding:
    """Ask the model on each path that requests may take, until one answers."""
    real = route.model or model
    tried: list[str] = []
    for path in _to_ask(route.allowed_paths):
        body = strictjson.dumps({"model": real, **_ASKED[_ending(path)]})
        result = service.call(path, body, PROBE_SECONDS, model=model)
        if isinstance(result, ModelFailure):
            return Finding(False, f"model {model}: {_unreached(result)}")
        reading = read(result)
        if reading.kind is Kind.ANSWER:
            before = f" ({'; '.join(tried)})" if tried else ""
            return Finding(True, f"model {model}: {path} gives status {result.status}{before}")
        tried.append(f"{path}: {_said(reading)}")
    return _unanswered(model, tried, route)


def _unanswered(model: str, tried: list[str], route: Route) -> Finding:
    """No path answers. Where none could be asked nothing is known of the model, and that is a doubt."""
    others = ", ".join(path for path in route.allowed_paths if not _ending(path))
    if not tried:
        text = f"not asked, since there is no small request to try its paths with ({others}): send it one of your own"
        return Finding(True, f"model {model}: {text}", doubtful=True)
    left = f". Not asked, for want of a small request: {others}" if others else ""
    return Finding(False, f"model {model}: no path answers. {'; '.join(tried)}{left}")


def _said(reading: Reading) -> str:
    """What the model says in place of an answer, in a line."""
    if reading.answer.error_code == ErrorCode.INVALID_MODEL_RESPONSE and not reading.detail.startswith("status"):
        return f"the answer {reading.detail.partition(':')[0]}"  # what follows is for the log
    answer = strictjson.loads(reading.answer.body, finite=False)
    complaint = complaint_in(answer, succeeded=False)
    words = " ".join(complaint.message.split())[:200] if complaint else ""
    return f"{reading.detail}{f' ({words})' if words else ''}"


def _unreached(failure: ModelFailure) -> str:
    return {
        ModelFailure.UNREACHABLE: "cannot be connected to",
        ModelFailure.TIMEOUT: f"does not answer within {PROBE_SECONDS:g} s",
        ModelFailure.NO_CREDENTIALS: "no token could be had; the reason is logged above",
    }.get(failure, "ends the connection, or speaks no HTTP")


def _keys(url: str) -> Finding:
    try:
        keys = parse(download(url).body)
    except KeysUnavailable as error:
        return Finding(False, f"push keys: {error}; PUSH_CERTS_URL is where they were looked for")
    return Finding(True, f"push keys: {len(keys)} found")


def _ledger(ledger: Ledger) -> Finding:
    """Work on a message that does not exist; whoever claims and releases has read and written."""
    key, owner = "check", uuid.uuid4().hex
    if ledger.claim(key, owner).state is State.MINE:
        ledger.release(key, owner, failed=False)
    if ledger.troubles:
        return Finding(False, "ledger: Redis does not work; is LEDGER_URL right? The reason is logged above")
    return Finding(True, "ledger: Redis reads and writes")


def _buckets(settings: Settings) -> Iterator[Finding]:
    """Look for an object in each bucket that requests may refer to, and write one into that of responses."""
    storage = claim_check(settings)
    for bucket in settings.request_buckets:
        problem = storage.cannot_read(bucket)
        text = f"cannot be read: {problem}" if problem else "can be read"
        yield Finding(not problem, f"request bucket {bucket}: {text}")
    if settings.response_bucket:
        problem = storage.cannot_write()
        text = f"cannot be written: {problem}" if problem else "took an object"
        yield Finding(not problem, f"response bucket {settings.response_bucket}: {text}")


def _topics(settings: Settings) -> Iterable[str]:
    """Every topic that a response may go to."""
    of_streams = (stream.response_topic for stream in settings.routing.streams)
    return dict.fromkeys((settings.response_topic, *of_streams, *settings.response_topics))


def _publish(publisher: Publisher, topic: str, seconds: float) -> Finding:
    data = encode_response(Answer(200, b'{"relay_check":true}'), {})
    try:
        message_id = publisher.publish(OutgoingMessage(data, {"relay_check": "true"}, topic=topic), seconds)
    except (PublishFailed, PublishRefused) as error:
        return Finding(False, f"response topic: {topic} takes no publish: {error}")
    return Finding(True, f"response topic: {topic} took message {message_id}")

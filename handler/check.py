"""`inference-relay check`: what is right and what is wrong, in plain words, before any traffic."""

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from handler import strictjson
from handler.config import Settings, SettingsError
from handler.contract import Answer, encode_response
from handler.keys import KeysUnavailable, download, parse
from handler.ledger import Ledger, State
from handler.ledger.connect import connect
from handler.model.service import ModelService
from handler.outcome import ModelFailure, ModelReply
from handler.publisher import OutgoingMessage, Publisher, PublishFailed, PublishRefused

PROBE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    ok: bool
    text: str


def run(environment: Mapping[str, str], model: str | None = None) -> Iterator[Finding]:
    """Look at the settings, then the model service, then the topic; `model` is asked for one token if given."""
    try:
        settings = Settings.from_environment(environment)
    except SettingsError as error:
        yield from (Finding(False, f"settings: {problem}") for problem in error.problems)
        return
    yield Finding(True, "settings: complete and consistent")
    service = ModelService(settings)
    yield _listing(service.probe("/v1/models", PROBE_SECONDS), settings)
    if model:
        yield _completion(service, model)
    if settings.push_auth == "verify":
        yield _keys(settings.push_certs_url)
    if settings.ledger_url is not None:
        yield _ledger(connect(settings))
    yield _publish(Publisher(settings.response_topic), settings)


def _listing(result: ModelReply | ModelFailure, settings: Settings) -> Finding:
    if isinstance(result, ModelFailure):
        return Finding(False, f"model service: {_unreached(result)}: is MODEL_URL right, and the service running?")
    if result.status in (401, 403):
        return Finding(
            False, f"model service: refuses the key (status {result.status}): set MODEL_API_KEY to a valid one"
        )
    if result.status != 200:
        return Finding(
            False,
            f"model service: GET /v1/models gives status {result.status}. MODEL_URL should be what comes before /v1 in "
            "the service's own URLs; if this service has no list of models, see whether --model NAME answers",
        )
    names = _model_names(result.body)
    if names is None:
        return Finding(
            False, "model service: GET /v1/models gives no list of models: MODEL_URL points at something else"
        )
    key = "with the key" if settings.model_api_key else "without a key"
    return Finding(True, f"model service: answers {key}; it serves {', '.join(names) or 'no model yet'}")


def _model_names(body: bytes) -> list[str] | None:
    try:
        return [str(model["id"]) for model in strictjson.loads(body)["data"]]
    except (strictjson.JsonError, LookupError, TypeError):
        return None


def _completion(service: ModelService, model: str) -> Finding:
    body = strictjson.dumps({"model": model, "prompt": "1", "max_tokens": 1})
    result = service.call("/v1/completions", body, PROBE_SECONDS)
    if isinstance(result, ModelFailure):
        return Finding(False, f"model {model}: {_unreached(result)}")
    return Finding(result.status == 200, f"model {model}: /v1/completions gives status {result.status}")


def _unreached(failure: ModelFailure) -> str:
    return {
        ModelFailure.UNREACHABLE: "cannot be connected to",
        ModelFailure.BROKEN: "ends the connection, or speaks no HTTP",
        ModelFailure.TIMEOUT: f"does not answer within {PROBE_SECONDS:g} s",
    }[failure]


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


def _publish(publisher: Publisher, settings: Settings) -> Finding:
    data = encode_response(Answer(200, b'{"relay_check":true}'), {})
    try:
        message_id = publisher.publish(OutgoingMessage(data, {"relay_check": "true"}), settings.publish_timeout_seconds)
    except (PublishFailed, PublishRefused) as error:
        return Finding(False, f"response topic: {settings.response_topic} takes no publish: {error}")
    return Finding(True, f"response topic: took message {message_id}")

"""The decision table, row by row."""

import json
import logging

import pytest

from handler.rules.message.contract import Answer
from handler.rules.verdict.budget import Budget, Limit
from handler.rules.verdict.outcome import (
    FACTS,
    ModelFailure,
    ModelReply,
    Reason,
    Situation,
    Verdict,
    decide,
    past_deadline,
    situation,
    too_large,
)

JSON = "application/json"
OPENAI_ERROR = b'{"error": {"message": "no", "type": "invalid_request_error", "param": null, "code": null}}'
HTML = b"<html><h1>502 Bad Gateway</h1></html>"
FIRST = Situation(attempt=1, last=False, limit=Limit.MODEL_TIMEOUT)
LATER = Situation(attempt=2, last=False, limit=Limit.MODEL_TIMEOUT)
LAST = Situation(attempt=10, last=True, limit=Limit.MODEL_TIMEOUT)
UNCOUNTED = Situation(attempt=None, last=False, limit=Limit.MODEL_TIMEOUT)


def code(verdict):
    """The error code of a verdict's answer."""
    return json.loads(verdict.answer.body)["error"]["code"]


# --- what the model answered goes back as it is


@pytest.mark.parametrize("status", [200, 201, 202, 206])
@pytest.mark.parametrize("body", [b'{"choices": []}', b"[]", b"null", b' {"a": 1e400}\n'])
def test_json_is_passed_on(status, body):
    """A 2xx with JSON is the answer, byte by byte."""
    assert decide(ModelReply(status, JSON, body), FIRST) == Verdict(Reason.ANSWERED, Answer(status, body))


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/x+json"])
def test_json_by_any_name(content_type):
    """The media type decides, not its spelling."""
    assert decide(ModelReply(200, content_type, b"{}"), FIRST).answer == Answer(200, b"{}")


@pytest.mark.parametrize("content_type", ["", "text/plain"])
def test_json_that_nobody_called_json(content_type):
    """Servers that forget the content type still answer."""
    assert decide(ModelReply(200, content_type, b' {"a": 1}'), FIRST).answer == Answer(200, b' {"a": 1}')


@pytest.mark.parametrize(
    ("content_type", "body", "encoding", "content"),
    [
        ("audio/mpeg", b"\xff\xfb", "base64", "//s="),
        ("text/plain", b"hello", "utf-8", "hello"),
        ("text/vtt", b"WEBVTT", "utf-8", "WEBVTT"),
        ("application/octet-stream", b"{not json", "base64", "e25vdCBqc29u"),
    ],
)
def test_other_whole_content_is_wrapped(content_type, body, encoding, content):
    """Audio and text are answers too."""
    answer = decide(ModelReply(200, content_type, body), FIRST).answer
    assert json.loads(answer.body) == {"content_type": content_type, "encoding": encoding, "content": content}


@pytest.mark.parametrize("status", [400, 404, 405, 413, 415, 422, 499, 501, 505])
def test_a_refusal_by_the_model_is_an_answer(status):
    """An error that no retry can mend goes back at once, as the model wrote it."""
    verdict = decide(ModelReply(status, JSON, OPENAI_ERROR), FIRST)
    assert (verdict.reason, verdict.answer) == (Reason.ANSWERED, Answer(status, OPENAI_ERROR))


@pytest.mark.parametrize(
    "body", [b'{"error": "model \'x\' not found"}', b'{"object": "error", "message": "no such model"}']
)
def test_an_unknown_model_is_the_requesters_mistake(body):
    """A 404 in the API's own words goes back at once."""
    assert decide(ModelReply(404, JSON, body), FIRST).answer == Answer(404, body)


def test_a_refusal_that_is_no_json_is_quoted():
    """The requester gets an error object with the start of the text."""
    verdict = decide(ModelReply(413, "text/html", HTML * 100), FIRST)
    assert verdict.answer.status_code == 413
    assert code(verdict) == "model_error"
    message = json.loads(verdict.answer.body)["error"]["message"]
    assert "502 Bad Gateway" in message
    assert len(message) < 1_200


# --- a bad minute of the model: redelivered, answered with its error at the last attempt


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504, 507, 529, 599])
def test_a_bad_minute(status):
    """Temporary errors are retried; the last attempt answers with the model's own."""
    reply = ModelReply(status, JSON, OPENAI_ERROR)
    assert decide(reply, FIRST) == Verdict(Reason.MODEL_FAILED, detail=f"status {status}")
    gave_up = decide(reply, LAST)
    assert (gave_up.reason, gave_up.answer) == (Reason.GAVE_UP, Answer(status, OPENAI_ERROR))


@pytest.mark.parametrize("status", [401, 402, 403, 407])
def test_an_operators_fault(status):
    """A rotated key is retried, loudly, and in the end the model's own words go back."""
    reply = ModelReply(status, JSON, OPENAI_ERROR)
    verdict = decide(reply, LATER)
    assert (verdict.reason, verdict.answer, verdict.facts.level) == (Reason.MODEL_MISCONFIGURED, None, logging.ERROR)
    assert decide(reply, LAST).answer == Answer(status, OPENAI_ERROR)


@pytest.mark.parametrize(
    ("content_type", "body"), [("text/html", HTML), (JSON, b'{"detail":"Not Found"}'), (JSON, b"[]")]
)
def test_a_404_that_is_not_the_apis_own(content_type, body):
    """An ingress without the route is the operator's fault, not the requester's."""
    reply = ModelReply(404, content_type, body)
    assert decide(reply, FIRST).reason is Reason.MODEL_MISCONFIGURED
    assert decide(reply, LAST).answer.status_code == 404


@pytest.mark.parametrize("status", [300, 301, 302, 307, 308, 304])
def test_a_redirect_is_never_followed(status):
    """A redirect is the operator's fault; the last attempt answers with an error of our own."""
    reply = ModelReply(status, "text/html", HTML)
    assert decide(reply, FIRST).reason is Reason.MODEL_MISCONFIGURED
    assert (decide(reply, LAST).answer.status_code, code(decide(reply, LAST))) == (502, "invalid_model_response")


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (ModelReply(200, JSON, b""), "empty"),
        (ModelReply(200, JSON, b" \n"), "empty"),
        (ModelReply(204, "", b""), "empty"),
        (ModelReply(200, "audio/mpeg", b""), "empty"),
        (ModelReply(200, JSON, b'{"choices": ['), "not whole JSON"),
        (ModelReply(200, "", b"hello"), "not whole JSON"),
        (ModelReply(200, JSON, b'{"choices": null}'), "no choices"),
        (ModelReply(200, JSON, b"[" * 100_000), "not whole JSON"),
        (ModelReply(200, "text/event-stream", b"data: {}\n\n"), "event stream"),
        (ModelReply(200, "text/html; charset=utf-8", HTML), "HTML"),
        (ModelReply(200, JSON, b"\x1f\x8b", content_encoding="gzip"), "compressed"),
        (ModelReply(600, JSON, b"{}"), "status 600"),
        (ModelReply(199, JSON, b"{}"), "status 199"),
    ],
)
def test_no_answer_at_all(reply, said):
    """A success without content is no success: retried, and a 502 in the end."""
    assert decide(reply, FIRST).answer is None
    assert decide(reply, FIRST).status == 503
    gave_up = decide(reply, LAST)
    assert (gave_up.answer.status_code, code(gave_up)) == (502, "invalid_model_response")
    assert said in json.loads(gave_up.answer.body)["error"]["message"]


@pytest.mark.parametrize(
    ("failure", "error_code"),
    [(ModelFailure.UNREACHABLE, "model_unreachable"), (ModelFailure.BROKEN, "invalid_model_response")],
)
def test_no_http_response(failure, error_code):
    """A model that is away is waited for; the last attempt answers 502."""
    assert decide(failure, FIRST) == Verdict(Reason.MODEL_FAILED, detail=failure.value)
    gave_up = decide(failure, LAST)
    assert (gave_up.reason, gave_up.answer.status_code, code(gave_up)) == (Reason.GAVE_UP, 502, error_code)


# --- how often a call is paid for that brings no answer

NONSENSE = ModelReply(200, JSON, b'{"choices": [')
BEFORE = "was not whole JSON"


def at(attempt, before=""):
    """A delivery of this number, whose last call came to this."""
    return Situation(attempt=attempt, last=False, limit=Limit.MODEL_TIMEOUT, before=before)


@pytest.mark.parametrize(
    ("now", "answered"),
    [
        (at(1), False),
        (at(2, before="status 503"), False),
        (at(2, before="was empty"), False),
        (at(2, before=BEFORE), True),
        (at(1, before=BEFORE), True),
        (at(None), False),
        (at(None, before=BEFORE), True),
        (at(3), True),
    ],
)
def test_the_same_nonsense_twice_is_answered(now, answered):
    """It is paid for, and comes again: the second answer ends it, or the third where nobody remembers the first."""
    verdict = decide(NONSENSE, now)
    assert (verdict.reason is Reason.GAVE_UP) is answered
    assert decide(NONSENSE, at(1)).detail == BEFORE


@pytest.mark.parametrize(
    "result", [NONSENSE, ModelReply(200, "text/event-stream", b"data: start"), ModelFailure.GARBLED]
)
def test_nonsense_is_quoted(result):
    """Whoever gets the error sees how the answer began, where it has come that far."""
    verdict = decide(result, at(3))
    assert (verdict.answer.status_code, code(verdict)) == (502, "invalid_model_response")
    start = "" if result is ModelFailure.GARBLED else f"It began: {result.body.decode()}"
    assert start in json.loads(verdict.answer.body)["error"]["message"]


@pytest.mark.parametrize(
    ("now", "answered"),
    [
        (at(1), False),
        (at(2), False),
        (at(2, before="status 500"), False),
        (at(3), True),
        (at(None), False),
    ],
)
def test_few_attempts_where_nobody_can_tell(now, answered):
    """A 500 that no row knows may be the request's own: three attempts, and then the model's own words."""
    reply = ModelReply(500, JSON, OPENAI_ERROR)
    verdict = decide(reply, now)
    assert (verdict.reason is Reason.GAVE_UP) is answered
    assert verdict.answer == (Answer(500, OPENAI_ERROR) if answered else None)


@pytest.mark.parametrize("status", [401, 404, 429, 502, 503, 504])
def test_other_trouble_is_waited_for_to_the_end(status):
    """What cannot be the request's own never ends it early."""
    reply = ModelReply(status, "text/html", HTML)
    assert decide(reply, at(9, before=f"status {status}")).answer is None


def test_an_error_in_a_success():
    """It is treated like the status that it names, and never an answer of the model's."""
    reply = ModelReply(200, JSON, b'{"choices": null, "error": {"message": "no", "code": 503}}')
    assert decide(reply, FIRST) == Verdict(Reason.MODEL_FAILED, detail="status 200 with an error in it")
    assert decide(reply, LAST).answer == Answer(503, reply.body)


def test_the_log_says_what_the_table_knows():
    """And never the model's words."""
    verdict = decide(ModelReply(400, JSON, b'{"error": "Model m is not ready yet."}'), FIRST)
    assert (verdict.reason, verdict.detail) == (Reason.MODEL_FAILED, "status 400: not ready yet")


def test_a_compressed_error_is_not_quoted():
    """Bytes that nobody can read help nobody."""
    verdict = decide(ModelReply(400, JSON, b"\x1f\x8b\x08", content_encoding="gzip"), FIRST)
    assert json.loads(verdict.answer.body)["error"]["message"].endswith("no JSON.")


# --- timeouts


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        (FIRST, Reason.MODEL_FAILED),
        (LATER, Reason.MODEL_TIMED_OUT),
        (UNCOUNTED, Reason.MODEL_TIMED_OUT),
        (LAST, Reason.MODEL_TIMED_OUT),
        (Situation(attempt=1, last=True, limit=Limit.MODEL_TIMEOUT), Reason.GAVE_UP),
        (Situation(attempt=9, last=True, limit=Limit.PUSH_DEADLINE, share=0.1), Reason.GAVE_UP),
        (Situation(attempt=1, last=False, limit=Limit.REQUEST_TIMEOUT), Reason.MODEL_TIMED_OUT),
    ],
)
def test_timeouts(now, reason):
    """The whole MODEL_TIMEOUT is paid at most twice; a limit of the requester's own is answered at once."""
    verdict = decide(ModelFailure.TIMEOUT, now)
    assert verdict.reason is reason
    if verdict.answer:
        assert (verdict.answer.status_code, code(verdict)) == (504, "model_timeout")


@pytest.mark.parametrize(
    ("limit", "share", "said", "helps"),
    [
        (Limit.MODEL_TIMEOUT, 1.0, "did not finish within 90 s", "have the limit raised"),
        (Limit.REQUEST_TIMEOUT, 0.1, "did not finish within 90 s", "raise options.timeout_seconds"),
        (Limit.PUSH_DEADLINE, 0.998, "did not finish within 90 s", "have the limit raised"),
        (Limit.PUSH_DEADLINE, 0.3, "had waited", "when there is less to do"),
    ],
)
def test_what_a_requester_is_told_of_a_timeout(limit, share, said, helps):
    """The time that there was, and what may help: settings are the operator's, whatever set them. A wait is a wait."""
    now = situation(10, Budget(90.0, limit, share), max_attempts=10, age=1.0, max_age=10.0)
    message = json.loads(decide(ModelFailure.TIMEOUT, now).answer.body)["error"]["message"]
    assert said in message
    assert helps in message
    assert "SECONDS" not in message
    assert ("Ask for less" in message) is (said != "had waited")


def test_cut_at_the_requests_deadline():
    """A call that reached the request's own deadline is answered as a late request is."""
    verdict = decide(ModelFailure.TIMEOUT, Situation(attempt=1, last=False, limit=Limit.REQUEST_DEADLINE))
    assert (verdict.reason, verdict.answer) == (Reason.MODEL_TIMED_OUT, past_deadline())
    assert verdict.answer.status_code == 408


# --- sizes


def test_more_than_a_message_can_hold():
    """A response beyond Pub/Sub's limit is answered with an error, and not retried."""
    verdict = decide(ModelReply(200, JSON, b"{", truncated=True), FIRST)
    assert verdict == too_large()
    assert (verdict.status, verdict.answer.status_code, code(verdict)) == (204, 502, "response_too_large")


def test_an_endless_error_page_is_still_an_error():
    """The status decides; the start of the text is quoted."""
    reply = ModelReply(503, "text/html", HTML * 1000, truncated=True)
    assert decide(reply, FIRST).reason is Reason.MODEL_FAILED
    assert decide(reply, LAST).answer.status_code == 503


# --- the last attempt


@pytest.mark.parametrize(
    ("attempt", "age", "last"),
    [(1, 0, False), (9, 0, False), (10, 0, True), (11, 0, True), (None, 0, False), (None, 100, True), (1, 100, True)],
)
def test_when_no_redelivery_is_waited_for(attempt, age, last):
    """MAX_ATTEMPTS counts where Pub/Sub counts; MAX_AGE always."""
    assert last is situation(attempt=attempt, max_attempts=10, age=age, max_age=100).last


# --- what Pub/Sub is told


def test_every_reason_has_a_verdict():
    """Nothing can happen that has no status and no severity."""
    assert set(FACTS) == set(Reason)


@pytest.mark.parametrize("facts", FACTS.values(), ids=FACTS)
def test_what_the_facts_of_a_reason_leave_room_for(facts):
    """A message is given back for a failed attempt, or for none; what is answered alone may have been free."""
    assert facts.is_failure + facts.is_no_attempt + facts.is_free <= 1
    assert facts.is_free <= (facts.status == 204)
    assert facts.is_failure + facts.is_no_attempt <= (facts.status >= 400)


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        (Reason.ANSWERED, 204),
        (Reason.REQUEST_REFUSED, 204),
        (Reason.MODEL_TIMED_OUT, 204),
        (Reason.RESPONSE_TOO_LARGE, 204),
        (Reason.GAVE_UP, 204),
        (Reason.MODEL_FAILED, 503),
        (Reason.MODEL_MISCONFIGURED, 503),
        (Reason.PUBLISH_FAILED, 503),
        (Reason.BUSY, 429),
        (Reason.DRAINING, 503),
        (Reason.NOT_A_PUSH, 400),
        (Reason.PUSH_TOO_LARGE, 413),
        (Reason.UNAUTHENTICATED, 401),
        (Reason.FORBIDDEN, 403),
        (Reason.KEYS_UNAVAILABLE, 503),
        (Reason.BUG, 500),
    ],
)
def test_status_for_pubsub(reason, status):
    """204 acknowledges everywhere; everything else is delivered again."""
    assert status == Verdict(reason).status


def test_an_acknowledged_message_always_has_an_answer():
    """No result of a model call, in any situation, acknowledges without an answer, or answers without acknowledging."""
    results = [*ModelFailure, *(ModelReply(status, JSON, body) for status in range(200, 600) for body in (b"{}", b""))]
    for result in results:
        for now in (FIRST, LATER, LAST, UNCOUNTED):
            verdict = decide(result, now)
            assert (verdict.status == 204) is (verdict.answer is not None)

"""What can be observed of a broker from outside, on two brokers: ours and Google's emulator.

Each test tells what it saw. The decorator holds what the real service does by its documentation, and where a broker
differs. The table in docs/local-pubsub.md is made from these: `python tests/pubsub/test_contract.py` prints it.
"""

import functools
import json
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import google.auth.jwt
import grpc
import pytest
from google.api_core.exceptions import GoogleAPICallError

PAGE = Path(__file__).parents[2] / "docs" / "local-pubsub.md"
DOCS = "cloud.google.com/pubsub/docs"
PATIENCE = 40
DAY = 86_400
BEHAVIOURS: list[dict[str, Any]] = []


def behaviour(text: str, source: str, real: Any, **differs: Any) -> Callable[[Callable[..., Any]], Any]:
    """State a behaviour: `real` by the `source`; `ours=` and `google=` only where a broker differs from it."""
    BEHAVIOURS.append({"text": text, "source": source, "real": real, **differs})

    def decorate(look: Callable[..., Any]) -> Callable[..., None]:
        @functools.wraps(look)
        def test(*args: Any, broker: Any, **kwargs: Any) -> None:
            assert look(*args, broker=broker, **kwargs) == differs.get(broker.kind, real)

        return test

    return decorate


def held(endpoint: Any) -> tuple[threading.Event, Callable[[Any], int]]:
    """Make an answer that waits for the event."""
    release = threading.Event()

    def answer(_: Any) -> int:
        release.wait(60)
        return 204

    return release, answer


def status_of(call: Callable[[], Any]) -> str:
    """Tell the status that a call is answered with."""
    try:
        call()
    except GoogleAPICallError as error:
        return str(error.grpc_status_code.name)
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"


# ---- ack and nack


@behaviour(
    "statuses that ack, of 102 200 201 202 203 204 206 302 307 400 404 429 500 503",
    f"{DOCS}/push",
    "102 200 201 202 204",
    google="102 200 201 203 204",
)
def test_ack_statuses(broker: Any, endpoint: Any) -> str:
    codes = ["102", "200", "201", "202", "203", "204", "206", "302", "307", "400", "404", "429", "500", "503"]
    topic = broker.topic()
    broker.subscribe(topic, push=endpoint.url, enable_message_ordering=True)
    seen: dict[str, list[str]] = {code: [] for code in codes}

    def answer(push: Any) -> int:
        code, step = push.message["attributes"]["code"], push.message["attributes"]["step"]
        seen[code].append(step)
        return int(code) if seen[code] == ["first"] else 204

    # Of each key the second message comes only once the first was acked: no waiting to see that nothing comes.
    endpoint.answer = answer
    for step in ("first", "second"):
        steps = ({"attributes": {"code": code, "step": step}, "ordering_key": code} for code in codes)
        broker.publish(topic, *steps)
    assert endpoint.wait(lambda: all(steps[-1:] == ["second"] for steps in seen.values()))
    return " ".join(code for code in codes if seen[code] == ["first", "second"])


@behaviour("a redirect is followed", f"{DOCS}/push (only the listed statuses ack)", "no", google="yes, a 307")
def test_redirects(broker: Any, endpoint: Any) -> str:
    topic = broker.topic()
    broker.subscribe(topic, push=endpoint.url)
    endpoint.answer = lambda push: 204 if push.number or push.path != "/push" else 307
    broker.publish(topic, {"data": b"x"})
    return "no" if [push.path for push in endpoint.wait_for(2)] == ["/push", "/push"] else "yes, a 307"


@behaviour("an endpoint that closes the connection gets the message again", f"{DOCS}/push", "yes")
def test_dropped_connection(broker: Any, endpoint: Any) -> str:
    topic = broker.topic()
    broker.subscribe(topic, push=endpoint.url)
    endpoint.answer = lambda push: 204 if push.number else None
    broker.publish(topic, {"data": b"x"})
    first, second = endpoint.wait_for(2)
    return "yes" if first.message["messageId"] == second.message["messageId"] else "no"


@behaviour(
    "a push that outlasts the ack deadline is sent again while it is still running, and its late 204 is no ack",
    f"{DOCS}/push (the ack deadline is the time to answer)",
    "yes",
)
def test_late_answer(broker: Any, endpoint: Any) -> str:
    topic = broker.topic()
    broker.subscribe(topic, push=endpoint.url, ack_deadline_seconds=broker.shortest_deadline)
    release = threading.Event()

    def answer(push: Any) -> int:
        if push.number == 0:
            release.wait(60)
            return 204
        release.set()
        endpoint.wait(lambda: endpoint.busy == 1)  # the first push has been answered before this one
        return 500 if push.number == 1 else 204

    endpoint.answer = answer
    broker.publish(topic, {"data": b"x"})
    return "yes" if len({push.message["messageId"] for push in endpoint.wait_for(3)}) == 1 else "no"


@behaviour("concurrent pushes to an endpoint that has acked before", f"{DOCS}/push (push window)", "many", google="2")
def test_concurrent_pushes(broker: Any, endpoint: Any) -> str:
    topic = broker.topic()
    broker.subscribe(topic, push=endpoint.url)
    broker.publish(topic, *[{"data": b"warm"} for _ in range(5)])
    endpoint.wait_for(5)
    release, endpoint.answer = held(endpoint)
    broker.publish(topic, *[{"data": b"x"} for _ in range(20)])
    endpoint.wait(lambda: endpoint.busy >= 20, PATIENCE if broker.kind == "ours" else 2)
    most = endpoint.most_busy
    release.set()
    return "many" if most >= 20 else str(most)


# ---- retry and dead letters

_ATTRIBUTES = "DeliveryCount Subscription SubscriptionProject TopicPublishTime"


_FUNERALS: dict[str, tuple[list[Any], Any, str]] = {}  # by kind of broker: Google's emulator takes 13 s for one


def _dead(broker: Any, endpoint: Any) -> tuple[list[Any], Any, str]:
    if broker.kind not in _FUNERALS:
        _FUNERALS[broker.kind] = _bury(broker, endpoint)
    return _FUNERALS[broker.kind]


def _bury(broker: Any, endpoint: Any) -> tuple[list[Any], Any, str]:
    source, dead = broker.topic(), broker.topic()
    funeral = broker.subscribe(dead)
    endpoint.answer = lambda _: 500
    policy = {"dead_letter_topic": dead, "max_delivery_attempts": 5}
    retry = {"minimum_backoff": {"nanos": 1_000_000}, "maximum_backoff": {"nanos": 1_000_000}}
    broker.subscribe(source, push=endpoint.url, dead_letter_policy=policy, retry_policy=retry)
    [message_id] = broker.publish(source, {"data": b"x", "attributes": {"a": "b"}})
    [received] = broker.pull(funeral, 1)
    return endpoint.wait_for(5), received.message, message_id


@behaviour(
    "attributes added to a dead letter, each CloudPubSubDeadLetterSource...",
    f"{DOCS}/handling-failures",
    _ATTRIBUTES,
)
def test_dead_letter(broker: Any, endpoint: Any) -> str:
    pushes, letter, message_id = _dead(broker, endpoint)
    attributes = dict(letter.attributes)
    assert (len(pushes), letter.data, attributes.pop("a")) == (5, b"x", "b")
    assert letter.message_id != message_id
    assert attributes["CloudPubSubDeadLetterSourceDeliveryCount"] == "5"
    assert attributes["CloudPubSubDeadLetterSourceSubscriptionProject"] == "p"
    assert attributes["CloudPubSubDeadLetterSourceSubscription"].startswith("s-")
    return " ".join(sorted(name.removeprefix("CloudPubSubDeadLetterSource") for name in attributes))


@behaviour("end of CloudPubSubDeadLetterSourceTopicPublishTime", f"{DOCS}/handling-failures (?)", "+00:00", google="Z")
def test_dead_letter_time(broker: Any, endpoint: Any) -> str:
    published = _dead(broker, endpoint)[1].attributes["CloudPubSubDeadLetterSourceTopicPublishTime"]
    return published[-6:] if published.endswith("+00:00") else published[-1]


@behaviour(
    "deliveryAttempt of five pushes under a dead-letter policy",
    f"{DOCS}/handling-failures",
    "1 2 3 4 5",
    google="none",
)
def test_delivery_attempt(broker: Any, endpoint: Any) -> str:
    attempts = [push.json.get("deliveryAttempt") for push in _dead(broker, endpoint)[0]]
    return "none" if set(attempts) == {None} else " ".join(map(str, attempts))


@behaviour("deliveryAttempt without a dead-letter policy", "google/pubsub/v1/pubsub.proto ReceivedMessage", "none")
def test_no_delivery_attempt(broker: Any, endpoint: Any) -> str:
    topic = broker.topic()
    broker.subscribe(topic, push=endpoint.url)
    broker.publish(topic, {"data": b"x"})
    return str(endpoint.wait_for(1)[0].json.get("deliveryAttempt", "none"))


@behaviour("delivery_attempt of pulled messages under a dead-letter policy", "pubsub.proto ReceivedMessage", "1 2")
def test_pulled_attempts(broker: Any) -> str:
    topic = broker.topic()
    name = broker.subscribe(topic, dead_letter_policy={"dead_letter_topic": broker.topic()})
    broker.publish(topic, {"data": b"x"})
    [first] = broker.pull(name, 1)
    broker.subscriber.modify_ack_deadline(subscription=name, ack_ids=[first.ack_id], ack_deadline_seconds=0)
    [second] = broker.pull(name, 1)
    return f"{first.delivery_attempt} {second.delivery_attempt}"


# ---- ordering


def _sequence(endpoint: Any) -> str:
    return " ".join(push.attribute("n") for push in endpoint.pushes)


def _ordered(broker: Any, endpoint: Any) -> str:
    topic = broker.topic()
    broker.subscribe(topic, push=endpoint.url, enable_message_ordering=True)
    for number in "123":
        broker.publish(topic, {"attributes": {"n": number}, "ordering_key": "k"})
    return str(topic)


@behaviour("pushes of messages 1 2 3 of one key, 1 nacked once", f"{DOCS}/ordering", "1 1 2 3")
def test_ordering(broker: Any, endpoint: Any) -> str:
    endpoint.answer = lambda push: 204 if push.number else 500
    _ordered(broker, endpoint)
    endpoint.wait_for(4)
    return _sequence(endpoint)


@behaviour("outstanding pushes of one ordering key, at most", f"{DOCS}/ordering", "1")
def test_one_outstanding(broker: Any, endpoint: Any) -> str:
    release = threading.Event()

    def answer(push: Any) -> int:
        if push.message.get("attributes", {}).get("n"):
            release.wait(60)
        return 204

    endpoint.answer = answer
    topic = _ordered(broker, endpoint)
    endpoint.wait_for(1)
    broker.publish(topic, {"data": b"x", "ordering_key": "another"})
    endpoint.wait_for(2)
    most = endpoint.busy
    release.set()
    endpoint.wait_for(4)
    return str(max(most, 1))


@behaviour(
    "pulls of messages 1 2 3 of one key: 2 and 3 are acked, 1 is nacked",
    f"{DOCS}/ordering (later messages are delivered again, acked or not)",
    "1 2 3, 1 2 3",
    google="1 2 3, nothing",
)
def test_replay(broker: Any) -> str:
    topic = broker.topic()
    name = broker.subscribe(topic, enable_message_ordering=True, ack_deadline_seconds=60)
    broker.publish(topic, *[{"data": number, "ordering_key": "k"} for number in (b"1", b"2", b"3")])
    first = broker.pull(name, 3)
    broker.subscriber.acknowledge(subscription=name, ack_ids=[each.ack_id for each in first[1:]])
    broker.subscriber.modify_ack_deadline(subscription=name, ack_ids=[first[0].ack_id], ack_deadline_seconds=0)
    if broker.kind == "google":
        again = broker.subscriber.pull(subscription=name, max_messages=3, timeout=3, retry=None).received_messages
    else:
        again = broker.pull(name, 3)
    return ", ".join(" ".join(each.message.data.decode() for each in batch) for batch in (first, again) if batch) + (
        "" if again else ", nothing"
    )


# ---- what a push looks like


def _push(broker: Any, endpoint: Any, message: dict[str, Any], **config: Any) -> Any:
    topic = broker.topic()
    broker.subscribe(topic, **({"push": endpoint.url} | config))
    broker.publish(topic, message)
    return endpoint.wait_for(1)[0]


_FULL = {"data": b"Hello \xff", "attributes": {"key": "v\u00e4lue"}, "ordering_key": "k"}


@behaviour(
    "fields of a wrapped message with everything",
    f"{DOCS}/push",
    "attributes data messageId message_id orderingKey publishTime publish_time",
    google="attributes data messageId message_id publishTime publish_time",
)
def test_wrapped(broker: Any, endpoint: Any) -> str:
    push = _push(broker, endpoint, _FULL)
    assert (push.message["data"], push.message["attributes"]) == ("SGVsbG8g/w==", {"key": "v\u00e4lue"})
    assert push.message["messageId"] == push.message["message_id"]
    assert push.message["publishTime"] == push.message["publish_time"]
    assert push.json["subscription"].startswith("projects/p/subscriptions/s-")
    assert push.headers["content-type"] == "application/json"
    return " ".join(sorted(push.message))


@behaviour("`attributes` and `data` in the body when empty", f"{DOCS}/push", "missing", google="present")
def test_wrapped_empty(broker: Any, endpoint: Any) -> str:
    first = _push(broker, endpoint, {"attributes": {"a": "b"}})
    endpoint.pushes.clear()
    second = _push(broker, endpoint, {"data": b"x"})
    return "present" if "data" in first.message or "attributes" in second.message else "missing"


@behaviour(
    "body of an unwrapped push, and metadata in its headers",
    f"{DOCS}/payload-unwrapping",
    "the data, none",
    google="other bytes where it is not UTF-8, none",
)
def test_unwrapped(broker: Any, endpoint: Any) -> str:
    push = _push(broker, endpoint, _FULL, push_config={"no_wrapper": {}})
    metadata = [name for name in push.headers if name.startswith("x-goog")] + [*filter("key".__eq__, push.headers)]
    body = "the data" if push.body == _FULL["data"] else "other bytes where it is not UTF-8"
    return f"{body}, {' '.join(metadata) or 'none'}"


@behaviour(
    "headers of an unwrapped push with write_metadata, x-goog-pubsub-... and attributes",
    f"{DOCS}/payload-unwrapping",
    "message-id ordering-key publish-time subscription-name, key=value",
    google="message-id publish-time subscription-name, key=value",
)
def test_unwrapped_metadata(broker: Any, endpoint: Any) -> str:
    message = {"data": b"x", "attributes": {"key": "value"}, "ordering_key": "k"}
    push = _push(broker, endpoint, message, push_config={"no_wrapper": {"write_metadata": True}})
    prefix = "x-goog-pubsub-"
    names = sorted(name.removeprefix(prefix) for name in push.headers if name.startswith(prefix))
    return f"{' '.join(names)}, key={push.headers.get('key')}"


@behaviour(
    "headers added by ?__GCP_CloudEventsMode=CUSTOM_PUBSUB_projects%2Fp%2Ftopics%2Ft",
    "cloud.google.com/eventarc/docs/cloudevents",
    "ce-id ce-source ce-specversion ce-time ce-type",
    google="none",
)
def test_eventarc(broker: Any, endpoint: Any) -> str:
    url = f"{endpoint.url}?__GCP_CloudEventsMode=CUSTOM_PUBSUB_projects%2Fp%2Ftopics%2Ft"
    push = _push(broker, endpoint, {"data": b"x"}, push=url)
    if push.headers.get("ce-id"):
        assert push.headers["ce-id"] == push.message["messageId"]
        assert push.headers["ce-source"] == "//pubsub.googleapis.com/projects/p/topics/t"
        assert push.headers["ce-type"] == "google.cloud.pubsub.topic.v1.messagePublished"
    return " ".join(sorted(name for name in push.headers if name.startswith("ce-"))) or "none"


@behaviour("a message of 9 MB is published and pushed whole", "cloud.google.com/pubsub/quotas", "yes")
def test_large(broker: Any, endpoint: Any) -> str:
    push = _push(broker, endpoint, {"data": b"x" * 9_000_000})
    return "yes" if len(push.message["data"]) == 12_000_000 else "no"


# ---- OIDC


@behaviour(
    "claims of the OIDC token, verified with the certificates",
    f"{DOCS}/authenticate-push-subscriptions",
    "aud azp email email_verified exp iat iss sub",
    google="no token",
)
def test_oidc(broker: Any, endpoint: Any) -> str:
    account = {"service_account_email": "push@p.iam.gserviceaccount.com", "audience": "me"}
    push = _push(broker, endpoint, {"data": b"x"}, push_config={"oidc_token": account})
    if "authorization" not in push.headers:
        return "no token"
    with urllib.request.urlopen(broker.local.certs_url) as answer:
        certificates, caching = json.load(answer), answer.headers["cache-control"]
    claims = google.auth.jwt.decode(push.headers["authorization"].removeprefix("Bearer "), certificates, audience="me")
    assert caching == "public, max-age=3600"
    assert (claims["iss"], claims["azp"]) == (broker.local.issuer, claims["sub"])
    assert (claims["email"], claims["email_verified"]) == ("push@p.iam.gserviceaccount.com", True)
    assert claims["exp"] - claims["iat"] == 3600
    return " ".join(sorted(claims))


@behaviour(
    "`aud` of the OIDC token when none is configured", "pubsub.proto OidcToken", "the push URL", google="no token"
)
def test_oidc_audience(broker: Any, endpoint: Any) -> str:
    push = _push(broker, endpoint, {"data": b"x"}, push_config={"oidc_token": {"service_account_email": "a@b"}})
    if "authorization" not in push.headers:
        return "no token"
    token = push.headers["authorization"].removeprefix("Bearer ")
    audience = google.auth.jwt.decode(token, verify=False)["aud"]
    return "the push URL" if audience == endpoint.url else audience


# ---- filters

_FILTER = 'attributes:a AND (attributes.b = "1" OR hasPrefix(attributes.c, "x")) AND NOT attributes.d != "2"'


@behaviour(f"messages that `{_FILTER}` lets through", f"{DOCS}/subscription-message-filter", "1 2", google="all")
def test_filter(broker: Any) -> str:
    topic = broker.topic()
    name = broker.subscribe(topic, filter=_FILTER)
    broker.publish(topic, {"data": b"0", "attributes": {"a": "", "b": "2", "d": "2"}})
    broker.publish(topic, {"data": b"1", "attributes": {"a": "", "b": "1", "d": "2"}})
    broker.publish(topic, {"data": b"0", "attributes": {"a": "", "b": "1", "d": "3"}})
    broker.publish(topic, {"data": b"2", "attributes": {"a": "", "c": "xy", "d": "2"}})
    found = " ".join(sorted(each.message.data.decode() for each in broker.pull(name, 2)))
    return "all" if "0" in found else found


# ---- pull


@behaviour("a pulled message comes again after a ModifyAckDeadline of 0", "pubsub.proto ModifyAckDeadline", "yes")
def test_nack(broker: Any) -> str:
    topic = broker.topic()
    name = broker.subscribe(topic, ack_deadline_seconds=600)
    broker.publish(topic, {"data": b"x"})
    [first] = broker.pull(name, 1)
    broker.subscriber.modify_ack_deadline(subscription=name, ack_ids=[first.ack_id], ack_deadline_seconds=0)
    [second] = broker.pull(name, 1)
    return "yes" if first.message.message_id == second.message.message_id else "no"


@behaviour(
    "messages of a streaming pull with max_outstanding_messages 2, before and after an ack",
    "pubsub.proto",
    "2 3",
    google="5",
)
def test_stream_flow_control(broker: Any) -> str:
    topic = broker.topic()
    name = broker.subscribe(topic)
    broker.publish(topic, *[{"data": b"x"} for _ in range(5)])
    opening = {"subscription": name, "stream_ack_deadline_seconds": 60, "max_outstanding_messages": 2}
    done, acks = threading.Event(), threading.Event()
    taken: list[str] = []

    def requests() -> Any:
        yield opening
        acks.wait(60)
        yield {"ack_ids": taken[:1]}
        done.wait(60)

    stream = broker.subscriber.streaming_pull(requests=map(_stream_request, requests()))
    counts = []
    for answer in stream:
        taken += [each.ack_id for each in answer.received_messages]
        if len(taken) >= 2:
            counts.append(len(taken))
            acks.set()
        if len(taken) > 2:
            break
    done.set()
    stream.cancel()
    return " ".join(map(str, counts))


def _stream_request(fields: dict[str, Any]) -> Any:
    from google.pubsub_v1.types import StreamingPullRequest

    return StreamingPullRequest(fields)


@behaviour("a pull from an empty subscription with return_immediately", "pubsub.proto PullRequest", "0 messages")
def test_empty_pull(broker: Any) -> str:
    name = broker.subscribe(broker.topic())
    with pytest.warns(DeprecationWarning, match="return_immediately"):
        answer = broker.subscriber.pull({"subscription": name, "max_messages": 1, "return_immediately": True})
    return f"{len(answer.received_messages)} messages"


# ---- administration


@behaviour(
    "defaults of a new subscription",
    "pubsub.proto Subscription",
    "10 s ack deadline, 7 d retention, 31 d expiry",
    google="10 s ack deadline, 7 d retention, 0 d expiry",
)
def test_defaults(broker: Any) -> str:
    got = broker.subscriber.get_subscription(subscription=broker.subscribe(broker.topic()))
    retention, expiry = got.message_retention_duration.days, got.expiration_policy.ttl.days
    return f"{got.ack_deadline_seconds} s ack deadline, {retention} d retention, {expiry} d expiry"


@behaviour("topic of a subscription whose topic was deleted", "pubsub.proto Subscription", "_deleted-topic_")
def test_deleted_topic(broker: Any) -> str:
    topic = broker.topic()
    name = broker.subscribe(topic)
    broker.publisher.delete_topic(topic=topic)
    return str(broker.subscriber.get_subscription(subscription=name).topic)


@behaviour("a push subscription becomes a pull subscription by ModifyPushConfig", "pubsub.proto", "yes")
def test_modify_push(broker: Any, endpoint: Any) -> str:
    topic = broker.topic()
    name = broker.subscribe(topic, push=endpoint.url)
    broker.subscriber.modify_push_config(subscription=name, push_config={})
    broker.publish(topic, {"data": b"x"})
    return "yes" if broker.pull(name, 1) and not endpoint.pushes else "no"


@behaviour(
    "retentions that are taken, of 10 min, 7 d and 31 d",
    "pubsub.proto Subscription",
    "600 s, 604800 s, 2678400 s",
    google="600 s, 604800 s",
)
def test_retention(broker: Any) -> str:
    taken = [kept for kept in (600, 7 * DAY, 31 * DAY) if _takes(broker, message_retention_duration=kept)]
    return ", ".join(f"{kept} s" for kept in taken)


@behaviour("expirations that are taken, of 1 d, 63 d and none", "pubsub.proto ExpirationPolicy", "1 d, 63 d, none")
def test_expiration(broker: Any) -> str:
    choices = {"1 d": {"ttl": DAY}, "63 d": {"ttl": 63 * DAY}, "none": {}}
    return ", ".join(name for name, ttl in choices.items() if _takes(broker, **ttl))


def _takes(broker: Any, **kept: int) -> bool:
    return status_of(lambda: _keep(broker, **kept)) == "OK"


@behaviour("ack and ModifyAckDeadline of 2,500 ack ids", "cloud.google.com/pubsub/quotas (512 KB)", "OK OK")
def test_many_ack_ids(broker: Any) -> str:
    return " ".join(status_of(lambda each=each: each(broker, 2500)) for each in (_acknowledge, _extend))


# ruff: noqa: E501 - a table
REFUSALS: list[tuple[str, Callable[[Any], Any], str, dict[str, str]]] = [
    ("publish to no such topic", lambda b: b.publish("projects/p/topics/none", {"data": b"x"}), "NOT_FOUND", {}),
    ("publish of no message", lambda b: b.publish(b.topic()), "INVALID_ARGUMENT", {}),
    ("publish of an empty message", lambda b: b.publish(b.topic(), {}), "INVALID_ARGUMENT", {}),
    ("publish of 1,001 messages", lambda b: b.publish(b.topic(), *[{"data": b"x"}] * 1001), "INVALID_ARGUMENT", {}),
    ("publish of 10 MB and more", lambda b: b.publish(b.topic(), {"data": b"x" * 10**7}), "INVALID_ARGUMENT", {"google": "OK"}),
    ("101 attributes", lambda b: b.publish(b.topic(), _with({f"k{n}": "" for n in range(101)})), "INVALID_ARGUMENT", {"google": "OK"}),
    ("an attribute key of 257 bytes", lambda b: b.publish(b.topic(), _with({"k" * 257: ""})), "INVALID_ARGUMENT", {"google": "OK"}),
    ("an attribute value of 1,025 bytes", lambda b: b.publish(b.topic(), _with({"k": "v" * 1025})), "INVALID_ARGUMENT", {"google": "OK"}),
    ("an empty attribute key", lambda b: b.publish(b.topic(), _with({"": "v"})), "INVALID_ARGUMENT", {"google": "OK"}),
    ("an attribute key that starts with goog", lambda b: b.publish(b.topic(), _with({"goog-x": "v"})), "INVALID_ARGUMENT", {"google": "OK"}),
    ("an ordering key of 1,025 bytes", lambda b: b.publish(b.topic(), {"data": b"x", "ordering_key": "k" * 1025}), "INVALID_ARGUMENT", {"google": "OK"}),
    ("a topic that exists", lambda b: b.publisher.create_topic(name=b.topic()), "ALREADY_EXISTS", {}),
    ("a topic name of two letters", lambda b: b.publisher.create_topic(name="projects/p/topics/ab"), "INVALID_ARGUMENT", {}),
    ("a topic name that starts with goog", lambda b: b.publisher.create_topic(name="projects/p/topics/goog1"), "INVALID_ARGUMENT", {}),
    ("a topic name with a space", lambda b: b.publisher.create_topic(name="projects/p/topics/a b c"), "INVALID_ARGUMENT", {}),
    ("get no such topic", lambda b: b.publisher.get_topic(topic="projects/p/topics/none"), "NOT_FOUND", {}),
    ("delete no such topic", lambda b: b.publisher.delete_topic(topic="projects/p/topics/none"), "NOT_FOUND", {}),
    ("subscribe to no such topic", lambda b: b.subscribe("projects/p/topics/none"), "NOT_FOUND", {}),
    ("a subscription that exists", lambda b: _twice(b), "ALREADY_EXISTS", {}),
    ("ack_deadline_seconds 601", lambda b: b.subscribe(b.topic(), ack_deadline_seconds=601), "INVALID_ARGUMENT", {}),
    ("ack_deadline_seconds 1", lambda b: b.subscribe(b.topic(), ack_deadline_seconds=1), "INVALID_ARGUMENT", {"google": "OK"}),
    ("max_delivery_attempts 4", lambda b: b.subscribe(b.topic(), dead_letter_policy={"dead_letter_topic": b.topic(), "max_delivery_attempts": 4}), "INVALID_ARGUMENT", {"google": "OUT_OF_RANGE"}),
    ("max_delivery_attempts 101", lambda b: b.subscribe(b.topic(), dead_letter_policy={"dead_letter_topic": b.topic(), "max_delivery_attempts": 101}), "INVALID_ARGUMENT", {"google": "OUT_OF_RANGE"}),
    ("a dead-letter topic that does not exist", lambda b: b.subscribe(b.topic(), dead_letter_policy={"dead_letter_topic": "projects/p/topics/none"}), "NOT_FOUND", {}),
    ("a dead-letter topic whose name is none", lambda b: b.subscribe(b.topic(), dead_letter_policy={"dead_letter_topic": "nonsense"}), "INVALID_ARGUMENT", {"google": "NOT_FOUND"}),
    ("update to a dead-letter topic that does not exist", lambda b: _update(b, "dead_letter_policy", dead_letter_policy={"dead_letter_topic": "projects/p/topics/none"}), "NOT_FOUND", {}),
    ("a retention of 599 s", lambda b: _keep(b, message_retention_duration=599), "INVALID_ARGUMENT", {}),
    ("a retention of 31 days and a second", lambda b: _keep(b, message_retention_duration=31 * DAY + 1), "INVALID_ARGUMENT", {}),
    ("update to a retention of 599 s", lambda b: _update(b, "message_retention_duration", message_retention_duration={"seconds": 599}), "INVALID_ARGUMENT", {}),
    ("an expiration ttl of a day less a second", lambda b: _keep(b, ttl=DAY - 1), "INVALID_ARGUMENT", {"google": "OK"}),
    ("a maximum_backoff of 601 s", lambda b: b.subscribe(b.topic(), retry_policy={"maximum_backoff": {"seconds": 601}}), "INVALID_ARGUMENT", {}),
    ("a push endpoint that is no URL", lambda b: b.subscribe(b.topic(), push="nonsense"), "INVALID_ARGUMENT", {}),
    ("a filter that is none", lambda b: b.subscribe(b.topic(), filter="attributes:"), "INVALID_ARGUMENT", {"google": "OK"}),
    ("get no such subscription", lambda b: b.subscriber.get_subscription(subscription="projects/p/subscriptions/none"), "NOT_FOUND", {}),
    ("delete no such subscription", lambda b: b.subscriber.delete_subscription(subscription="projects/p/subscriptions/none"), "NOT_FOUND", {}),
    ("pull from no such subscription", lambda b: b.subscriber.pull(subscription="projects/p/subscriptions/none", max_messages=1, retry=None), "NOT_FOUND", {}),
    ("pull of 0 messages", lambda b: b.subscriber.pull(subscription=b.subscribe(b.topic()), max_messages=0), "INVALID_ARGUMENT", {}),
    ("ack to no such subscription", lambda b: b.subscriber.acknowledge(subscription="projects/p/subscriptions/none", ack_ids=["1"]), "NOT_FOUND", {}),
    ("ack of no ack id", lambda b: _acknowledge(b, 0), "INVALID_ARGUMENT", {}),
    ("ack of 2,700 ack ids", lambda b: _acknowledge(b, 2700), "INVALID_ARGUMENT", {"google": "OK"}),
    ("ModifyAckDeadline of no ack id", lambda b: _extend(b, 0), "INVALID_ARGUMENT", {}),
    ("ModifyAckDeadline of 2,700 ack ids", lambda b: _extend(b, 2700), "INVALID_ARGUMENT", {"google": "OK"}),
    ("ModifyAckDeadline of 601 s", lambda b: b.subscriber.modify_ack_deadline(subscription=b.subscribe(b.topic()), ack_ids=["1"], ack_deadline_seconds=601), "INVALID_ARGUMENT", {}),
    ("update of a subscription's filter", lambda b: _update(b, "filter"), "INVALID_ARGUMENT", {}),
    ("update with an empty mask", lambda b: _update(b), "INVALID_ARGUMENT", {}),
]  # fmt: skip
for _text, _call, _real, _differs in REFUSALS:
    BEHAVIOURS.append(
        {"text": _text, "source": "cloud.google.com/pubsub/quotas, pubsub.proto", "real": _real, **_differs}
    )


def _with(attributes: dict[str, str]) -> dict[str, Any]:
    return {"data": b"x", "attributes": attributes}


def _twice(broker: Any) -> None:
    topic = broker.topic()
    broker.subscriber.create_subscription(name=broker.subscribe(topic), topic=topic)


def _update(broker: Any, *paths: str, **change: Any) -> None:
    name = broker.subscribe(broker.topic())
    broker.subscriber.update_subscription(subscription={"name": name, **change}, update_mask={"paths": paths})


def _keep(broker: Any, message_retention_duration: int = 600, **expiration: int) -> None:
    policy = {name: {"seconds": value} for name, value in expiration.items()}
    kept = {"seconds": message_retention_duration}
    broker.subscribe(broker.topic(), message_retention_duration=kept, expiration_policy=policy)


def _pulled(broker: Any, count: int) -> dict[str, Any]:
    """The id of a message that is out, `count` times."""
    topic = broker.topic()
    name = broker.subscribe(topic)
    broker.publish(topic, {"data": b"x"})
    return {"subscription": name, "ack_ids": [broker.pull(name, 1)[0].ack_id] * count}


def _acknowledge(broker: Any, count: int) -> None:
    broker.subscriber.acknowledge(**_pulled(broker, count))


def _extend(broker: Any, count: int) -> None:
    broker.subscriber.modify_ack_deadline(**_pulled(broker, count), ack_deadline_seconds=60)


@pytest.mark.parametrize(("text", "call", "real", "differs"), REFUSALS, ids=[row[0] for row in REFUSALS])
def test_refusals(broker: Any, text: str, call: Callable[[Any], Any], real: str, differs: dict[str, str]) -> None:
    """Each wrong call is refused with the service's status."""
    assert status_of(lambda: call(broker)) == differs.get(broker.kind, real), text


# ---- the page


def table() -> str:
    """Make the table of the page."""
    lines = ["| behaviour | real service | source | ours | Google's emulator |", "|---|---|---|---|---|"]
    for each in BEHAVIOURS:
        ours, emulator = (each.get(kind, "the same") for kind in ("ours", "google"))
        row = (each["text"], each["real"], each["source"], ours, f"**{emulator}**" if "google" in each else emulator)
        lines.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |")
    return "\n".join(lines)


def test_page_holds_the_table() -> None:
    """The page's table says what these tests see."""
    assert table() in PAGE.read_text(), "run: python tests/pubsub/test_contract.py"


if __name__ == "__main__":
    print(table())

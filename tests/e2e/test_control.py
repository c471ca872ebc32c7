"""Control messages, as a requester sends them: to a service with a real Redis behind it."""

import pytest

from tests.parts.processes import until


def request(prompt):
    """A request with this prompt."""
    return {"metadata": {"prompt": prompt}, "body": {"prompt": prompt}}


@pytest.fixture
def asked(relay):
    """What a command says, of these topics."""

    def ask(topics, *command):
        places = ("--topic", topics.topic("requests"), "--responses", topics.topic("responses"))
        return relay(*command, *places, PUBSUB_EMULATOR_HOST=topics.address)

    return ask


def push_to(topics, url):
    """Have requests pushed and, from a subscription of their own, control messages: these are not to wait for those."""
    topics.push_to(url)
    topics.subscriber.create_subscription(
        request={
            "name": topics.subscription("control"),
            "topic": topics.topic("requests"),
            "filter": "attributes:relay_control",
            "ack_deadline_seconds": 60,
            "push_config": {"push_endpoint": url},
        }
    )


def test_one_request_is_cancelled_while_it_waits(local_topics, serve, model, ledger, asked):
    """By its message id, or by its own; what the model has is finished, and what comes later is another request.

    Not with Google's emulator, whose subscriptions heed no filter.
    """
    topics = local_topics
    model.replies["slow"] = [
        model.hang_then(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
    ]
    service = serve("gunicorn", MODEL_URL=model.url, LEDGER_URL=ledger, CONTROL_MESSAGES="true", MODEL_SLOTS="1")
    push_to(topics, service.url)
    topics.publish(request("first"))
    topics.response()  # an ack lets Pub/Sub have more than three pushes under way: what follows is pushed as it comes
    model.calls.clear()
    topics.publish(request("slow"))
    until(lambda: len(model.calls) == 1)
    by_message = topics.publish(request("by message"))
    topics.publish(request("by name"), custom_id="r7")
    topics.publish(request("stays"), custom_id="r8")
    code, said = asked(topics, "cancel", by_message)
    assert (code, "cancelled" in said) == (0, True), said
    code, said = asked(topics, "cancel", "r7")
    assert (code, "cancelled" in said) == (0, True), said
    assert asked(topics, "status", "r8")[1].splitlines()[-1] == "unknown"
    topics.publish(request("later"), custom_id="r7")
    model.release.set()

    answers = {}
    while len(answers) < 5:
        content, attributes, _ = topics.response()
        if "relay_control" not in attributes:
            answers[content["metadata"]["prompt"]] = content["status_code"]
    assert answers == {"slow": 200, "by message": 499, "by name": 499, "stays": 200, "later": 200}
    assert [body["prompt"] for _, body in model.calls] == ["slow", "stays", "later"]
    assert {line["reason"] for line in service.log() if "reason" in line} == {"answered", "cancelled", "control"}


def test_where_a_batch_stands(local_topics, serve, model, ledger, asked):
    """How many messages of it were seen, and one of them by either of its names."""
    service = serve("gunicorn", MODEL_URL=model.url, LEDGER_URL=ledger, CONTROL_MESSAGES="true")
    local_topics.push_to(service.url)
    message_id = local_topics.publish(request("a"), batch_id="b", custom_id="r1")
    local_topics.publish({"metadata": {}}, batch_id="b", custom_id="r2")
    for _ in range(2):
        local_topics.response()
    words = "1 answered, 1 answered with an error, 0 cancelled, 0 with the model, 0 waiting"
    assert asked(local_topics, "status", "--batch", "b") == (0, f"{words}\n")
    for name, state in (
        ("r1", "answered"),
        (message_id, "answered"),
        ("r2", "answered with an error"),
        ("r3", "unknown"),
    ):
        assert asked(local_topics, "status", name, "--batch", "b") == (0, f"{state}\n")
    code, said = asked(local_topics, "status")
    assert (code, "Give --batch" in said) == (2, True)


def test_a_service_that_takes_none(local_world, asked):
    """It says who can switch them on; the requests go on as ever."""
    service, topics, _ = local_world("gunicorn")
    topics.push_to(service.url)
    code, said = asked(topics, "cancel", "--batch", "b")
    assert (code, "CONTROL_MESSAGES=true" in said) == (1, True), said
    topics.publish(request("a"), batch_id="b")
    while "relay_control" in (response := topics.response())[1]:
        pass
    assert response[0]["status_code"] == 200


def test_nobody_responds(local_topics, asked):
    """The command says what that may mean."""
    code, said = asked(local_topics, "status", "--batch", "b", "--timeout", "1s")
    assert (code, "no response within 1 s" in said) == (1, True), said

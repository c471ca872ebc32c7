"""Several models, several streams, and who the relay is to a model; from outside."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.parts.model import Model, http, serving
from tests.parts.processes import until
from tests.parts.service import push_of

OWN = {"MODEL_API_KEY": "", "MODEL_URL": ""}


@pytest.fixture
def second_model():
    """Another model that does as it is told."""
    with serving(Model()) as server:
        yield server


@pytest.fixture
def routed(serve, tmp_path):
    """Starts the service with a file of routes."""

    def start(text, **environment):
        (tmp_path / "routes.yaml").write_text(text)
        return serve("gunicorn", ROUTES_FILE=str(tmp_path / "routes.yaml"), **{**OWN, **environment})

    return start


def asking(model, prompt="hello", **fields):
    """A request for this model."""
    return {"metadata": {"id": prompt}, "body": {"model": model, "prompt": prompt}, **fields}


def test_two_models_of_which_one_hangs(local_topics, model, second_model, routed):
    """The other one's requests are answered all the same, though the hanging one's fill its slots and its line."""
    for number in range(12):
        second_model.replies[f"stuck {number}"] = [second_model.hang_then(http(200, "application/json", b"{}"))]
    service = routed(
        "routes:\n"
        f"- {{name: good, models: [good], url: '{model.url}'}}\n"
        f"- {{name: stuck, models: ['stuck*'], url: '{second_model.url}', slots: 2}}\n",
        MAX_WAITING="8",
    )
    pushes = [push_of(asking("stuck-7b", f"stuck {number}")) for number in range(12)]
    with ThreadPoolExecutor(12) as threads:
        stuck = [threads.submit(service.push, push) for push in pushes]
        until(lambda: sum(one.done() for one in stuck) == 6 and len(second_model.calls) == 2)
        assert [one.result() for one in stuck if one.done()] == [429] * 6  # 2 slots, 4 of 8 places in the line
        assert [service.push(push_of(asking("good", f"{number}"))) for number in range(20)] == [204] * 20
        second_model.release.set()
        assert sorted(one.result() for one in stuck) == [204] * 6 + [429] * 6
    assert {body["model"] for _, body in second_model.calls} == {"stuck-7b"}


def test_a_model_that_nobody_has(local_topics, model, routed):
    """Is answered at once with what there is; a name that is rewritten goes out as it is meant."""
    service = routed(
        f"routes:\n- name: a\n  models: [public, 'other-*']\n  url: {model.url}/{{model}}/api\n  model: private\n"
    )
    assert service.push(push_of(asking("public"))) == 204
    response, attributes, _ = local_topics.response()
    assert (response["status_code"], attributes["model"]) == (200, "public")
    assert model.calls == [("/public/api/v1/completions", {"model": "private", "prompt": "hello"})]
    for name in ("nobody", "other-../../x"):
        assert service.push(push_of(asking(name))) == 204
        response, _, _ = local_topics.response()
        assert (response["status_code"], response["body"]["error"]["code"]) == (404, "model_not_found")
        assert "public, other-*" in response["body"]["error"]["message"]
    assert len(model.calls) == 1


def test_fifty_streams(local_topics, model, routed):
    """Each subscription's responses go to its own topic; a push of another subscription is refused."""
    entries = []
    for number in range(50):
        local_topics.publisher.create_topic(name=local_topics.topic(f"answers-{number}"))
        local_topics.subscriber.create_subscription(
            name=local_topics.subscription(f"answers-{number}"), topic=local_topics.topic(f"answers-{number}")
        )
        entries.append(
            f"- {{subscription: stream-{number}, response_topic: {local_topics.topic(f'answers-{number}')}}}\n"
        )
    service = routed(f"routes:\n- {{name: a, models: ['*'], url: '{model.url}'}}\nstreams:\n{''.join(entries)}")

    def pushed(number):
        push = json.loads(push_of(asking("m", str(number))))
        push["subscription"] = local_topics.subscription(f"stream-{number}")
        return service.push(json.dumps(push).encode())

    with ThreadPoolExecutor(50) as threads:
        assert list(threads.map(pushed, range(50))) == [204] * 50
    for number in range(50):
        (answer,) = local_topics.pull(f"answers-{number}")
        assert json.loads(answer.data)["metadata"] == {"id": str(number)}
    assert pushed(50) == 403
    assert service.push(push_of(asking("m"))) == 403
    assert len(model.calls) == 50
    assert [line["reason"] for line in service.log() if line.get("status") == 403] == ["forbidden"] * 2


def test_a_topic_that_the_request_names(local_topics, model, serve):
    """Gets the response if it is on the list; if not, the requester is told on the service's own."""
    local_topics.publisher.create_topic(name=local_topics.topic("mine"))
    local_topics.subscriber.create_subscription(
        name=local_topics.subscription("mine"), topic=local_topics.topic("mine")
    )
    service = serve("gunicorn", MODEL_URL=model.url, RESPONSE_TOPICS=local_topics.topic("mine"))
    named = push_of(asking("m"), attributes={"response_topic": local_topics.topic("mine")})
    assert service.push(named) == 204
    (answer,) = local_topics.pull("mine")
    assert json.loads(answer.data)["status_code"] == 200
    assert service.push(push_of(asking("m"), attributes={"response_topic": "projects/other/topics/theirs"})) == 204
    response, _, _ = local_topics.response()
    assert response["body"]["error"]["param"] == "attributes.response_topic"
    assert len(model.calls) == 1


def test_attributes_as_headers(local_topics, model, serve):
    """Those that are named, and no others; a value that no header can have is an error that says which."""
    service = serve(
        "gunicorn", MODEL_URL=model.url, ATTRIBUTE_HEADERS="tenant=X-Tenant,priority=X-Objective,deadline=X-Deadline"
    )
    attributes = {"tenant": "blue", "Authorization": "Bearer PLANTED", "x-other": "1"}
    options = {"priority": "high", "deadline": "2999-01-01T00:00:00Z"}
    assert service.push(push_of(asking("m", options=options), attributes=attributes)) == 204
    local_topics.response()
    (headers,) = model.headers
    assert (headers["X-Tenant"], headers["X-Objective"]) == ("blue", "high")
    assert headers["X-Deadline"] == "2999-01-01T00:00:00+00:00"
    assert headers["Authorization"] == "Bearer PLANTED-key"
    assert "x-other" not in headers
    for value in ("a\r\nX-Evil: 1", "é", " blank", "x" * 1025):
        assert service.push(push_of(asking("m"), attributes={"tenant": value})) == 204
        response, _, _ = local_topics.response()
        assert response["body"]["error"]["param"] == "attributes.tenant"
    assert len(model.calls) == 1

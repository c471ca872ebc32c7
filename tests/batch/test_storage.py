"""Files in Cloud Storage."""

import hashlib
import json

import pytest
from gcp_storage_emulator.server import create_server
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from handler.batch.errors import CannotRun
from handler.batch.lines import bodies
from handler.batch.lines.answers import ParsedResponse
from tests.parts.processes import free_port

from .conftest import openai_line


@pytest.fixture
def bucket(monkeypatch):
    """A bucket on this machine."""
    port = free_port()
    server = create_server("localhost", port, in_memory=True, default_bucket="bucket")
    server.start()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://localhost:{port}")
    client = storage.Client(project="p", credentials=AnonymousCredentials())
    yield client.bucket("bucket")
    client.close()
    server.stop()


def test_from_a_bucket_to_a_bucket(local_place, bucket):
    """The requests are read where they are, and the answers put beside them."""
    bucket.blob("requests.jsonl").upload_from_string(json.dumps(openai_line("a")) + "\n")
    with local_place.relay():
        done = local_place.run("batch", "run", "gs://bucket/requests.jsonl", "-o", "gs://bucket/answers.jsonl")
    assert done.returncode == 0, done.stderr
    assert json.loads(bucket.blob("answers.jsonl").download_as_bytes())["custom_id"] == "a"
    for missing, said in (("gs://bucket/missing.jsonl", "missing.jsonl"), ("gs://bucket", "write gs://BUCKET/NAME")):
        done = local_place.run("batch", "check", missing)
        assert (done.returncode, said in done.stderr, "Traceback" in done.stderr) == (2, True, False), done.stderr


def put(bucket, name, content, content_type):
    """Write an object; what an answer that refers to it has as its body."""
    bucket.blob(name).upload_from_string(content, content_type=content_type)
    digest = hashlib.sha256(content).hexdigest()
    reference = {
        "uri": f"gs://bucket/{name}",
        "bytes": len(content),
        "content_type": content_type,
        "sha256": digest,
    }
    return {"content_ref": reference}


def test_answers_that_are_elsewhere(local_place, bucket, tmp_path):
    """The reference is written as it came, or the content in its place: JSON in one line, the rest wrapped."""
    json_body = b'{"n": 1e400,\n "usage": {"prompt_tokens": 7, "completion_tokens": 9}}'
    references = {
        "json": put(bucket, "a", json_body, "application/json"),
        "audio": put(bucket, "b", b"\xff\x00", "audio/mpeg"),
        "pretended": put(bucket, "d", b"7", "application/json"),
        "half": put(bucket, "c", b'{"n"', "application/json"),
    }
    lines = [
        openai_line(name, prompt=json.dumps({"body": body, **({"pretends": 1} if name == "pretended" else {})}))
        for name, body in references.items()
    ]
    requests = tmp_path / "requests.jsonl"
    requests.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with local_place.relay():
        plain = local_place.run("batch", "run", requests, "-o", tmp_path / "plain.jsonl")
        filled = local_place.run("batch", "run", requests, "-o", tmp_path / "filled.jsonl", "--fetch-bodies", "--json")
    assert (plain.returncode, filled.returncode) == (0, 0), plain.stderr + filled.stderr
    written = [json.loads(line) for line in (tmp_path / "plain.jsonl").read_text().splitlines()]
    assert {line["custom_id"]: line["response"]["body"] for line in written} == references
    texts = (tmp_path / "filled.jsonl").read_text().splitlines()
    found = {json.loads(text)["custom_id"]: json.loads(text)["response"]["body"] for text in texts}
    assert any('"body":{"n": 1e400,  "usage"' in text for text in texts)
    assert found["audio"] == {"content_type": "audio/mpeg", "encoding": "base64", "content": "/wA="}
    assert found["half"]["content"] == "eyJuIg=="
    assert found["pretended"] == references["pretended"]  # which the model wrote, and not the relay
    assert '"output": 9' in filled.stdout or '"tokens_out": 9' in filled.stdout, filled.stdout


def test_an_answer_whose_content_is_gone(local_place, bucket, tmp_path):
    """The command ends with a sentence; without the option it goes on, and nothing is lost or sent again."""
    missing = put(bucket, "a", b"{}", "application/json")
    bucket.blob("a").upload_from_string(b"[]")
    requests, answers = tmp_path / "requests.jsonl", tmp_path / "answers.jsonl"
    requests.write_text(json.dumps(openai_line("x", prompt=json.dumps({"body": missing}))) + "\n")
    with local_place.relay():
        done = local_place.run("batch", "run", requests, "-o", answers, "--fetch-bodies")
        assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
        assert "gs://bucket/a is not what the answer to 'x' refers to" in done.stderr
        bucket.blob("a").delete()
        with pytest.raises(CannotRun, match="gs://bucket/a"):
            bodies.fetched(ParsedResponse("x", "1", 200, json.dumps(missing).encode(), {}, is_reference=True))
        done = local_place.run("batch", "run", requests, "-o", answers)
    assert done.returncode == 0, done.stderr
    assert json.loads(answers.read_text())["response"]["body"] == missing
    assert local_place.asked() == {"x": 1}

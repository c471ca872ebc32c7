"""Files in Cloud Storage."""

import json

import pytest
from gcp_storage_emulator.server import create_server
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from .conftest import free_port, openai_line


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
    done = local_place.run("batch", "check", "gs://bucket/missing.jsonl")
    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr

"""The tools: what people type first, and what their other tools expect of the local Pub/Sub."""

import json
import os
import subprocess
import urllib.error
import urllib.request

import pytest
from google.api_core.exceptions import InvalidArgument

from tests.parts.processes import BIN, ROOT, free_port
from tests.parts.service import SERVERS

from .conftest import rows


def run(*command, **environment):
    """Run a program to its end: its exit code and what it printed."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    ("variable", "value"),
    rows(
        ("an emulator with http:// (check)", "PUBSUB_EMULATOR_HOST", "http://127.0.0.1:8085"),
        ("an emulator without a port (check)", "PUBSUB_EMULATOR_HOST", "localhost"),
        ("credentials that are not there (check)", "GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/key.json"),
        ("a choice that is none (check)", "GOOGLE_API_USE_MTLS_ENDPOINT", "yes"),
    ),
)
def test_check_of_googles_settings(variable, value, forks):
    """They are wrong before anything is tried."""
    settings = {
        "MODEL_URL": "http://127.0.0.1:9",
        "RESPONSE_TOPIC": "projects/p/topics/responses",
        "PUSH_AUTH": "platform",
    }
    done = forks.run([BIN / "inference-relay", "check"], settings | {variable: value}, measured=True)
    assert (done.returncode, f"settings: {variable}" in done.stdout) == (1, True), done


@pytest.mark.parametrize(
    ("variable", "value"),
    rows(
        ("an emulator with http://", "PUBSUB_EMULATOR_HOST", "http://127.0.0.1:8085"),
        ("credentials that are not there", "GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/key.json"),
    ),
)
def test_googles_settings_at_the_start(variable, value, forks):
    """The service does not start with them, and says why, as with its own."""
    settings = {
        "MODEL_URL": "http://127.0.0.1:9",
        "RESPONSE_TOPIC": "projects/p/topics/responses",
        "PUSH_AUTH": "platform",
    }
    settings |= {"PORT": str(free_port()), variable: value}
    done = forks.run(SERVERS["gunicorn"], settings)
    assert done.returncode != 0
    assert variable in done.stdout + done.stderr


def test_bad_requests_to_the_bundled_model(tmp_path):
    """llama.cpp says 500 to an image that its model cannot see and to a text that is too long: one answer each."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    bad = [
        {"path": "/v1/chat/completions", "body": {"messages": [{"role": "user", "content": [image]}]}},
        {"path": "/v1/embeddings", "body": {"input": "word " * 2000}},
        {"path": "/v1/completions", "body": {"prompt": "word " * 9000}},
        {"path": "/v1/completions", "body": {"prompt": {"not": "text"}}},
        {"path": "/v1/chat/completions", "body": {"messages": "not a list"}},
        {"path": "/v1/chat/completions", "body": {"messages": [{"role": "nobody", "content": 7}]}},
        {"path": "/v1/chat/completions", "body": {}},
        {"path": "/v1/completions", "body": {"prompt": "x", "grammar": "no ::= grammar at all ("}},
        {"path": "/v1/chat/completions", "body": {"messages": [{"content": "nobody's"}]}},
        {"path": "/v1/chat/completions", "body": {"messages": [{"role": "user", "content": "x"}], "tools": "x"}},
        {"path": "/v1/rerank", "body": {"query": "x", "documents": ["a"]}},
        {"path": "/v1/embeddings", "body": {}},
    ]
    file = tmp_path / "bad.jsonl"
    file.write_text("\n".join(json.dumps({"metadata": {"id": n}, **one}) for n, one in enumerate(bad)))
    code, output = run(BIN / "inference-relay", "local", "run", file, COLUMNS="400")
    assert code == 0, output
    assert "every line is in one of the two files" in output, output
    assert "redeliveries by Pub/Sub: 0" in output, output


def http(topics, method, path, body=None):
    """One call of the REST API: its status and its JSON, or text."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://{topics.address}{path}", data, method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_the_local_pubsub_by_curl(topics):
    """`GET /` says Ok, and a topic is made as at Google's emulator."""
    assert http(topics, "GET", "/") == (200, "Ok\n")
    name = f"projects/{topics.project}/topics/by-curl"
    status, made = http(topics, "PUT", f"/v1/{name}")
    assert (status, json.loads(made)["name"]) == (200, name)
    assert name in [topic.name for topic in topics.publisher.list_topics(project=f"projects/{topics.project}")]


@pytest.mark.parametrize(
    "path",
    rows(
        ("a mask as JSON spells it", "retryPolicy"),
        ("a mask of nothing known", "nonsense"),
        ("a mask inside a field", "retry_policy.nonsense"),
    ),
)
def test_an_update_mask_that_is_unknown(topics, path):
    """INVALID_ARGUMENT, and why."""
    subscription = {"name": topics.subscription("dead")}
    with pytest.raises(InvalidArgument, match="not a known field"):
        topics.subscriber.update_subscription({"subscription": subscription, "update_mask": {"paths": [path]}})


def test_a_list_of_a_bad_project(topics):
    """It is an error, and no empty list."""
    for listing in (topics.publisher.list_topics, topics.subscriber.list_subscriptions):
        with pytest.raises(InvalidArgument, match="is not projects/PROJECT"):
            list(listing(project="my-project"))

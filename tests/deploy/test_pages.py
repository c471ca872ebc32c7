"""The pages on deploying and the runbook: what they name exists, their sums are right, and what can run here runs."""

import logging
import os
import re
import subprocess

import pytest
import yaml
from google import pubsub_v1 as api

from handler.rules.verdict.outcome import FACTS
from tests.deploy import gcloud
from tests.deploy.settings import setting_names
from tests.docs.pages import blocks, rows
from tests.parts.processes import BIN, ROOT, until

PAGES = {path.name: path.read_text() for path in sorted((ROOT / "docs").glob("deploy*.md"))}
PAGES |= {name: (ROOT / "docs" / name).read_text() for name in ("alternatives.md", "monitoring.md", "runbook.md")}
QUIET = {"answered", "already_answered", "cancelled", "control", "request_refused"}


def test_every_reason_that_needs_somebody_is_in_the_runbook():
    """Each has a row; those that need nobody are named as such, and no others are made up."""
    listed = {row[0].strip("`") for row in rows("docs/runbook.md") if row[0].startswith("`")}
    assert listed == {str(reason) for reason in FACTS} - QUIET
    assert all(FACTS[reason].level <= logging.INFO for reason in FACTS if str(reason) in QUIET)
    assert all(f"`{reason}`" in PAGES["runbook.md"] for reason in QUIET)


def test_every_variable_is_a_setting():
    """Whatever looks like a setting of the service is one, or is known to be somebody else's."""
    foreign = {"PROJECT", "REGION", "REVISION", "ENDPOINT", "AUDIENCE", "SERVICE", "NAME", "NAMESPACE", "SIGTERM"}
    foreign |= {"OLLAMA_NUM_PARALLEL", "OLLAMA_MAX_QUEUE", "_SERVICE", "INFO", "WARNING"}
    foreign |= {"ERROR", "OOM", "NOAUTH", "WRONGPASS"}
    foreign |= {"BASIC", "STANDARD_HA", "LOCKED", "THREADS", "_TAG", "_ATTESTOR", "_KEY_VERSION", "_SBOM_BUCKET"}
    for page in PAGES.values():
        named = set(re.findall(r"`([A-Z_]{4,})[`=]", page)) - foreign
        assert named <= setting_names()


def test_the_sums_of_the_capacity_table():
    """They follow from the overlays, and stay below what the model service takes at once."""
    checked = 0
    overlays = (row for row in rows("docs/deploy.md") if len(row) == 3 and " x " in row[2])
    for name, slots, product in overlays:
        if name == "model service":
            continue
        room, instances, used = map(int, re.fullmatch(r"(\d+) x (\d+) = (\d+)", product).groups())
        overlay = ROOT / "knative/overlays" / name.split(",")[0].lower() / "kustomization.yaml"
        patched = yaml.safe_load(yaml.safe_load(overlay.read_text())["patches"][1]["patch"])
        values = {one["path"].rsplit("/", 1)[1]: str(one["value"]) for one in patched}
        assert values["value"] == str(room)
        assert values["autoscaling.knative.dev~1max-scale"] == str(instances)
        assert room * instances == used <= int(slots)
        checked += 1
    assert checked == 3


def test_the_model_services_are_the_overlays():
    """The page gives the MODEL_URL that each overlay has."""
    for overlay in (ROOT / "knative/overlays").iterdir():
        (url,) = re.findall(r"^MODEL_URL=(.*)$", (overlay / "settings.env").read_text(), re.MULTILINE)
        assert f"| `{url}` |" in PAGES["deploy.md"]


def test_the_terraform_variables_exist():
    """No example sets anything that Terraform does not know."""
    examples = [block.text for block in blocks("hcl")]
    files = "".join(path.read_text() for path in (ROOT / "terraform").glob("variables*.tf"))
    known = set(re.findall(r'^variable "(\w+)"', files, re.MULTILINE))
    for example in examples:
        assert set(re.findall(r"^(\w+) *=", example, re.MULTILINE)) <= known
    assert len(examples) >= 3


def test_gcloud_knows_the_commands_and_their_flags():
    """By the table that it completes commands with."""
    root = gcloud.table()
    if root is None:
        pytest.skip("the gcloud commands are not checked: needs the Google Cloud SDK")
    found = [words for block in blocks("sh") for words in gcloud.commands(block.text)]
    assert [wrong for words in found if (wrong := gcloud.problem(root, words))] == []
    assert len(found) > 30


@pytest.mark.parametrize(
    "line",
    [
        "gcloud pubsub topics",
        "gcloud pubsub topics publsh t",
        "x=$(gcloud projects describe p --fromat=json)",
        "gcloud run services update s --ingress=nowhere",
        "true && gcloud builds submit --substitution=_A=b",
    ],
)
def test_a_wrong_command_is_found(line):
    """The check checks: a group, a typo, flags, a value, and wherever in a line it is."""
    root = gcloud.table()
    if root is None:
        pytest.skip("needs the Google Cloud SDK")
    (words,) = gcloud.commands(line)
    assert gcloud.problem(root, words)


def test_a_dead_letter_is_published_again(local_topics):
    """The runbook's commands look first, then keep the bytes and the requester's attributes; or choose a stream's."""
    look, go, of_a_stream = re.findall(r"^inference-relay replay .*$", re.sub(r"\\\n", "", PAGES["runbook.md"]), re.M)
    publisher, subscriber = local_topics.publisher, local_topics.subscriber
    for name in ("inference-relay-dead-letters", "inference-relay-requests"):
        publisher.create_topic(name=local_topics.topic(name))
        subscriber.create_subscription(name=local_topics.subscription(name), topic=local_topics.topic(name))
    data = b'{"metadata": {}, "body": {}} \xff'
    attributes = {"batch_id": "7", "data": "x", "CloudPubSubDeadLetterSourceMessageId": "1"}
    again = {"data": data, "attributes": attributes, "ordering_key": "k"}
    topic = local_topics.topic("inference-relay-dead-letters")
    api.PublisherClient.publish(publisher, topic=topic, messages=[again])

    def run(command):
        words = command.replace("PROJECT", local_topics.project).replace("STREAM", "urgent").split()
        done = subprocess.run(
            [BIN / words[0], *words[1:], "--wait", "2s"],
            env={**os.environ, "REQUEST_TOPIC": "inference-relay-requests"},  # an emulator has another by default
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "1 are meant" in run(look)
    assert "1 replayed" in run(go)
    found = []
    until(lambda: found or found.extend(local_topics.pull("inference-relay-requests")))
    (message,) = found
    assert (message.data, message.ordering_key) == (data, "k")
    assert dict(message.attributes) == {"batch_id": "7", "data": "x", "dead_letter_source_message_id": "1"}
    streams = {"data": data, "attributes": {"CloudPubSubDeadLetterSourceSubscription": "inference-relay-push-urgent"}}
    api.PublisherClient.publish(publisher, topic=topic, messages=[again, streams])
    assert "1 are meant" in run(of_a_stream)

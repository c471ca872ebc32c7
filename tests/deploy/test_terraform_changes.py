"""A mistake in any file of terraform/ is found; and what a plan shows only where something is there already."""

import functools
import json
import shutil
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.deploy.terraform_run import RELAY, TERRAFORM, TESTS, Terraform

# One mistake for each file: what is there, what somebody makes of it, and the test file and the run that find it.
MISTAKES = {
    "alert_texts.tf": ('"docs/runbook.md"', '"docs/run.md"', "monitoring", "defaults"),
    "alerts.tf": ("seconds = 900", "seconds = 90", "monitoring", "defaults"),
    "capacity.tf": ("ceil(slots / local.instances)", "slots", "capacity", "slots_2"),
    "check.tf": ("for_each = local.cloud_run_settings", "for_each = local.settings", "cloudrun", "check"),
    "cloudrun.tf": ('timeout                          = "600s"', 'timeout = "300s"', "cloudrun", "defaults"),
    "control.tf": ('"attributes:relay_control"', "var.filter", "pubsub", "control_messages"),
    "dashboard.tf": ("if var.prometheus_sidecar != null", "if true", "monitoring", "defaults"),
    "iam.tf": ("member  = local.relay_member", "member = local.push_member", "iam", "defaults"),
    "identity.tf": ("roles/run.invoker", "roles/run.admin", "routes", "private_cloud_run_service"),
    "ledger.tf": ('"noeviction"', '"volatile-lru"', "ledger", "defaults"),
    "log_metrics.tf": ("0.95 * var.ack_deadline_seconds", "0.5 * var.ack_deadline_seconds", "monitoring", "defaults"),
    "outputs.tf": ("--auto-ack", "--ack", "pubsub", "defaults"),
    "routes.tf": ('"ABANDON"', '"DELETE"', "routes", "several_models"),
    "secrets.tf": ("roles/secretmanager.secretAccessor", "roles/secretmanager.admin", "cloudrun", "as_asked"),
    "settings.tf": ('PUSH_AUTH            = "verify"', 'PUSH_AUTH = "platform"', "knative", "defaults"),
    "sidecar.tf": ("roles/monitoring.metricWriter", "roles/monitoring.admin", "monitoring", "with_sidecar"),
    "storage.tf": ("ceil((var.message_retention_seconds + 2678400) / 86400)", "1", "storage", "defaults"),
    "streams.tf": ('maximum_backoff = "600s"', 'maximum_backoff = "60s"', "streams", "of_each_kind"),
    "subscriptions.tf": ('minimum_backoff = "10s"', 'minimum_backoff = "0s"', "pubsub", "defaults"),
    "topics.tf": ('? "PREVENT" : "DELETE"', '? "DELETE" : "PREVENT"', "pubsub", "defaults"),
    "variables.tf": ('"^[a-z][a-z0-9-]{4,28}[a-z0-9]$"', '"."', "validation", "project_number"),
    "variables_messages.tf": (
        "var.max_attempts < var.max_delivery_attempts",
        "var.max_attempts > 0",
        "validation",
        "max_attempts_unanswered",
    ),
    "variables_routes.tf": ("one.max_share <= 1", "one.max_share <= 2", "validation_streams", "stream_share_many"),
    "variables_service.tf": ("contains([1, 2, 4, 6, 8], var.cpu)", "var.cpu > 0", "validation", "cpu_three"),
    "variables_watching.tf": ("one >= 0 && one <= 1", "one >= 0", "validation_watching", "alerts_share_percent"),
}
# What the run says of it.
SAID = {
    "alert_texts.tf": "Each alert names its entry in the runbook.",
    "alerts.tf": "What passes by itself raises no alert.",
    "capacity.tf": "2 slots are shared out between 2 instances.",
    "check.tf": "It has the service's settings and secrets.",
    "cloudrun.tf": "Cloud Run waits as long as Pub/Sub does.",
    "control.tf": "Control messages have a subscription of their own, on the request topic.",
    "dashboard.tf": "There is a dashboard.",
    "iam.tf": "The relay may publish to the response topic.",
    "identity.tf": "It may invoke the model's service, and nothing else.",
    "ledger.tf": "A full ledger refuses instead of forgetting.",
    "log_metrics.tf": "Late is nearly the ack deadline.",
    "outputs.tf": "An output is the command that reads.",
    "routes.tf": "It is a secret, whose old versions stay for the revisions that read them.",
    "secrets.tf": "The relay may read these secrets, each where it is.",
    "settings.tf": "An output has the settings that the service needs.",
    "sidecar.tf": "It may write metrics and read its configuration.",
    "storage.tf": "A response outlives the request's retention and the longest one of its message, and is then gone.",
    "streams.tf": "It is as hardened as the relay's own: identity, dead letters, retries, deadline, no expiry.",
    "subscriptions.tf": "The retry policy is 10 s to 600 s.",
    "topics.tf": "What holds messages is protected.",
    "variables.tf": "var.project, was expected to report an error",
    "variables_messages.tf": "var.max_attempts, was expected to report an error",
    "variables_routes.tf": "var.streams, was expected to report an error",
    "variables_service.tf": "var.cpu, was expected to report an error",
    "variables_watching.tf": "var.alerts, was expected to report an error",
}
# What is wrong in these is known only once it is made, in the others of a plan.
MADE = {"check.tf", "control.tf", "dashboard.tf", "iam.tf", "secrets.tf", "sidecar.tf", "streams.tf"}
# What is worked out in this file is in what many others make, so that one would not know whose mistake was found.
ALONE = {"capacity.tf"}
# Found without a plan, by what the stand-in knows of the provider: a name, a missing argument, a type.
INVALID = {
    "cloudrun.tf": ("startup_cpu_boost = true", "startup_cpu_boots = true"),
    "topics.tf": ('name            = "${var.name}-requests"', ""),
    "subscriptions.tf": ("ack_deadline_seconds         = var.ack_deadline_seconds", 'ack_deadline_seconds = "long"'),
    "ledger.tf": ("google_secret_manager_secret.ledger\n", "google_secret_manager_secret.url\n"),
    "versions.tf": ('"hashicorp/google"', '"hashicorp/goggle"'),
}


def make(mistake: Sequence[str], file: Path) -> None:
    right = file.read_text()
    assert mistake[0] in right
    file.write_text(right.replace(mistake[0], mistake[1], 1))


def test_each_file_has_a_mistake():
    """And each is found by something of its own."""
    assert {path.name for path in (TERRAFORM / RELAY).glob("*.tf")} == MISTAKES.keys() | INVALID.keys()
    assert len({(*MISTAKES[file][2:], said) for file, said in SAID.items()}) == len(MISTAKES)


def judges(file: str) -> bool:
    """Whether it says which values are wrong."""
    return file.startswith("variables")


def together(file: str) -> tuple[str, ...]:
    """The files whose mistakes are made in one copy with this file's."""
    if file in ALONE:
        return (file,)
    return tuple(other for other in MISTAKES if other not in ALONE and judges(other) == judges(file))


def failures(terraform: Terraform, files: tuple[str, ...]) -> dict[tuple[str, str], str]:
    """What the runs that find these mistakes say with all of them made, by test file and run."""
    for file in files:
        make(MISTAKES[file][:2], terraform.root / RELAY / file)
    runs, made = ({MISTAKES[file][2:] for file in among} for among in (files, MADE.intersection(files)))
    terraform.single_out(runs)
    for tests, run in runs - made:
        terraform.plan_alone(f"{tests}.{run}{TESTS}")
    lines = map(json.loads, terraform("test", "-json", at=RELAY).stdout.splitlines())
    found = defaultdict(str)
    for line in lines:
        if line["type"] == "diagnostic":
            tests, run, *_ending = Path(line["@testfile"]).name.split(".")
            found[tests, run] += line["diagnostic"]["detail"] + "\n"
    return found


@pytest.fixture(scope="module")
def said(provider: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[tuple[str, str], str]]:
    """What the runs say of a file's mistake, and of those that are made together with it."""

    @functools.cache
    def asked(files: tuple[str, ...]) -> dict[tuple[str, str], str]:
        terraform = Terraform(provider, tmp_path_factory.mktemp("mistakes"))
        if all(map(judges, files)):
            terraform.keep_limits()
        return failures(terraform, files)

    return lambda file: asked(together(file))


@pytest.mark.parametrize("file", MISTAKES)
def test_a_mistake_is_found(said, file):
    """By an assertion that is about it. All of them hold without mistakes: test_terraform_runs.py."""
    *_mistake, tests, run = MISTAKES[file]

    assert SAID[file] in said(file)[tests, run]


@pytest.mark.parametrize("file", INVALID)
def test_what_is_invalid_is_found(broken, file):
    make(INVALID[file], broken.root / RELAY / file)

    assert broken("validate", "-no-color", at=RELAY).returncode == 1


# --- what a plan shows only where something is there already


REPLACED = {
    "google_pubsub_subscription.push": {"google_pubsub_subscription_iam_member.pubsub_acknowledges_dead_letters"},
    'google_pubsub_subscription.responses["a"]': {
        'google_pubsub_subscription_iam_member.response_readers["a user:ann@example.com"]',
        'google_pubsub_subscription_iam_member.response_readers["a user:bob@example.com"]',
    },
    "google_pubsub_subscription.dead_letters": {
        'google_pubsub_subscription_iam_member.dead_letter_readers["user:ann@example.com"]'
    },
    "google_pubsub_topic.requests[0]": {'google_pubsub_topic_iam_member.requesters["user:ann@example.com"]'},
    "google_pubsub_topic.responses[0]": {"google_pubsub_topic_iam_member.relay_publishes"},
    "google_pubsub_topic.dead_letters": {"google_pubsub_topic_iam_member.pubsub_publishes_dead_letters"},
    'google_pubsub_subscription.streams["x"]': {
        'google_pubsub_subscription_iam_member.pubsub_acknowledges_streams["x"]'
    },
    'google_pubsub_topic.streams["x-requests"]': {
        'google_pubsub_topic_iam_member.stream_requesters["x user:ann@example.com"]'
    },
    'google_pubsub_topic.streams["x-responses"]': {
        'google_pubsub_topic_iam_member.relay_publishes_elsewhere["projects/my-project/topics/inference-relay-x-responses"]'
    },
    "google_secret_manager_secret.routes[0]": {'google_secret_manager_secret_iam_member.relay_reads["ROUTES_FILE"]'},
    "google_secret_manager_secret.sidecar[0]": {"google_secret_manager_secret_iam_member.sidecar_reads[0]"},
    'google_secret_manager_secret.ledger["url"]': {'google_secret_manager_secret_iam_member.relay_reads["LEDGER_URL"]'},
    "google_redis_instance.ledger[0]": set(),
}
APPLIED = """
mock_provider "google" {}
variables {
  project                = "my-project"
  region                 = "europe-west4"
  image                  = "IMAGE0"
  model_url              = "https://model.example.com"
  model_slots            = 80
  model_api_key_secret   = { secret = "key", version = "1" }
  network                = { network = "n", subnetwork = "s" }
  ledger                 = {}
  prometheus_sidecar     = { image = "IMAGE1" }
  requesters             = ["user:ann@example.com"]
  dead_letter_readers    = ["user:ann@example.com"]
  response_subscriptions = {
    a = { members = ["user:ann@example.com", "user:bob@example.com"] }
    b = { members = ["user:bob@example.com"] }
  }
  streams = {
    x = { requesters = ["user:ann@example.com"], response_subscriptions = { c = {} } }
    y = { requesters = ["user:ann@example.com"], response_subscriptions = { c = {} } }
  }
}
run "made" {}
"""
IMAGE = "registry.example/relay@sha256:" + "0" * 63
ANOTHER_IMAGE = f'variables {{\n    image = "{IMAGE}1"\n  }}'
NO_STREAMS = "variables {\n    streams = {}\n  }"


def planned(terraform: Terraform, *thens: str) -> list[dict[str, list[str]]]:
    """What each of some plans, after the first that was applied, does with each resource that was made."""
    runs = [f'run "planned_{number}" {{\n  command = plan\n  {then}\n}}\n' for number, then in enumerate(thens)]
    text = APPLIED.replace("IMAGE", IMAGE) + "\n".join(runs)
    (terraform.root / RELAY / "tests/then.tftest.hcl").write_text(text)
    lines = terraform.test("-json", "-verbose", "-filter=tests/then.tftest.hcl", at=RELAY).splitlines()
    plans = [one["test_plan"] for one in map(json.loads, lines) if "test_plan" in one]
    return [{one["address"]: one["change"]["actions"] for one in plan["resource_changes"]} for plan in plans]


@pytest.fixture(scope="module")
def then(provider: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, list[str]]]:
    """The plan that replaces a resource, for each of them, that of another image and that without streams. None is
    applied, so that all have the same before them.
    """
    terraform = Terraform(provider, tmp_path_factory.mktemp("then"))
    wanted = {resource: f"plan_options {{\n    replace = [{resource}]\n  }}" for resource in REPLACED}
    wanted |= {"another image": ANOTHER_IMAGE, "no streams": NO_STREAMS}
    return dict(zip(wanted, planned(terraform, *wanted.values()), strict=True))


@pytest.mark.parametrize("resource", REPLACED)
def test_a_right_is_made_anew_with_what_it_is_on(then, resource):
    """A new filter makes a new subscription, on which nobody has a right; the others keep theirs."""
    anew = {address for address, actions in then[resource].items() if set(actions) == {"create", "delete"}}

    assert resource in anew
    assert {address for address in anew if "_iam_" in address} == REPLACED[resource]


@pytest.mark.parametrize("resource", REPLACED)
def test_the_old_one_goes_before_the_new_one_comes(then, resource):
    """They have the same name, which nothing else can have meanwhile."""
    assert then[resource][resource] == ["delete", "create"]


def test_a_right_on_a_key_stays_when_streams_come_and_go(then):
    """Two of the same would be made and taken away in any order, and the last word may be that there is none."""
    key = 'google_secret_manager_secret_iam_member.relay_reads["projects/my-project/secrets/key"]'
    assert then["no streams"][key] == ["no-op"]


def test_an_image_can_be_somebody_elses(broken, then):
    """With the override an apply leaves the image as it is; without, it sets its own."""
    shutil.copy(broken.root / RELAY / "image_override.tf.example", broken.root / RELAY / "image_override.tf")
    (owned,) = planned(broken, ANOTHER_IMAGE)

    for changes, actions in ((owned, ["no-op"]), (then["another image"], ["update"])):
        assert changes["google_cloud_run_v2_service.relay[0]"] == actions
        assert changes["google_cloud_run_v2_job.check[0]"] == actions

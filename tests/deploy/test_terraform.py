"""terraform/ is in one style, valid, and plans what it promises."""

import functools
import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest
import yaml

from handler.config.settings import DEFAULT_PATHS, Settings
from handler.rules.message.contract import parse_request
from tests.deploy import terraform_readme
from tests.deploy.settings import setting_names
from tests.deploy.terraform_run import EXAMPLES, RELAY, TERRAFORM

VARIABLE = re.compile(r'^variable "(\w+)" \{\n(.*?)^\}\n', re.M | re.S)
VALIDATION = re.compile(r"\n  validation \{\n.*?\n  \}\n", re.S)
OUTPUT = re.compile(r'^output "(\w+)" \{\n  description = (".*")\n  value       = (.*)\n\}\n', re.M)


def variables(at: Path) -> list[tuple[str, str]]:
    """Name and contents of each variable, in order."""
    files = sorted((TERRAFORM / at).glob("variables*.tf"))
    return [one for path in files for one in VARIABLE.findall(path.read_text())]


def test_the_files_are_in_terraforms_own_style(terraform):
    formatted = terraform("fmt", "-check", "-diff", "-recursive")

    assert (formatted.returncode, formatted.stdout) == (0, "")


@pytest.mark.parametrize("at", [Path(), RELAY], ids=["root", "relay"])
def test_the_configuration_is_valid(terraform, at):
    validated = terraform("validate", "-no-color", at=at)

    assert (validated.returncode, validated.stdout.strip()) == (0, "Success! The configuration is valid.")


RUN_OF_AN_EXAMPLE = """
mock_provider "google" {
  mock_resource "google_cloud_run_v2_service" {
    defaults = { uri = "https://service.example.app" }
  }
  mock_resource "google_secret_manager_secret_version" {
    defaults = { version = "1" }
  }
}
run "example" {
  command = COMMAND
}
"""
LOOKED_AT = ("private-model", "several-models")  # by tests below, so that these are made, too


@pytest.fixture(scope="module")
def examples(terraform) -> Callable[[str], list[dict]]:
    """What terraform test says of an example, by its name."""

    @functools.cache
    def one(name: str) -> list[dict]:
        at = Path("examples") / name
        command = "apply" if name in LOOKED_AT else "plan"
        (terraform.root / at / "tests").mkdir()
        (terraform.root / at / "tests/example.tftest.hcl").write_text(RUN_OF_AN_EXAMPLE.replace("COMMAND", command))
        return [json.loads(line) for line in terraform.test("-json", "-verbose", at=at).splitlines()]

    return one


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_valid_and_can_be_planned(examples, name):
    """A test run validates first; validations of values are the plan's. Neither warns of anything."""
    lines = examples(name)

    assert lines[-1]["@message"] == "Success! 1 passed, 0 failed."
    assert {line["@level"] for line in lines} == {"info"}


def test_the_example_of_a_backend_is_one(broken):
    """Terraform looks at a backend's arguments when it is initialised, and then asks for credentials."""
    for name in ("main", "variables", "outputs"):
        (broken.root / f"{name}.tf").unlink()
    shutil.copy(broken.root / "backend.tf.example", broken.root / "backend.tf")

    assert "Success! The configuration is valid." in broken("validate", "-no-color").stdout


def test_the_modules_readme_is_the_modules():
    """Its tables are made from the module: make docs."""
    head, made = terraform_readme.README.read_text().split(terraform_readme.MARK)

    assert made == "\n" + terraform_readme.tables()
    assert set(re.findall(r"`(\w+[.]tf(?:[.]example)?)`", head)) <= {
        one.name for one in (TERRAFORM / RELAY).iterdir()
    } | {"image_override.tf"}


@pytest.fixture(scope="module")
def example(terraform) -> list[dict]:
    """What terraform test says of the root module with terraform.tfvars.example."""
    return [
        json.loads(line)
        for line in terraform.test("-json", "-verbose", "-var-file=terraform.tfvars.example").splitlines()
    ]


@pytest.fixture(scope="module")
def made(example) -> list[dict]:
    """What each of its runs makes."""
    return [line["test_state"] for line in example if line["type"] == "test_state"]


def test_the_example_is_planned_as_promised(example):
    assert example[-1]["@message"] == "Success! 2 passed, 0 failed."


def test_every_validation_has_a_failing_case():
    """By number; what a case really fails at is tried by the mistakes below, and was for each validation."""
    cases = "".join(path.read_text() for path in (TERRAFORM / RELAY / "tests").glob("validation*.tftest.hcl"))

    for name, body in variables(RELAY):
        assert len(VALIDATION.findall(body)) <= cases.count(f"expect_failures = [var.{name}]"), name


def test_the_root_has_the_relays_variables_and_passes_each():
    """The root module and the relay say the same of each variable; only the relay validates."""
    relay, root = variables(RELAY), variables(Path())

    assert [(name, VALIDATION.sub("", body)) for name, body in relay] == root
    passed = re.findall(r"^  (\w+) += var\.(\w+)$", (TERRAFORM / "main.tf").read_text().split("source")[1], re.M)
    assert [(name, name) for name, _body in root] == passed


def name_of(at: Path) -> str:
    return at.name or "root"


@pytest.mark.parametrize("at", [Path(), RELAY], ids=["root", "relay"])
def test_the_provider_is_pinned_to_what_is_checked(at):
    schemas = json.loads(Path(__file__).with_name("terraform_google.json").read_text())

    kind, version = re.search(
        r'^      version = "(\S+) ([0-9.]+)"', (TERRAFORM / at / "versions.tf").read_text(), re.M
    ).groups()

    # The root says how far; a module that did would keep whoever uses it from another.
    assert (kind, schemas["version"].rpartition(".")[0]) == ({"root": "~>", "relay": ">="}[name_of(at)], version)


def test_the_root_has_the_relays_outputs():
    relay = OUTPUT.findall((TERRAFORM / RELAY / "outputs.tf").read_text())
    root = OUTPUT.findall((TERRAFORM / "outputs.tf").read_text())

    assert [(name, description, f"module.relay.{name}") for name, description, _value in relay] == root


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_the_variables_defaults_are_the_services(name):
    default = re.search(r"^  default += (.+)$", dict(variables(RELAY)).get(name, ""), re.M)

    if default and default[1] != "null":
        of_service = json.loads(json.dumps(Settings.model_fields[name].default)) or None
        assert of_service == (json.loads(default[1]) or None)


def test_the_service_takes_the_settings_that_it_is_given(made):
    on_cloud_run, on_knative = made
    resources = on_cloud_run["root_module"]["child_modules"][0]["resources"]
    service = next(one for one in resources if one["type"] == "google_cloud_run_v2_service")
    container = service["values"]["template"][0]["containers"][0]

    given = {one["name"]: one["value"] for one in container["env"]}, on_knative["outputs"]["knative_settings"]["value"]
    cloud_run, knative = map(Settings.from_environment, given)

    assert (cloud_run.push_auth, knative.push_auth) == ("platform", "verify")
    assert (cloud_run.grace_seconds, knative.grace_seconds) == (8, 570)
    assert [(one["MODEL_SLOTS"], one["MAX_WAITING"]) for one in given] == [("22", "978"), ("32", "3000")]
    assert {name for one in given for name in one} <= setting_names()


def made_of(example: list[dict]) -> dict[str, dict]:
    """What an example makes: the values of each resource, by its address."""
    state = next(line["test_state"] for line in example if line["type"] == "test_state")
    modules = [state["root_module"], *state["root_module"]["child_modules"]]
    return {one["address"]: one["values"] for module in modules for one in module.get("resources", [])}


def test_a_private_model_takes_calls_of_the_relay_alone(examples):
    """Of the example: who may invoke it is the account that the relay runs as, which calls it with an ID token."""
    made = made_of(examples("private-model"))
    model = made["google_cloud_run_v2_service.model"]
    template = made["module.relay.google_cloud_run_v2_service.relay[0]"]["template"][0]
    settings = {one["name"]: one["value"] for one in template["containers"][0]["env"]}
    (right,) = (values for name, values in made.items() if "service_iam_member.relay_invokes" in name)

    assert (model["invoker_iam_disabled"], right["role"], right["name"]) == (False, "roles/run.invoker", model["name"])
    assert right["member"] == f"serviceAccount:{template['service_account']}"
    assert (settings["MODEL_AUTH"], settings["MODEL_URL"]) == ("google-id-token", model["uri"])


def test_the_service_takes_the_file_of_routes_that_it_is_given(examples, tmp_path):
    """As the example writes it, where it is mounted, with the keys that it names; and editors take it too."""
    made = made_of(examples("several-models"))
    template = made["module.relay.google_cloud_run_v2_service.relay[0]"]["template"][0]
    file = made["module.relay.google_secret_manager_secret_version.routes[0]"]["secret_data"]
    mounts = {one["name"]: one["mount_path"] for one in template["containers"][0]["volume_mounts"]}
    (volume,) = template["volumes"]
    mounted = f"{mounts[volume['name']]}/{volume['secret'][0]['items'][0]['path']}"
    (tmp_path / "routes.yaml").write_text(file)
    given = {one["name"]: one["value"] or "a-key" for one in template["containers"][0]["env"]}
    assert given["ROUTES_FILE"] == mounted

    routing = Settings.from_environment(given | {"ROUTES_FILE": str(tmp_path / "routes.yaml")}).routing

    jsonschema.validate(yaml.safe_load(file), json.loads((TERRAFORM.parent / "docs/schemas/routes.json").read_text()))
    assert [(one.name, one.auth, one.slots, one.adapts) for one in routing.routes] == [
        ("chat", "key", 43, False),
        ("embeddings", "google-id-token", 10, False),
        ("gemini", "google-access-token", 20, True),
    ]
    assert {one.subscription.rpartition("/")[2]: one.response_topic.rpartition("/")[2] for one in routing.streams} == {
        "inference-relay-push": "inference-relay-responses",
        "inference-relay-push-people": "inference-relay-responses",
        "inference-relay-push-team-b": "inference-relay-team-b-responses",
    }
    pushing = [values["name"] for name, values in made.items() if values.get("push_config") and "subscription" in name]
    assert {one.subscription.rpartition("/")[2] for one in routing.streams} == set(pushing)
    assert given.keys() - setting_names() == {"MODEL_API_KEY_CHAT"}


def test_the_probes_ask_what_the_service_answers():
    """Those of the relay's own container."""
    container = (TERRAFORM / RELAY / "cloudrun.tf").read_text()
    paths = set(re.findall(r'path = "(/health/\w+)"', container))
    app = (TERRAFORM.parent / "handler/app.py").read_text()

    assert paths == {"/health/startup", "/health/live"}
    assert all(f'"{path}"' in app for path in paths)


def test_the_service_takes_the_ledgers_url(tmp_path):
    """As ledger.tf writes it, with a file for the one that is mounted."""
    (tmp_path / "ca.pem").touch()
    written = re.search(r'url = "(rediss:.*)"$', (TERRAFORM / RELAY / "ledger.tf").read_text(), re.M)[1]
    url = written.replace("${local.secret_root}/ledger-ca", str(tmp_path))
    for value in ("pass%2Fword", "10.1.2.3", "6378"):
        url = re.sub(r"\$\{.*?\)\}(?=[@:/])", value, url, count=1)
    given = {
        "MODEL_URL": "http://model",
        "RESPONSE_TOPIC": "projects/my-project/topics/responses",
        "PUSH_AUTH": "platform",
    }

    assert Settings.from_environment(given | {"LEDGER_URL": url}).ledger_url.get_secret_value() == (
        f"rediss://:pass%2Fword@10.1.2.3:6378/0?ssl_ca_certs={tmp_path}/ca.pem&ssl_check_hostname=false"
    )


def test_the_first_request_is_one(made):
    """The command that the output prints publishes what the service takes."""
    *_command, message = shlex.split(made[0]["outputs"]["publish"]["value"])

    request = parse_request(message.removeprefix("--message=").encode(), DEFAULT_PATHS)
    assert (request.metadata, request.path) == ({"id": "1"}, "/v1/completions")


def depends_on(graph: str, resource: str) -> set[str]:
    """Everything that is there before the resource is made."""
    edges = re.findall(r'"([^"]+)" -> "([^"]+)"', graph)
    found, new = set(), {resource}
    while new:
        new = {before for after, before in edges if after in new} - found
        found |= new
    return found


# Without the left one the right one would fail, or lose messages.
ORDER = (
    ("google_pubsub_topic_iam_member.relay_publishes", "google_cloud_run_v2_job.check"),
    ("google_secret_manager_secret_iam_member.relay_reads", "google_cloud_run_v2_job.check"),
    ("google_storage_bucket_iam_member.relay_reads", "google_cloud_run_v2_job.check"),
    ("google_storage_bucket_iam_member.relay_writes", "google_cloud_run_v2_job.check"),
    ("google_pubsub_topic.dead_letters", "google_pubsub_topic_iam_member.pubsub_publishes_dead_letters"),
    ("google_cloud_run_v2_service_iam_member.push_invokes", "google_pubsub_subscription.push"),
    ("google_pubsub_subscription.dead_letters", "google_pubsub_subscription.push"),
    ("google_pubsub_subscription.responses", "google_pubsub_subscription.push"),
    ("google_pubsub_topic_iam_member.pubsub_publishes_dead_letters", "google_pubsub_subscription.push"),
    ("google_pubsub_topic_iam_member.relay_publishes", "google_pubsub_subscription.push"),
    ("google_service_account_iam_member.pubsub_signs_as_push", "google_pubsub_subscription.push"),
    ("google_service_account_iam_member.pod_is_relay", "google_pubsub_subscription.push"),
    ("google_secret_manager_secret_iam_member.relay_reads", "google_cloud_run_v2_service.relay"),
    ("google_secret_manager_secret_version.ledger", "google_cloud_run_v2_service.relay"),
    ("google_secret_manager_secret_iam_member.sidecar_reads", "google_cloud_run_v2_service.relay"),
    ("google_logging_metric.relay", "google_monitoring_alert_policy.relay"),
    ("google_secret_manager_secret_version.routes", "google_cloud_run_v2_service.relay"),
    ("google_cloud_run_v2_service_iam_member.relay_invokes", "google_cloud_run_v2_job.check"),
    ("google_project_iam_member.relay_predicts", "google_cloud_run_v2_job.check"),
    ("google_pubsub_topic.streams", "google_pubsub_topic_iam_member.relay_publishes_elsewhere"),
    ("google_pubsub_topic.streams", "google_pubsub_topic_iam_member.stream_requesters"),
    *(
        (first, f"google_pubsub_subscription.{then}")
        for then in ("push", "streams")
        for first in (
            "google_cloud_run_v2_service_iam_member.relay_invokes",
            "google_project_iam_member.relay_predicts",
            "google_pubsub_topic_iam_member.relay_publishes_elsewhere",
            "google_storage_bucket_iam_member.relay_reads",
            "google_storage_bucket_iam_member.relay_writes",
        )
    ),
    ("google_cloud_run_v2_service_iam_member.push_invokes", "google_pubsub_subscription.streams"),
    ("google_pubsub_subscription.dead_letters", "google_pubsub_subscription.streams"),
    ("google_pubsub_subscription.responses", "google_pubsub_subscription.streams"),
    ("google_pubsub_topic_iam_member.pubsub_publishes_dead_letters", "google_pubsub_subscription.streams"),
    ("google_pubsub_topic_iam_member.relay_publishes", "google_pubsub_subscription.streams"),
    ("google_service_account_iam_member.pubsub_signs_as_push", "google_pubsub_subscription.streams"),
    ("google_service_account_iam_member.pod_is_relay", "google_pubsub_subscription.streams"),
)


@pytest.mark.parametrize(("first", "then"), ORDER, ids=lambda one: one.rpartition(".")[2])
def test_what_is_needed_is_there_before(graph, first, then):
    assert first in depends_on(graph, then)


@pytest.fixture(scope="module")
def graph(terraform) -> str:
    drawn = terraform("graph", at=RELAY)
    assert drawn.returncode == 0, drawn.stdout
    return drawn.stdout

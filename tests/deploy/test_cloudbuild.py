"""cloudbuild.yaml: valid, and its scripts do what their names say, with stand-ins for docker and gcloud."""

import json
import os
import re
import shutil
import subprocess
import textwrap
import tomllib
from importlib.resources import files

import pytest
import yaml
from click.testing import CliRunner

from tests.deploy import gcloud
from tests.parts.processes import BIN, ROOT

FILE = ROOT / "cloudbuild.yaml"
BUILD = yaml.safe_load(FILE.read_text())
STEPS = {step["id"]: step for step in BUILD["steps"]}
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
DIGEST = "sha256:" + "0123456789abcdef" * 4


CHECK = ("--builtin-schema", "vendor.cloudbuild")


def test_the_schema_takes_it():
    """Every field is one that Cloud Build knows; those of the top the schema leaves open, but names."""
    done = subprocess.run([BIN / "check-jsonschema", *CHECK, FILE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    schema = files("check_jsonschema").joinpath("builtin_schemas/vendor/cloudbuild.json").read_text()
    assert BUILD.keys() <= json.loads(schema)["properties"].keys()


@pytest.mark.parametrize(
    "wrong",
    [{"steps": [{"names": "x"}]}, {"options": {"machinetype": "X"}}, {"steps": [{"args": "no list"}]}],
    ids=["a field", "an option", "a type"],
)
def test_the_schema_refuses_what_is_wrong(tmp_path, wrong):
    """The check checks."""
    from check_jsonschema import main

    file = tmp_path / "cloudbuild.yaml"
    file.write_text(json.dumps(BUILD | wrong))
    said = CliRunner().invoke(main, [*CHECK, str(file)])
    assert (said.exit_code, "Schema validation errors were encountered" in said.output) == (1, True), said.output


def test_nothing_is_pushed_untested():
    """The push waits for the tests and the try, the deployment for the push."""
    assert STEPS["try"]["waitFor"] == ["build"]
    assert set(STEPS["push"]["waitFor"]) == {"test", "try"}
    assert STEPS["describe"]["waitFor"] == STEPS["attest"]["waitFor"] == ["push"]
    assert STEPS["deploy"]["waitFor"] == ["describe", "attest"]


def test_the_tools_are_pinned():
    """Each step's image has a version."""
    assert all(step["name"].rpartition(":")[2][:1].isdigit() for step in STEPS.values())


@pytest.fixture
def workspace(tmp_path):
    """A directory for /workspace and stand-ins for the tools, which note how they were called."""
    tools = tmp_path / "tools"
    tools.mkdir()
    docker = f"""
        #!/bin/sh
        echo "docker $*" >> "{tmp_path}/calls"
        case "$*" in
          *Health*) cat "{tmp_path}/health" ;;
          cp*) echo "{{}}" > "${{3}}" ;;
          *RepoDigests*) echo "somewhere/inference-relay@{DIGEST}" ;;
          run*) echo container ;;
        esac
    """
    for name, script in {
        "docker": docker,
        "gcloud": f'#!/bin/sh\necho "gcloud $*" >> "{tmp_path}/calls"\n',
        "sleep": "#!/bin/sh\n",
    }.items():
        (tools / name).write_text(textwrap.dedent(script).lstrip())
        (tools / name).chmod(0o755)
    (tmp_path / "health").write_text("healthy\n")
    return tmp_path


def run(step, workspace, **substitutions):
    """Run a step's script as Cloud Build would; what it printed. Raises if it fails."""
    script = workspace / f"{step}.sh"
    script.write_text(STEPS[step]["script"].replace("/workspace", str(workspace)))
    script.chmod(0o755)
    environment = {
        "PATH": f"{workspace / 'tools'}:{os.environ['PATH']}",
        "BUILDER_OUTPUT": str(workspace / "outputs"),
        "PROJECT_ID": "p",
        "BUILD_ID": "7",
        **BUILD["substitutions"],
        **substitutions,
    }
    done = subprocess.run([script], cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout


@pytest.mark.parametrize(
    ("given", "commit"), [({"COMMIT_SHA": "abc"}, "abc"), ({"COMMIT_SHA": "", "_TAG": "def"}, "def"), ({}, None)]
)
def test_the_tags_are_the_build_and_the_commit(workspace, given, commit):
    """A trigger's commit, or the one that one is told; and never `latest`. The image is labelled with them, too."""
    where = {"_REGION": "europe-west1", "_REPOSITORY": "r", **given}
    run("build", workspace, **where)
    run("push", workspace, **where)
    image = "europe-west1-docker.pkg.dev/p/r/inference-relay"
    calls = (workspace / "calls").read_text().splitlines()
    labels = {"version": VERSION} | ({"revision": commit} if commit else {})
    named = " ".join(f"--label org.opencontainers.image.{name}={value}" for name, value in labels.items())
    assert calls[0] == f"docker build --pull --tag {image}:build-7 {named} ."
    pushed = [call.removeprefix(f"docker push {image}:") for call in calls if call.startswith("docker push ")]
    assert pushed == ["build-7"] + [commit] * bool(commit)


def test_provenance_is_made_of_the_image(workspace):
    """`images` names what the steps tag, pushed by Cloud Build itself; without provenance the build fails."""
    run("build", workspace)
    (named,) = BUILD["images"]
    values = {**BUILD["substitutions"], "PROJECT_ID": "p", "BUILD_ID": "7"}
    assert re.sub(r"\$\{(\w+)\}", lambda found: values[found[1]], named) == (workspace / "tagged").read_text().strip()
    assert BUILD["options"]["requestedVerifyOption"] == "VERIFIED"


def test_it_builds_as_an_account_of_its_own():
    """The project's default account has no role in new organisations; one's own needs its log in Cloud Logging."""
    account = BUILD["serviceAccount"]
    assert account == "projects/${PROJECT_ID}/serviceAccounts/${_BUILD_ACCOUNT}@${PROJECT_ID}.iam.gserviceaccount.com"
    assert BUILD["substitutions"]["_BUILD_ACCOUNT"]
    assert BUILD["options"]["logging"] == "CLOUD_LOGGING_ONLY"


def test_the_image_is_tried(workspace):
    """As strictly as it will run; one that does not become healthy ends the build, and nothing is left running."""
    run("build", workspace)
    run("try", workspace)
    calls = (workspace / "calls").read_text()
    assert "--read-only" in calls
    assert "--cap-drop ALL" in calls
    assert calls.endswith("docker rm --force container\n")
    (workspace / "health").write_text("unhealthy\n")
    with pytest.raises(subprocess.CalledProcessError):
        run("try", workspace)
    assert (workspace / "calls").read_text().endswith("docker rm --force container\n")


def test_the_digest_is_what_is_deployed(workspace):
    """It is the step's output, and goes to the service that is named."""
    run("build", workspace)
    run("push", workspace)
    assert DIGEST in (workspace / "outputs/output").read_text()
    run("deploy", workspace, _SERVICE="relay", _REGION="europe-west1")
    deployed = (workspace / "calls").read_text().splitlines()[-1]
    assert deployed == (
        f"gcloud run services update relay --project p --region europe-west1 --image somewhere/inference-relay@{DIGEST}"
    )


def test_the_bill_of_materials_is_uploaded(workspace):
    """That of the image that was tried, where there is a bucket for it."""
    for step in ("build", "try", "push"):
        run(step, workspace)
    assert "stays in the image" in run("describe", workspace)
    run("describe", workspace, _SBOM_BUCKET="sboms")
    assert (workspace / "calls").read_text().splitlines()[-1] == (
        f"gcloud artifacts sbom load --project p --source {workspace}/sbom.cdx.json "
        f"--uri somewhere/inference-relay@{DIGEST} --destination gs://sboms"
    )
    assert json.loads((workspace / "sbom.cdx.json").read_text()) == {}


def test_the_image_is_attested(workspace):
    """By its digest, where there is an attestor."""
    for step in ("build", "push"):
        run(step, workspace)
    assert "not attested" in run("attest", workspace)
    run("attest", workspace, _ATTESTOR="projects/p/attestors/built", _KEY_VERSION="projects/p/key/1")
    assert (workspace / "calls").read_text().splitlines()[-1] == (
        f"gcloud beta container binauthz attestations sign-and-create --project p --artifact-url "
        f"somewhere/inference-relay@{DIGEST} --attestor projects/p/attestors/built --keyversion projects/p/key/1"
    )


def test_nothing_is_deployed_unless_a_service_is_named(workspace):
    """The digest is printed for whoever deploys in another way."""
    run("build", workspace)
    run("push", workspace)
    assert DIGEST in run("deploy", workspace)
    assert "gcloud" not in (workspace / "calls").read_text()


def test_the_tests_are_those_of_the_makefile():
    """What is tested before a push is what is tested anywhere."""
    targets = set((ROOT / "Makefile").read_text().split("\n"))
    for command in ("lint", "test"):
        assert f"make {command}\n" in STEPS["test"]["script"]
        assert any(line.startswith(f"{command}: ") for line in targets)


def test_what_is_tested_is_what_ships():
    """The test step installs the very files that the image is made of."""
    assert "export LOCKED=1\nmake lint\nmake test\n" in STEPS["test"]["script"]


def test_terraforms_state_is_not_uploaded(tmp_path):
    """It has the ledger's password, and lies beside the sources; what else is there goes along."""
    if gcloud.table() is None:
        pytest.skip("what is uploaded is not checked: needs the Google Cloud SDK")
    shutil.copy(ROOT / ".gitignore", tmp_path)
    mine = ("main.tf", "terraform.tfvars.example", ".terraform.lock.hcl")
    for name in (*mine, "terraform.tfstate", "terraform.tfstate.backup", "terraform.tfvars", ".terraform/provider"):
        (tmp_path / "terraform" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "terraform" / name).touch()
    environment = {**os.environ, "CLOUDSDK_CONFIG": str(tmp_path / "none"), "CLOUDSDK_CORE_DISABLE_PROMPTS": "1"}
    command = ["gcloud", "meta", "list-files-for-upload", tmp_path]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert {line for line in done.stdout.split() if line.startswith("terraform/")} == {
        f"terraform/{one}" for one in mine
    }


def test_gcloud_knows_what_the_steps_ask_of_it():
    """Its commands and their flags."""
    root = gcloud.table()
    if root is None:
        pytest.skip("the gcloud commands are not checked: needs the Google Cloud SDK")
    found = [words for step in STEPS.values() for words in gcloud.commands(step["script"])]
    assert [wrong for words in found if (wrong := gcloud.problem(root, words))] == []
    assert len(found) == 3

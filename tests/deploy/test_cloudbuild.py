"""cloudbuild.yaml: valid, and its scripts do what their names say, with stand-ins for docker and gcloud."""

import json
import os
import subprocess
import textwrap
from importlib.resources import files

import pytest
import yaml

from tests.e2e.conftest import BIN, ROOT

FILE = ROOT / "cloudbuild.yaml"
BUILD = yaml.safe_load(FILE.read_text())
STEPS = {step["id"]: step for step in BUILD["steps"]}
DIGEST = "sha256:" + "0123456789abcdef" * 4


def valid(file):
    """Whether Cloud Build's schema takes this file."""
    command = [BIN / "check-jsonschema", "--builtin-schema", "vendor.cloudbuild", file]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_the_schema_takes_it():
    """Every field is one that Cloud Build knows; those of the top the schema leaves open, but names."""
    assert valid(FILE)
    schema = files("check_jsonschema").joinpath("builtin_schemas/vendor/cloudbuild.json").read_text()
    assert BUILD.keys() <= json.loads(schema)["properties"].keys()


@pytest.mark.parametrize(
    "wrong", [{"steps": [{"names": "x"}]}, {"options": {"machinetype": "X"}}, {"steps": [{"args": "no list"}]}]
)
def test_the_schema_refuses_what_is_wrong(tmp_path, wrong):
    """The check checks."""
    file = tmp_path / "cloudbuild.yaml"
    file.write_text(json.dumps(BUILD | wrong))
    assert not valid(file)


def test_nothing_is_pushed_untested():
    """The push waits for the tests and the try, the deployment for the push."""
    assert STEPS["try"]["waitFor"] == ["build"]
    assert set(STEPS["push"]["waitFor"]) == {"test", "try"}
    assert STEPS["deploy"]["waitFor"] == ["push"]


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
    return subprocess.run([script], env=environment, capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.mark.parametrize(
    ("given", "tag"),
    [({"COMMIT_SHA": "abc"}, "abc"), ({"COMMIT_SHA": "", "_TAG": "def"}, "def"), ({}, "build-7")],
)
def test_the_tag_is_the_commit(workspace, given, tag):
    """A trigger's, or what one is told; and never `latest`."""
    run("build", workspace, _REGION="europe-west1", _REPOSITORY="r", **given)
    tagged = f"europe-west1-docker.pkg.dev/p/r/inference-relay:{tag}"
    assert (workspace / "calls").read_text() == f"docker build --pull --tag {tagged} .\n"


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

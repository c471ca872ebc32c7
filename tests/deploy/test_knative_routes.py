"""knative/routes: an overlay that names it mounts the file of routes, which the service takes."""

import json
import shutil
import subprocess

import jsonschema
import pytest
import yaml

from handler.config.settings import Settings
from tests.deploy.settings import setting_names
from tests.deploy.test_knative import OVERLAYS, check
from tests.parts.processes import ROOT, missing

COMPONENT = ROOT / "knative/routes"


def rendered(knative, overlay):
    """What would be applied with the component, and without MODEL_URL, as the page says."""
    at = knative / "overlays" / overlay
    settings = (at / "settings.env").read_text().splitlines()
    (at / "settings.env").write_text("\n".join(line for line in settings if not line.startswith("MODEL_URL=")))
    with (at / "kustomization.yaml").open("a") as file:
        file.write("\ncomponents:\n  - ../../routes\n")
    done = subprocess.run(["kubectl", "kustomize", at], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr
    return list(yaml.safe_load_all(done.stdout))


@pytest.fixture(params=OVERLAYS)
def documents(request, tmp_path):
    """Each overlay in turn, with the component."""
    if not shutil.which("kubectl"):
        missing("knative/ is not rendered: needs kubectl")
    return rendered(shutil.copytree(ROOT / "knative", tmp_path / "knative"), request.param)


@pytest.fixture
def spec(documents):
    """The pods' spec."""
    (service,) = (one for one in documents if one["kind"] == "Service")
    return service["spec"]["template"]["spec"]


@pytest.fixture
def configs(documents):
    """The ConfigMaps' data, by name."""
    return {one["metadata"]["name"]: one["data"] for one in documents if one["kind"] == "ConfigMap"}


def test_every_field_is_known(documents):
    """To Knative's closed schema, like what it is added to."""
    for document in documents:
        check(document)


def test_the_file_is_mounted_where_the_setting_says(spec, configs):
    """From a ConfigMap whose name follows from it: an edit makes a new revision, which reads it."""
    (container,) = spec["containers"]
    mounts = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}
    volumes = {one["name"]: one for one in spec["volumes"]}
    setting = next(one["value"] for one in container["env"] if one["name"] == "ROUTES_FILE")

    assert mounts == {"tmp": "/tmp", "routes": "/etc/inference-relay/routes"}
    assert volumes.keys() == mounts.keys()
    name = volumes["routes"]["configMap"]["name"]
    assert name.startswith("inference-relay-routes-")
    assert configs[name] == {"routes.yaml": (COMPONENT / "routes.yaml").read_text()}
    assert setting == f"{mounts['routes']}/routes.yaml"


def test_keys_come_from_a_secret_that_need_not_exist(spec):
    """Whatever the file's api_key_env name is in one Secret."""
    sources = spec["containers"][0]["envFrom"]
    assert sources[1:] == [{"secretRef": {"name": "inference-relay-routes", "optional": True}}]


def test_the_service_takes_the_file(spec, configs, tmp_path):
    """With the overlay's settings and the keys that the file names; and editors take it too."""
    (container,) = spec["containers"]
    (settings,) = (data for data in configs.values() if "routes.yaml" not in data)
    (file,) = (data["routes.yaml"] for data in configs.values() if "routes.yaml" in data)
    given = settings | {one["name"]: one["value"] for one in container["env"] if "value" in one}
    assert given.keys() <= setting_names()
    (tmp_path / "routes.yaml").write_text(file)

    routing = Settings.from_environment(
        given | {"ROUTES_FILE": str(tmp_path / "routes.yaml"), "CHAT_API_KEY": "a-key"}
    ).routing

    assert [(one.name, one.auth, one.slots) for one in routing.routes] == [
        ("chat", "key", 128),
        ("embeddings", "none", 16),
    ]
    assert [one.subscription for one in routing.streams] == ["inference-relay-push", "inference-relay-push-urgent"]
    schema = json.loads((ROOT / "docs/schemas/routes.json").read_text())
    jsonschema.validate(yaml.safe_load(file), schema)


def test_terraform_says_the_same_path():
    """knative_settings has what is mounted."""
    patches = yaml.safe_load((COMPONENT / "kustomization.yaml").read_text())["patches"]
    paths = [one["value"]["value"] for one in yaml.safe_load(patches[0]["patch"]) if one["path"].endswith("env/-")]
    settings = (ROOT / "terraform/modules/relay/settings.tf").read_text()
    assert paths == ["/etc/inference-relay/routes/routes.yaml"]
    assert '"/etc/inference-relay"}/routes/routes.yaml"' in settings

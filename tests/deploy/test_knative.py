"""knative/: valid to the last field, and in agreement with the service's own settings.

The overlays are rendered by kubectl as they would be applied, and held against the closed schema of
serving.knative.dev/v1: a field that Knative does not know is an error here, before a cluster would say so.
"""

import copy
import re
import shutil
import subprocess
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

import jsonschema
import pytest
import yaml

from handler.config.settings import Settings
from tests.deploy.kubernetes import PEER, PORTS, SELECTOR, TEXTS, many, published, resource, thing
from tests.deploy.settings import setting_names
from tests.parts.processes import ROOT, missing

OVERLAYS = sorted(path.name for path in (ROOT / "knative/overlays").iterdir())
ANNOTATIONS = {
    "autoscaling.knative.dev/" + name
    for name in (
        *(
            "activation-scale",
            "class",
            "initial-scale",
            "max-scale",
            "metric",
            "min-scale",
            "panic-threshold-percentage",
        ),
        *("panic-window-percentage", "scale-down-delay", "scale-to-zero-pod-retention-period", "target"),
        *("target-burst-capacity", "target-utilization-percentage", "window"),
    )
}

OURS = {
    "ServiceAccount": resource("v1", "ServiceAccount", automountServiceAccountToken={"type": "boolean"}),
    "ConfigMap": resource("v1", "ConfigMap", data=TEXTS),
    "NetworkPolicy": resource(
        "networking.k8s.io/v1",
        "NetworkPolicy",
        spec=thing(
            2,
            podSelector=SELECTOR,
            policyTypes=many({"enum": ["Ingress", "Egress"]}),
            ingress=many(thing(2, **{"from": many(PEER)}, ports=PORTS)),
            egress=many(thing(1, to=many(PEER), ports=PORTS)),
        ),
    ),
}


def check(document):
    """Raise for whatever its kind does not allow. Its kind has to be one that is expected."""
    if document["kind"] == "Service":
        schema = published("knative_serving.serving.v1", "Service") | {"required": ["apiVersion", "kind", "spec"]}
    else:
        schema = OURS[document["kind"]]
    jsonschema.Draft202012Validator(schema).validate(document)


# --- the rendered overlays


class Installation:
    """What `kubectl apply -k` would apply."""

    def __init__(self, documents):
        self.documents = documents
        (self.service,) = self.of("Service")
        (self.account,) = self.of("ServiceAccount")
        (self.config,) = self.of("ConfigMap")
        self.template = self.service["spec"]["template"]
        self.spec = self.template["spec"]
        (self.container,) = self.spec["containers"]
        self.fixed = {one["name"]: one["value"] for one in self.container["env"] if "value" in one}
        self.secret = {one["name"]: one["valueFrom"] for one in self.container["env"] if "value" not in one}
        self.settings = Settings.from_environment(self.config["data"] | self.fixed)

    def of(self, kind):
        """The documents of one kind."""
        return [document for document in self.documents if document["kind"] == kind]


@pytest.fixture(scope="module", params=OVERLAYS)
def installation(request):
    """Each overlay in turn."""
    if not shutil.which("kubectl"):
        missing("knative/ is not rendered: needs kubectl")
    done = subprocess.run(
        ["kubectl", "kustomize", ROOT / "knative/overlays" / request.param], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr
    return Installation(list(yaml.safe_load_all(done.stdout)))


def test_every_field_is_known(installation):
    """Closed schemas take every resource, all of them in one namespace."""
    for document in installation.documents:
        check(document)
    assert {document["metadata"]["namespace"] for document in installation.documents} == {"inference-relay"}
    kinds = sorted(document["kind"] for document in installation.documents)
    assert kinds == ["ConfigMap", "NetworkPolicy", "NetworkPolicy", "Service", "ServiceAccount"]


def test_an_unknown_field_is_refused(installation):
    """Wherever it is: in every object of every resource, one more field is an error."""
    tried = 0
    for number, document in enumerate(installation.documents):
        for path in objects(document):
            wrong = copy.deepcopy(installation.documents[number])
            follow(wrong, path)["timeoutSecond"] = 600
            with pytest.raises(jsonschema.ValidationError):
                check(wrong)
            tried += 1
    assert tried > 40


def objects(value, path=()):
    """The paths of all objects whose fields have fixed names."""
    free = ("labels", "annotations", "matchLabels", "data", "limits", "requests", "emptyDir")
    if isinstance(value, dict):
        if not (path and path[-1] in free):
            yield path
        for key, one in value.items():
            yield from objects(one, (*path, key))
    elif isinstance(value, list):
        for number, one in enumerate(value):
            yield from objects(one, (*path, number))


def follow(value, path):
    """What is at a path."""
    for step in path:
        value = value[step]
    return value


def test_every_variable_is_a_setting(installation):
    """And comes from one place."""
    names = setting_names()
    given = [*installation.fixed, *installation.secret, *installation.config["data"]]
    assert set(given) <= names
    assert len(given) == len(set(given))
    assert installation.secret.keys() == {"MODEL_API_KEY", "LEDGER_URL"}
    assert all(source["secretKeyRef"]["optional"] for source in installation.secret.values())
    (source,) = installation.container["envFrom"]
    assert source == {"configMapRef": {"name": installation.config["metadata"]["name"]}}
    # A name that follows from the content: an edit makes a new revision, which reads it.
    assert re.fullmatch(r"inference-relay-[a-z0-9]{10}", installation.config["metadata"]["name"])


def test_what_the_subscription_has_is_not_fixed(installation):
    """What Terraform gives the subscription and the service alike is the installation's to say, in settings.env."""
    alike = {"ACK_DEADLINE_SECONDS", "MAX_ATTEMPTS", "PUSH_AUDIENCE", "PUSH_SERVICE_ACCOUNT", "RESPONSE_TOPIC"}
    assert not alike & installation.fixed.keys()


def test_pushes_are_verified(installation):
    """By the service itself, and no overlay's settings.env can say otherwise."""
    assert installation.settings.push_auth == "verify"
    assert "PUSH_AUTH" in installation.fixed
    assert installation.settings.pubsub_emulator_host is None


def test_what_waits_waits_in_the_services_line(installation):
    """Knative neither holds pushes back nor starts instances for them: their number is fixed, and with it the slots."""
    assert installation.spec["containerConcurrency"] == 0
    annotations = installation.template["metadata"]["annotations"]
    assert annotations.keys() <= ANNOTATIONS
    assert annotations["autoscaling.knative.dev/target-burst-capacity"] == "0"
    least, most = (int(annotations[f"autoscaling.knative.dev/{end}-scale"]) for end in ("min", "max"))
    assert 1 <= least == most
    assert int(installation.fixed["MODEL_SLOTS"]) >= 1
    assert int(installation.fixed["MAX_WAITING"]) >= 3000
    assert "CONCURRENCY" not in installation.fixed.keys() | installation.config["data"].keys()


def test_what_waits_fits_into_memory(installation):
    """The line may have half of what the limit leaves; the calls in the slots need the other half."""
    limit = installation.container["resources"]["limits"]["memory"]
    assert int(installation.fixed["MAX_WAITING_MB"]) == (int(limit.removesuffix("Gi")) * 1024 - 256) / 2


def test_the_times_fit(installation):
    """Knative cuts nothing off that Pub/Sub still waits for, and leaves the time to end that the service counts on."""
    timeout = installation.spec["timeoutSeconds"]
    assert timeout == installation.spec["responseStartTimeoutSeconds"] == 600
    assert installation.settings.ack_deadline_seconds <= timeout
    assert installation.settings.grace_seconds == timeout - 30


def test_the_probes_ask_what_the_service_answers(installation):
    """Liveness and readiness are different questions."""
    paths = {kind: installation.container[kind]["httpGet"]["path"] for kind in ("livenessProbe", "readinessProbe")}
    assert paths == {"livenessProbe": "/health/live", "readinessProbe": "/health/ready"}
    app = (ROOT / "handler/app.py").read_text()
    assert all(path in app for path in paths.values())


def test_the_pod_may_do_little(installation):
    """No root, no writing but to memory, no capabilities, no token of Kubernetes'; the user is the image's."""
    security = installation.container["securityContext"]
    user = int(re.search(r"^USER (\d+):\1$", (ROOT / "Dockerfile").read_text(), re.MULTILINE).group(1))
    assert security == {
        "runAsNonRoot": True,
        "runAsUser": user,
        "runAsGroup": user,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert installation.container["volumeMounts"] == [{"name": "tmp", "mountPath": "/tmp"}]
    assert installation.spec["volumes"][0]["emptyDir"]["medium"] == "Memory"
    assert installation.spec["automountServiceAccountToken"] is False
    assert installation.account["automountServiceAccountToken"] is False
    assert installation.spec["serviceAccountName"] == installation.account["metadata"]["name"]
    assert "iam.gke.io/gcp-service-account" in installation.account["metadata"]["annotations"]
    assert installation.container["resources"].keys() == {"limits", "requests"}


def test_the_network_policies_are_about_the_pods_and_the_model(installation):
    """They select what the Service starts, and let it reach the namespace that MODEL_URL names."""
    labels = installation.template["metadata"]["labels"]
    reached = set()
    for policy in installation.of("NetworkPolicy"):
        assert policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
        for rule in policy["spec"].get("egress", []):
            for peer in rule["to"]:
                reached |= set(peer.get("namespaceSelector", {}).get("matchLabels", {}).values())
    host = urlsplit(installation.settings.model_url).hostname
    assert host.endswith(".svc.cluster.local")
    assert host.split(".")[1] in reached


def reaches(policy, address, port, protocol):
    """Whether an egress rule lets pods reach an address outside of the cluster."""
    return any(
        ip_address(address) in ip_network(peer["ipBlock"]["cidr"])
        and not any(ip_address(address) in ip_network(one) for one in peer["ipBlock"].get("except", []))
        for rule in policy["spec"].get("egress", [])
        if {"port": port, "protocol": protocol} in rule.get("ports", [])
        for peer in rule["to"]
        if "ipBlock" in peer
    )


@pytest.mark.parametrize("protocol", ["UDP", "TCP"])
@pytest.mark.parametrize("server", ["169.254.20.10", "169.254.169.254"], ids=["NodeLocal DNSCache", "Cloud DNS"])
def test_names_can_be_looked_up(installation, server, protocol):
    """Where the cluster's names are served by the node, or by Cloud DNS at the metadata server's address."""
    assert any(reaches(policy, server, 53, protocol) for policy in installation.of("NetworkPolicy"))
    assert not any(reaches(policy, "10.0.0.10", 53, protocol) for policy in installation.of("NetworkPolicy"))


def test_the_metadata_server_can_be_asked(installation):
    """For Workload Identity: at its address before GKE's dataplane changed it, and after."""
    for address, port in (("169.254.169.254", 80), ("169.254.169.252", 988)):
        assert any(reaches(policy, address, port, "TCP") for policy in installation.of("NetworkPolicy"))


def test_the_image_is_named_by_its_digest(installation):
    """What was tested is what runs."""
    assert re.search(r"/inference-relay@sha256:[0-9a-f]{64}$", installation.container["image"])


def test_the_base_agrees_with_itself():
    """Without an overlay's numbers too: the port is one that Knative hands on, and there is one instance."""
    service = yaml.safe_load((ROOT / "knative/base/service.yaml").read_text())
    template = service["spec"]["template"]
    (container,) = template["spec"]["containers"]
    annotations = template["metadata"]["annotations"]
    assert annotations["autoscaling.knative.dev/min-scale"] == annotations["autoscaling.knative.dev/max-scale"] == "1"
    assert container["ports"] == [{"name": "http1", "containerPort": Settings.model_fields["port"].default}]

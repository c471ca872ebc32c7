"""What knative/ has beside the overlays: an address for the model, time for its answers, and a certificate."""

import jsonschema
import yaml

from tests.deploy.kubernetes import TEXT, TEXTS, many, resource, thing
from tests.parts.processes import ROOT

LOAD_BALANCER = resource(
    "v1",
    "Service",
    spec=thing(
        3,
        type={"const": "LoadBalancer"},
        selector=TEXTS,
        ports=many(
            thing(4, name=TEXT, port={"type": "integer"}, targetPort={"type": "integer"}, protocol={"const": "TCP"})
        ),
    ),
)
BACKEND_POLICY = resource(
    "networking.gke.io/v1",
    "GCPBackendPolicy",
    spec=thing(
        2,
        default=thing(1, timeoutSec={"type": "integer"}),
        targetRef=thing(3, group={"const": ""}, kind={"const": "Service"}, name=TEXT),
    ),
)


ISSUER = resource(
    "cert-manager.io/v1",
    "ClusterIssuer",
    spec=thing(
        1,
        acme=thing(
            4,
            server=TEXT,
            email=TEXT,
            privateKeySecretRef=thing(1, name=TEXT),
            solvers=many(thing(1, http01=thing(1, ingress=thing(1, **{"class": TEXT})))),
        ),
    ),
)


def manifest(name, schema):
    """One of those beside the overlays, which its closed schema takes."""
    document = yaml.safe_load((ROOT / "knative" / name).read_text())
    jsonschema.Draft202012Validator(schema).validate(document)
    return document


def test_the_model_is_reached_through_the_vpc():
    """A passthrough load balancer with an internal address, from every region."""
    service = manifest("model/internal-load-balancer.yaml", LOAD_BALANCER)
    assert service["metadata"]["annotations"] == {
        "networking.gke.io/load-balancer-type": "Internal",
        "networking.gke.io/internal-load-balancer-allow-global-access": "true",
    }


def test_a_gateway_waits_for_the_model():
    """No shorter than any ack deadline."""
    assert manifest("model/gateway-timeout.yaml", BACKEND_POLICY)["spec"]["default"]["timeoutSec"] == 600


def test_the_certificate_is_a_public_authoritys():
    """And the issuer's name is the one that the page gives to Knative."""
    issuer = manifest("tls/issuer.yaml", ISSUER)
    assert issuer["spec"]["acme"]["server"].startswith("https://acme-v02.")
    page = (ROOT / "docs/deploy-knative.md").read_text()
    assert f"kind: ClusterIssuer\\nname: {issuer['metadata']['name']}" in page

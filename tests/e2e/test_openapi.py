"""Whatever is made up from docs/openapi.yaml, the running service answers as it says there."""

import os

import pytest
import schemathesis
from hypothesis import given, settings
from schemathesis import GenerationMode
from schemathesis.core.parameters import ParameterLocation
from schemathesis.specs.openapi.checks import negative_data_rejection

from tests.parts.processes import ROOT, free_port

EXAMPLES = int(os.environ.get("OPENAPI_EXAMPLES", "60"))
REFUSED = negative_data_rejection


def must_be_refused(case):
    """Whether wrong data is looked at: headers may make the body any bytes, or mend it, and are ignored otherwise."""
    body = case.meta.components.get(ParameterLocation.BODY)
    read_otherwise = {"x-goog-pubsub-message-id", "ce-id"} & set(case.headers or {})
    return body is not None and body.mode is GenerationMode.NEGATIVE and not read_otherwise


@pytest.fixture(scope="module")
def metrics_port():
    """A setting: the same for all tests, so that they share a service."""
    return free_port()


@pytest.mark.parametrize(
    ("path", "method", "mode"),
    [
        ("/{path}", "POST", GenerationMode.POSITIVE),
        ("/{path}", "POST", GenerationMode.NEGATIVE),
        ("/health/live", "GET", GenerationMode.POSITIVE),
        ("/health/ready", "GET", GenerationMode.POSITIVE),
        ("/health/startup", "GET", GenerationMode.POSITIVE),
        ("/metrics", "GET", GenerationMode.POSITIVE),
    ],
)
def test_the_service_is_as_described(local_world, metrics_port, path, method, mode):
    """Pushes that conform are acknowledged, others get a documented answer, and nothing is the server's error."""
    service, _, _ = local_world("gunicorn", PUSH_AUTH="platform", METRICS_PORT=str(metrics_port))
    url = f"http://127.0.0.1:{metrics_port}" if path == "/metrics" else service.url
    operation = schemathesis.openapi.from_path(ROOT / "docs" / "openapi.yaml")[path][method]

    @given(operation.as_strategy(generation_mode=mode))
    @settings(max_examples=EXAMPLES, derandomize=True, database=None, deadline=None)
    def answered_as_described(case):
        case.call_and_validate(base_url=url, excluded_checks=[] if must_be_refused(case) else [REFUSED])

    answered_as_described()

"""A model of one's own that lets nobody in without a token, and whose certificate is no public authority's."""

import base64
import json

import pytest
import trustme

from tests.cooperative.metadata import MetadataServer, running
from tests.parts.model import Model, http, serving
from tests.parts.tls import server_context

from .conftest import running_up


@pytest.fixture(scope="module")
def authority():
    """A certificate authority of the tests' own."""
    return trustme.CA()


@pytest.fixture
def private(authority):
    """A model that is served over TLS."""
    model = Model()
    model.socket = server_context(authority, "127.0.0.1").wrap_socket(model.socket, server_side=True)
    model.url = model.url.replace("http:", "https:")
    model.replies["GET /v1/models"] = [http(200, "application/json", b'{"data": [{"id": "private-model"}]}')]
    with serving(model):
        yield model


@pytest.fixture
def settings(authority, tmp_path):
    """How it is called in production, on a machine that Google gives tokens to."""
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(file)
    with running(MetadataServer()) as metadata:
        machine = {"GCE_METADATA_HOST": metadata.address, "GCE_METADATA_IP": metadata.address}
        nobody = {"GOOGLE_APPLICATION_CREDENTIALS": "", "CLOUDSDK_CONFIG": str(tmp_path)}
        yield {**machine, **nobody, "MODEL_CA_FILE": str(file), "MODEL_AUTH": "google-id-token"}


def audience(headers):
    """Whom the token of a call is for."""
    part = headers["Authorization"].split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))["aud"]


@pytest.mark.parametrize("named", ["", "https://somebody"])
def test_it_is_called_as_in_production(private, settings, named):
    """The proxy in between changes neither who is trusted nor whom tokens are for: MODEL_AUDIENCE, or the origin."""
    with running_up(f"{private.url}/base", **settings, MODEL_AUDIENCE=named) as up, up.watched() as watched:
        up.publish("hi")
        watched.until(lambda seen: seen.messages and seen.last()["stage"] == "answered")
    assert watched.last()["answer"]["status"] == 200
    assert [path for path, _ in private.calls] == ["/base/v1/completions"]
    assert audience(private.headers[0]) == (named or private.url)

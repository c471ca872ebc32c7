"""Who may push, with the tokens of the project's own Pub/Sub."""

import pytest

from tests.parts.processes import until
from tests.parts.service import push_of

ACCOUNT = "pusher@project.iam.gserviceaccount.com"
VERIFY = {"PUSH_AUTH": "verify", "PUSH_AUDIENCE": "relay", "PUSH_SERVICE_ACCOUNT": ACCOUNT}
REQUEST = {"metadata": {}, "body": {"prompt": "hello"}}


def pushed(topics, service, account=ACCOUNT, audience="relay"):
    """Have a request pushed with a token of this account for this audience."""
    topics.push_to(service.url + "/", oidc_token={"service_account_email": account, "audience": audience})
    topics.publish(REQUEST)


def test_the_subscriptions_own_account(local_world, certs_url):
    """Its pushes are answered; a push by hand is not even looked at."""
    service, topics, model = local_world("gunicorn", PUSH_CERTS_URL=certs_url, **VERIFY)
    assert service.push(push_of(REQUEST)) == 401
    assert model.calls == []
    pushed(topics, service)
    assert topics.response()[0]["body"] == {"echo": "hello"}


@pytest.mark.parametrize(
    ("sent", "reason", "status"),
    [
        ({"audience": "somebody else"}, "unauthenticated", 401),
        ({"account": "other@project.iam.gserviceaccount.com"}, "forbidden", 403),
    ],
    ids=["another audience", "another account"],
)
def test_others(local_world, certs_url, sent, reason, status):
    """Another account, or a token for another audience, is refused and says so in the log."""
    service, topics, model = local_world("gunicorn", PUSH_CERTS_URL=certs_url, **VERIFY)
    pushed(topics, service, **sent)
    until(lambda: (reason, status) in [(line.get("reason"), line.get("status")) for line in service.log()])
    assert model.calls == []


def test_keys_that_cannot_be_fetched(local_topics, model, serve):
    """The message waits for its redelivery: nobody knows whether its token is good."""
    service = serve("gunicorn", MODEL_URL=model.url, PUSH_CERTS_URL="http://127.0.0.1:9/certs", **VERIFY)
    pushed(local_topics, service)
    until(lambda: any("reason" in line for line in service.log()))
    line = next(line for line in service.log() if "reason" in line)
    assert (line["reason"], line["status"]) == ("keys_unavailable", 503)


def test_another_issuer(local_topics, model, serve, certs_url):
    """PUSH_ISSUER is a setting, and its value must match."""
    service = serve("gunicorn", MODEL_URL=model.url, PUSH_CERTS_URL=certs_url, PUSH_ISSUER="https://other", **VERIFY)
    pushed(local_topics, service)
    until(service.log)
    assert service.log()[0]["reason"] == "unauthenticated"


@pytest.mark.parametrize(
    ("environment", "warned"),
    [
        ({"PUSH_AUTH": "platform", "K_SERVICE": "relay"}, False),
        ({"PUSH_AUTH": "platform"}, True),
        ({"PUSH_AUTH": "platform", "K_SERVICE": "relay", "KUBERNETES_SERVICE_HOST": "10.0.0.1"}, True),
        ({"PUSH_AUTH": "none"}, False),
    ],
    ids=["Cloud Run", "nowhere", "Knative", "emulator"],
)
def test_trust_in_a_platform_that_is_not_there(local_topics, model, serve, environment, warned):
    """PUSH_AUTH=platform where no platform checks pushes is said in plain words at the start."""
    service = serve("gunicorn", MODEL_URL=model.url, **environment)
    lines = [line for line in service.log() if line["severity"] == "WARNING"]
    assert bool(lines) is warned
    assert not warned or "PUSH_AUTH=verify" in lines[0]["message"]


def test_what_the_responses_say_of_the_server(local_world):
    """Nothing beyond what HTTP asks for, and the name of the server that everybody can read in the docs; no version."""
    service, _, _ = local_world("gunicorn")
    for method, path, body in (("POST", "/", push_of(REQUEST)), ("POST", "/", b"junk"), ("GET", "/health/live", None)):
        _, headers, _ = service.request(method, path, body)
        assert set(headers) <= {"Date", "Connection", "Content-Type", "Content-Length", "Server"}
        assert headers["Server"] == "gunicorn"

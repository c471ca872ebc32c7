"""Settings from the environment, or one message that says what to mend."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from handler.commands import tables
from handler.config.doubts import doubts
from handler.config.settings import DEFAULT_PATHS, Settings, SettingsError

GOOD = {
    "MODEL_URL": "http://kubeai/openai",
    "RESPONSE_TOPIC": "projects/my-project/topics/responses",
    "PUSH_AUTH": "platform",
}


def test_the_defaults():
    """Three variables are enough."""
    settings = Settings.from_environment(GOOD)
    assert settings.model_url == "http://kubeai/openai"
    assert settings.allowed_paths == DEFAULT_PATHS
    assert (settings.slots, settings.pushes, settings.connections) == (64, 3064, 3468)


def test_the_old_name_of_the_slots():
    """It sets them."""
    assert Settings.from_environment(GOOD | {"CONCURRENCY": "7"}).slots == 7


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("MODEL_URL", "https://host:8443/", "https://host:8443"),
        ("MODEL_URL", "http://[::1]:8000", "http://[::1]:8000"),
        ("ALLOWED_PATHS", " /v1/a , /v2/b,", ("/v1/a", "/v2/b")),
        ("RESPONSE_TOPIC", " projects/example.com:p/topics/r_1 ", "projects/example.com:p/topics/r_1"),
        ("MODEL_CA_FILE", __file__, __file__),
        ("CONCURRENCY", "2000", 2000),
        ("GRACE_SECONDS", "0", 0),
        ("MAX_AGE_SECONDS", "  ", 86400),
        ("LOG_LEVEL", "DEBUG", "DEBUG"),
        ("ATTRIBUTE_HEADERS", " tenant = X-Tenant, ", (("tenant", "X-Tenant"),)),
        (
            "RESPONSE_TOPICS",
            "projects/p/topics/one,projects/p/topics/two",
            ("projects/p/topics/one", "projects/p/topics/two"),
        ),
        ("MODEL_AUTH", "google-id-token", "google-id-token"),
    ],
)
def test_good_values(name, value, expected):
    """Values are read with blanks around them; a variable of blanks alone counts as not set."""
    assert expected == getattr(Settings.from_environment(GOOD | {name: value}), name.lower())


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("MODEL_URL", "", "is not set"),
        ("MODEL_URL", "kubeai/openai", "http:// or https://"),
        ("MODEL_URL", "http://", "http:// or https://"),
        ("MODEL_URL", "http://kubeai/openai/v1", "leave the /v1 out"),
        ("MODEL_URL", "http://kubeai/openai/v1/", "leave the /v1 out"),
        ("MODEL_URL", "http://user:secret@kubeai", "user name"),
        ("MODEL_URL", "http://kubeai?x=1", "query"),
        ("MODEL_URL", "http://kub eai", "blanks"),
        ("MODEL_URL", "http://kubeai:port", "is not an http"),
        ("MODEL_URL", "http://kubeai:0", "is not an http"),
        ("MODEL_URL", "http://[", "is not an http"),
        ("RESPONSE_TOPIC", "responses", "projects/PROJECT/topics/TOPIC"),
        ("RESPONSE_TOPIC", "projects/p/topics/r", "TOPIC of 3 to 255 characters"),
        ("RESPONSE_TOPICS", "projects/p/topics/one, other", "projects/PROJECT/topics/TOPIC"),
        ("ATTRIBUTE_HEADERS", "tenant", "no attribute=Header-Name"),
        ("ATTRIBUTE_HEADERS", "tenant=X Tenant", "no attribute=Header-Name"),
        ("ATTRIBUTE_HEADERS", "=X-Tenant", "no attribute=Header-Name"),
        *(
            ("ATTRIBUTE_HEADERS", f"a={header}", "not a requester's to set")
            for header in ("Authorization", "host", "Content-Length", "Transfer-Encoding", "Cookie", "proxy-x", "Sec-x")
        ),
        ("MODEL_AUTH", "oidc", "MODEL_AUTH should be 'none', 'key', 'google-id-token'"),
        ("MODEL_SLOTS", "many", "as an integer, or should be 'auto' (calls"),
        ("MODEL_AUTH", "key", "MODEL_AUTH=key needs MODEL_API_KEY"),
        ("PUSH_AUTH", "", "is not set"),
        ("PUSH_AUTH", "off", "'verify', 'platform' or 'none'"),
        ("PUSH_AUTH", "none", "PUBSUB_EMULATOR_HOST"),
        ("PUSH_AUTH", "verify", "PUSH_AUDIENCE"),
        ("ALLOWED_PATHS", ",", "at least 1"),
        ("ALLOWED_PATHS", "v1/completions", "no plain path"),
        ("ALLOWED_PATHS", "/v1/../admin", "no plain path"),
        ("ALLOWED_PATHS", "/v1/./admin", "no plain path"),
        ("ALLOWED_PATHS", "/v1/a?b", "no plain path"),
        ("MODEL_API_KEY", "two\nlines", "bearer token"),
        ("MODEL_CA_FILE", "/does/not/exist", "not there"),
        ("ACK_DEADLINE_SECONDS", "601", "600"),
        ("ACK_DEADLINE_SECONDS", "60", "come to 580"),
        ("MODEL_TIMEOUT_SECONDS", "590", "come to 630"),
        ("MODEL_TIMEOUT_SECONDS", "nan", "MODEL_TIMEOUT_SECONDS"),
        ("MODEL_TIMEOUT_SECONDS", "inf", "MODEL_TIMEOUT_SECONDS"),
        ("MODEL_TIMEOUT_SECONDS", "0", "greater than 0"),
        ("MAX_ATTEMPTS", "0", "MAX_ATTEMPTS"),
        ("MAX_ATTEMPTS", "1.5", "MAX_ATTEMPTS"),
        ("CONCURRENCY", "2001", "2000"),
        ("PORT", "70000", "PORT"),
        ("LOG_LEVEL", "loud", "LOG_LEVEL"),
    ],
)
def test_bad_values(name, value, says):
    """A wrong value stops the start with its variable's name and the fix."""
    with pytest.raises(SettingsError, match="inference-relay cannot start: ") as caught:
        Settings.from_environment(GOOD | {name: value})
    assert says in str(caught.value)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_that_does_not_go_together_is_said_at_once():
    """Or each start would find the next."""
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment(
            GOOD
            | {"PUSH_AUTH": "none", "PUSH_CERTS_URL": "http://keys.example.com/certs", "MODEL_AUTH": "key"}
            | {"CONTROL_MESSAGES": "true", "ACK_DEADLINE_SECONDS": "60"}
        )
    for problem in ("PUSH_AUTH=none lets", "PUSH_CERTS_URL", "MODEL_AUTH=key needs", "needs LEDGER_URL", "come to"):
        assert problem in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "https://www.googleapis.com/oauth2/v1/certs",
        "https://keys.example.com:8443/certs?v=1",
        "http://127.0.0.1:8085/certs",
        "http://localhost/certs",
        "http://[::1]:8085/certs",
    ],
)
def test_keys_are_taken_from_https_or_this_machine(url):
    """PUSH_CERTS_URL may be https, or http on loopback."""
    Settings.from_environment(GOOD | {"PUSH_CERTS_URL": url})


@pytest.mark.parametrize(
    "url",
    [
        "http://keys.example.com/certs",
        "http://10.0.0.1/certs",
        "http://localhost.example.com/certs",
        "file:///etc/certs",
        "ftp://keys.example.com/certs",
        "keys.example.com/certs",
        "https://",
        "https:///certs",
        "https://keys.example.com:99999/certs",
        "https://keys.example.com:0/certs",
        "https://keys.example.com:port/certs",
        "https://[keys/certs",
        "https://user:password@keys.example.com/certs",
        "https://keys.example.com/a b",
        "https://keys.example.com/\u2603",
    ],
)
def test_keys_are_not_taken_from_elsewhere(url):
    """Over plain http anybody on the way could sign pushes; a URL that cannot work stops the start."""
    with pytest.raises(SettingsError, match="PUSH_CERTS_URL"):
        Settings.from_environment(GOOD | {"PUSH_CERTS_URL": url})


def test_an_emulators_keys_may_come_over_http():
    """Where an emulator stands in for Pub/Sub its keys may come over a container network."""
    Settings.from_environment(
        GOOD | {"PUSH_CERTS_URL": "http://pubsub:8085/certs", "PUBSUB_EMULATOR_HOST": "pubsub:8085"}
    )


@pytest.mark.parametrize(
    ("environment", "doubted"),
    [
        ({"K_SERVICE": "relay"}, False),
        ({}, True),
        ({"CLOUD_RUN_JOB": "relay-check"}, False),
        ({"K_SERVICE": "relay", "KUBERNETES_SERVICE_HOST": "10.0.0.1"}, True),
    ],
)
def test_a_platform_that_may_not_check(environment, doubted):
    """PUSH_AUTH=platform anywhere but on Cloud Run is doubtful."""
    assert doubted is bool(list(doubts(Settings.from_environment(GOOD), environment)))


@pytest.mark.parametrize(
    "url",
    [
        "redis://redis",
        "redis://10.0.0.3:6379/",
        "redis://[::1]:6379/15",
        "redis://:hunter2@redis:6379/0",
        "rediss://user:p%40ss%2Fword@redis.example.com:6380",
        f"rediss://redis?ssl_ca_certs={__file__}",
    ],
)
def test_a_ledgers_url(url):
    """LEDGER_URL leads to a Redis; unlike other URLs it may carry a user and a password."""
    settings = Settings.from_environment(GOOD | {"LEDGER_URL": url})
    assert settings.ledger_url is not None
    assert settings.ledger_url.get_secret_value() == url
    assert "hunter2" not in repr(settings)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis:6379", "redis:// or rediss://"),
        ("http://:hunter2@redis:6379", "redis:// or rediss://"),
        ("unix:///var/run/redis.sock", "redis:// or rediss://"),
        ("redis://", "redis:// or rediss://"),
        ("redis://:hunter2@", "redis:// or rediss://"),
        ("redis://redis:0", "redis:// or rediss://"),
        ("redis://redis:99999", "redis:// or rediss://"),
        ("redis://[redis", "redis:// or rediss://"),
        ("redis://:hunter2/@redis:6379", "percent-encoded"),
        ("redis://:hunter2#@redis:6379", "percent-encoded"),
        ("redis://:hunter2 x@redis:6379", "percent-encoded"),
        ("redis://redis/0#part", "redis:// or rediss://"),
        ("redis://redis/cache", "database's number"),
        ("redis://redis/0/1", "database's number"),
        ("redis://redis?socket_timeout=60", "leave the others out"),
        ("rediss://redis?ssl_cert_reqs=none", "leave the others out"),
        (f"rediss://redis?ssl_ca_certs={__file__}&db=1", "leave the others out"),
        (f"redis://redis?ssl_ca_certs={__file__}", "only for rediss://"),
        ("rediss://redis?ssl_ca_certs=/does/not/exist", "not there"),
    ],
)
def test_a_ledgers_url_that_cannot_work(url, says):
    """It stops the start with the fix, and without the URL, which may have a password in it."""
    with pytest.raises(SettingsError, match="LEDGER_URL") as caught:
        Settings.from_environment(GOOD | {"LEDGER_URL": url})
    assert says in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_all_problems_at_once():
    """Nobody should have to start three times to learn three mistakes."""
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment({})
    assert all(name in str(caught.value) for name in GOOD)


def test_secrets_are_not_shown():
    """The API key appears in no message and no representation."""
    assert "hunter2" not in repr(Settings.from_environment(GOOD | {"MODEL_API_KEY": "hunter2"}))
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment(GOOD | {"MODEL_API_KEY": "hunter2 x"})
    assert "hunter2" not in str(caught.value)


def test_settings_are_frozen():
    """They are read once."""
    with pytest.raises(ValidationError, match="frozen"):
        Settings.from_environment(GOOD).port = 1


def test_the_table_tells_no_value_from_the_value_none():
    """`none` is a value of some settings: a default that there is not is called something else."""
    rows = [line.split(" | ") for line in tables.of_settings().splitlines() if line.startswith("| `")]
    defaults = {row[0].strip("|` "): row[1] for row in rows}
    assert (defaults["MODEL_AUTH"], defaults["REQUEST_BUCKETS"]) == ("not set", "not set")


def test_the_documented_table_is_that_of_the_code():
    """docs/settings.md holds the table that the code prints: run `make docs` after a change."""
    page = (Path(__file__).parents[2] / "docs" / "settings.md").read_text()
    assert tables.of_settings() in page

"""Settings of Google's libraries: what is wrong is said at the start, and in plain words."""

import pytest

from handler.config.google import problems


@pytest.mark.parametrize(
    "value", ["127.0.0.1:8085", "localhost:8085", "pubsub-emulator.test_1.svc:80", "[::1]:8085", " host:1 "]
)
def test_an_emulators_address(value):
    """HOST:PORT is right."""
    assert problems({"PUBSUB_EMULATOR_HOST": value}) == []


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("http://localhost:8085", "without http://"),
        ("localhost", "is not HOST:PORT"),
        ("localhost:port", "is not HOST:PORT"),
        ("localhost:0", "is not HOST:PORT"),
        ("localhost:70000", "is not HOST:PORT"),
        ("localhost:8085/", "without a path"),
        (":8085", "is not HOST:PORT"),
        ("::1:8085", "is not HOST:PORT"),
    ],
)
def test_what_is_no_address(value, says):
    """It is named, with an example."""
    [problem] = problems({"PUBSUB_EMULATOR_HOST": value})
    assert problem.startswith("PUBSUB_EMULATOR_HOST ")
    assert says in problem
    assert "127.0.0.1:8085" in problem


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot be read: No such file"),
        ("", "is no key"),
        ("[]", "is no key"),
        ("{}", "is no key"),
        ('{"type": 1}', "no text"),
        ("planted", "is no key"),
        ('["planted"]', "is no key"),
        ('{"planted": 1}', "is no key"),
        ('{"type": 1, "planted": 1}', "no text"),
        ('{"type": "service_account"}', ""),
        ('{"type": "external_account"}', ""),
    ],
)
def test_credentials(tmp_path, content, says):
    """The file is there and is a key; what is in it is never quoted."""
    file = tmp_path / "key.json"
    if content is not None:
        file.write_text(content)
    found = problems({"GOOGLE_APPLICATION_CREDENTIALS": str(file)})
    assert len(found) == bool(says)
    assert all(says in problem and "planted" not in problem for problem in found)


def test_the_others(tmp_path):
    """Choices and files; what is set to nothing is not set."""
    assert problems({"GOOGLE_API_USE_MTLS_ENDPOINT": "auto", "GOOGLE_API_USE_CLIENT_CERTIFICATE": "true"}) == []
    assert problems(dict.fromkeys(("PUBSUB_EMULATOR_HOST", "GOOGLE_APPLICATION_CREDENTIALS"), " ")) == []
    wrong = {
        "GOOGLE_API_USE_MTLS_ENDPOINT": "maybe",
        "GOOGLE_API_USE_CLIENT_CERTIFICATE": "1",
        "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(tmp_path / "none"),
        "GOOGLE_APPLICATION_CREDENTIALS": "\0",
    }
    assert sorted(problem.split()[0] for problem in problems(wrong)) == sorted(wrong)

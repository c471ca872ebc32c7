"""Checks the settings of Google's and gRPC's libraries that the service relies on, which fail late and in other words.

Sources: google.auth.environment_vars, google.auth.transport.mtls, and gRPC's doc/environment_variables.md.
"""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")


def problems(environment: Mapping[str, str]) -> list[str]:
    """What is wrong with them, a sentence each that begins with the variable; a variable set to blanks is not set."""
    given = {name: value.strip() for name, value in environment.items() if value.strip()}
    return [f"{name} {problem}" for name, check in _CHECKS.items() if name in given and (problem := check(given[name]))]


def _emulator(value: str) -> str:
    match = _HOST.fullmatch(value)
    if match and 0 < int(match[2]) < 1 << 16:
        return ""
    hint = ", without http:// and without a path" if "/" in value else ""
    return f"is not HOST:PORT{hint}, e.g. 127.0.0.1:8085"


def _credentials(value: str) -> str:
    if problem := _file(value):
        return problem
    try:
        kind = json.loads(Path(value).read_text(encoding="utf-8"))["type"]
    except (ValueError, LookupError, TypeError, OSError):
        return "names a file that is no key of Google's: JSON with a `type`"
    return "" if isinstance(kind, str) else "names a file whose `type` is no text"


def _file(value: str) -> str:
    try:
        with Path(value).open("rb"):
            return ""
    except (OSError, ValueError) as error:
        return f"names a file that cannot be read: {getattr(error, 'strerror', None) or error}"


def _one_of(*choices: str) -> Callable[[str], str]:
    return lambda value: "" if value.lower() in choices else f"is none of {', '.join(choices)}"


_CHECKS = {
    "PUBSUB_EMULATOR_HOST": _emulator,
    "GOOGLE_APPLICATION_CREDENTIALS": _credentials,
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": _file,
    "GOOGLE_API_USE_MTLS_ENDPOINT": _one_of("never", "auto", "always"),
    "GOOGLE_API_USE_CLIENT_CERTIFICATE": _one_of("true", "false"),
}

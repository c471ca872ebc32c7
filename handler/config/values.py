"""What the values of settings may be. Each function returns a value that can be used, or raises ValueError.

The message says what is wrong, and what would be right; it never quotes a secret.
"""

import re
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from pydantic import Field, SecretStr

from handler.rules.message.reference import BUCKET

Seconds = Annotated[float, Field(gt=0, le=86400 * 31, allow_inf_nan=False)]

_TOPIC = re.compile(r"projects/[^/\s]+/topics/[A-Za-z][A-Za-z0-9._~+%-]{2,254}")
_PATH = re.compile(r"(?:/[A-Za-z0-9._~-]+)+")


def _http_url(value: str) -> SplitResult:
    """A URL that can be called as it stands. Raises ValueError with what is wrong with it."""
    try:
        url = urlsplit(value)
        is_http = url.scheme in ("http", "https") and url.hostname and url.port != 0
    except ValueError:  # of `port` too, beyond 65535
        is_http = False
    if not is_http:
        raise ValueError("is not an http:// or https:// URL of a host and perhaps a port")
    if "@" in url.netloc:
        raise ValueError("carries a user name or password, which a URL is no place for")
    if not re.fullmatch(r"[!-~]+", value):
        raise ValueError("may not have blanks or characters beyond ASCII")
    return url


def base_url(value: str) -> str:
    """The URL of a service, to which a path is appended."""
    url = _http_url(value.rstrip("/"))
    if url.query or url.fragment:
        raise ValueError("may have neither a query nor a fragment")
    if url.path.endswith("/v1"):
        raise ValueError("ends in /v1, which the request's path brings along: leave the /v1 out")
    return url.geturl()


def origin(url: str) -> str:
    """Scheme, host and port of a URL: the audience that a service expects in tokens, unless it is told otherwise."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def url(value: str) -> str:
    """A URL that can be called."""
    return _http_url(value).geturl()


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def topic(value: str) -> str:
    """The full name of a Pub/Sub topic."""
    if not _TOPIC.fullmatch(value):
        raise ValueError("is not of the form projects/PROJECT/topics/TOPIC, with a TOPIC of 3 to 255 characters")
    return value


def paths(value: object) -> object:
    """Paths separated by commas; what is no text is left as it is."""
    if not isinstance(value, str):
        return value
    return tuple(path for path in (part.strip() for part in value.split(",")) if path)


def plain_paths(paths: tuple[str, ...]) -> tuple[str, ...]:
    """Paths as the model service may be asked for."""
    for path in paths:
        if not _PATH.fullmatch(path) or "/../" in f"{path}/" or "/./" in f"{path}/":
            raise ValueError(f"has {path!r}, which is no plain path such as /v1/completions")
    return paths


def bucket(value: str) -> str:
    """The name of a bucket in Cloud Storage; gs:// before it and / behind it do no harm."""
    name = value.removeprefix("gs://").removesuffix("/")
    if not re.fullmatch(BUCKET, name):
        raise ValueError(f"has {value!r}, which is no bucket's name such as my-bucket")
    return name


def buckets(names: tuple[str, ...]) -> tuple[str, ...]:
    """Names of buckets."""
    return tuple(bucket(name) for name in names)


def header_value(value: SecretStr) -> SecretStr:
    """A bearer token."""
    if not re.fullmatch(r"[!-~]+", value.get_secret_value()):
        raise ValueError("has blanks or characters that a bearer token cannot have")
    return value


def ledger_url(value: SecretStr) -> SecretStr:
    """A URL as redis-py takes it, less what would change how long it waits. No message quotes it."""
    text = value.get_secret_value()
    try:
        url = urlsplit(text)
        is_redis = url.scheme in ("redis", "rediss") and url.hostname and url.port != 0
    except ValueError:
        is_redis = False
    if not is_redis or not re.fullmatch(r"[!-~]+", text) or url.fragment:
        raise ValueError(
            "is not a redis:// or rediss:// URL such as redis://user:password@host:6379/0, in which the password's "
            "special characters have to be percent-encoded"
        )
    if not re.fullmatch(r"(?:/[0-9]{0,4})?", url.path):
        raise ValueError("has something else than a database's number after the host")
    _ledger_options(url)
    return value


def _ledger_options(url: SplitResult) -> None:
    option = re.fullmatch(r"(?:ssl_ca_certs=([^&;+%]+)(?:&ssl_check_hostname=(?:true|false))?)?", url.query)
    if not option:
        raise ValueError(
            "has another option than ssl_ca_certs=FILE, in plain characters, with ssl_check_hostname=true or false "
            "behind it: leave the others out"
        )
    if option[1] and url.scheme != "rediss":
        raise ValueError("has ssl_ca_certs, which is only for rediss://")
    if option[1]:
        file(option[1])


def file(value: str) -> str:
    """The name of a file that is there."""
    if not Path(value).is_file():
        raise ValueError("names a file that is not there")
    return value


def topics(names: tuple[str, ...]) -> tuple[str, ...]:
    """Full names of Pub/Sub topics."""
    return tuple(topic(name) for name in names)


_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# What belongs to the connection, to the request's framing, or to who the relay is.
_NOT_TO_BE_SET = frozenset(
    {
        *("accept", "accept-encoding", "authorization", "connection", "content-encoding", "content-length"),
        *("content-type", "cookie", "expect", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"),
        "user-agent",
    }
)


def header_names(value: object) -> object:
    """`attribute=header` pairs separated by commas, as pairs; what is no text is left as it is."""
    if not isinstance(value, str):
        return value
    pairs = [pair.partition("=") for pair in value.split(",") if pair.strip()]
    return tuple((attribute.strip(), header.strip()) for attribute, _, header in pairs)


def attribute_headers(pairs: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """Attributes, each with the header that carries it."""
    for attribute, header in pairs:
        if not attribute or not _TOKEN.fullmatch(header):
            raise ValueError(f"has {attribute}={header}, which is no attribute=Header-Name")
        if header.lower() in _NOT_TO_BE_SET or header.lower().startswith(("proxy-", "sec-")):
            raise ValueError(f"has the header {header}, which is not a requester's to set")
    return pairs

"""JSON as the RFC has it: what `json` lets through beyond it (NaN, overflow, any depth) is refused."""

import json
import math
from codecs import BOM_UTF8
from typing import Any

MAX_DEPTH = 200


class JsonError(ValueError):
    """Not JSON that this service takes. The message says why, and never quotes the text."""


def loads(data: bytes, *, finite: bool = True) -> Any:
    """Parse UTF-8 JSON text. Raises JsonError and nothing else, whatever the bytes.

    Integers are exact up to 4,300 digits, the interpreter's own limit. Lone surrogates are kept: `dumps` writes them
    back. With `finite`, numbers that overflow a double are refused; without it they are read as infinity, faster, which
    does for a text that is only looked at and passed on byte by byte.
    """
    value = _parse(data, _FINITE if finite else _ANY)
    if _may_be_deep(data):
        _check_depth(value)
    return value


def dumps(value: Any) -> bytes:
    """Write compact UTF-8 JSON; falls back to ASCII escapes where UTF-8 cannot hold a string (lone surrogates)."""
    try:
        return _UTF8.encode(value).encode()
    except UnicodeEncodeError:
        return _ASCII.encode(value).encode()


def pretty(value: Any) -> str:
    """JSON for a person to read."""
    return json.dumps(value, ensure_ascii=False, indent=2)


def _parse(data: bytes, decoder: json.JSONDecoder) -> Any:
    if data.startswith(BOM_UTF8):
        raise JsonError("it begins with a byte order mark (BOM), which JSON may not")
    try:
        return decoder.decode(data.decode())
    except UnicodeDecodeError as error:
        raise JsonError(f"not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise JsonError(str(error)) from None
    except RecursionError:
        raise JsonError(f"nested more than {MAX_DEPTH} levels deep") from None
    except JsonError:
        raise
    except ValueError:
        raise JsonError("a number has more than 4,300 digits") from None


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise JsonError("a number is too large for a double")
    return number


def _refuse_constant(name: str) -> None:
    raise JsonError(f"{name} is not JSON")


# json.loads and json.dumps make one of these each time; making it takes as long as a small text.
_FINITE = json.JSONDecoder(parse_float=_finite, parse_constant=_refuse_constant)
_ANY = json.JSONDecoder(parse_constant=_refuse_constant)
_UTF8 = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_ASCII = json.JSONEncoder(allow_nan=False, separators=(",", ":"))


def _may_be_deep(data: bytes) -> bool:
    # Counting brackets is a hundred times faster than walking, and nearly all texts have fewer than the limit. `find`
    # is many times faster than `count`, which matters in megabytes of prose.
    found = 0
    for bracket in (b"[", b"{"):
        at = data.find(bracket)
        while at >= 0:
            found += 1
            if found > MAX_DEPTH:
                return True
            at = data.find(bracket, at + 1)
    return False


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [child for parent in level for child in _children(parent)]
        if not level:
            return
    raise JsonError(f"nested more than {MAX_DEPTH} levels deep")


def _children(value: Any) -> Any:
    if isinstance(value, dict):
        return [child for child in value.values() if isinstance(child, dict | list)]
    if isinstance(value, list):
        return [child for child in value if isinstance(child, dict | list)]
    return ()

"""JSON as the RFC has it: what `json` lets through beyond it (NaN, overflow, any depth) is refused."""

import json
import math
from codecs import BOM_UTF8
from typing import Any

from pydantic_core import from_json

MAX_DEPTH = 200
# From here on pydantic_core's parser goes first. It takes a fifth of the time for megabytes of numbers, in which
# nothing else happens in the process; what it refuses or could read otherwise is left to the strict one.
LARGE_BYTES = 1 << 16


class JsonError(ValueError):
    """Not JSON that this service takes. The message says why, and never quotes the text."""


def loads(data: bytes, *, finite: bool = True) -> Any:
    """Parse UTF-8 JSON text. Raises JsonError and nothing else, whatever the bytes.

    Integers are exact up to 4,300 digits, the interpreter's own limit. Lone surrogates are kept: `dumps` writes them
    back. With `finite`, numbers that overflow a double are refused; without it they are read as infinity, faster, which
    does for a text that is only looked at and passed on byte by byte.
    """
    value = _parse_large(data, finite=finite) if len(data) >= LARGE_BYTES else _UNSURE
    if value is _UNSURE:
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


_UNSURE = object()


def _parse_large(data: bytes, *, finite: bool) -> Any:
    """The value, or _UNSURE where the strict parser could say something else."""
    if finite and _may_overflow(data):
        return _UNSURE
    try:
        return from_json(data, allow_inf_nan=False)
    except ValueError:  # lone surrogates too, which are well-formed here
        return _UNSURE


# A letter for each kind of character: `e` before an exponent, `0` for a digit.
_KINDS = bytes(ord("e") if byte in b"eE" else ord("0") if byte in b"0123456789" else ord(" ") for byte in range(256))


def _may_overflow(data: bytes) -> bool:
    """Whether a number could be beyond a double: an exponent of three digits, or three hundred digits in a row."""
    kinds = data.translate(_KINDS, b"+")
    return b"e000" in kinds or b"0" * 300 in kinds


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

"""A YAML file as a pydantic model; what is wrong in it is named by its line."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from handler.config import problems

Model = TypeVar("Model", bound=BaseModel)

MAX_BYTES = 1 << 20
_NAMES = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge")


class _Loader(yaml.SafeLoader):
    """PyYAML's own, which lets through what Python raises at a value that is not of the kind that it is said to be."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep=deep)
        except (yaml.YAMLError, RecursionError):
            raise
        except Exception:  # noqa: BLE001 - of int() it is ValueError or IndexError, of a table KeyError, ...
            kind = node.tag.rpartition(":")[2]
            problem = f"this is no {kind}: put it in quotes if it is a text"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from None


def load(path: str, model: type[Model]) -> Model:
    """Read the file at `path`. Raises ValueError, one line, with every problem and its line number."""
    text = _text(path)
    try:
        root = _Loader(text).get_single_node()
        if root is None:
            raise ValueError("is empty")
        wrong = list(_wrong_keys(root))
        if wrong:
            raise ValueError("; ".join(wrong))
        document = _Loader(text).get_single_data()
    except yaml.YAMLError as error:
        raise ValueError(_unreadable(error)) from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise ValueError("; ".join(_explained(error.errors(), root))) from None


def _text(path: str) -> str:
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise ValueError("is larger than 1 MiB")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8 text") from None


def _unreadable(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.reader.ReaderError):
        return str(error.reason)
    mark = getattr(error, "problem_mark", None)
    said = ", ".join(filter(None, (getattr(error, "context", None), getattr(error, "problem", None)))) or "is no YAML"
    return f"line {mark.line + 1}: {said}" if mark else said


def _wrong_keys(root: yaml.Node) -> Iterator[str]:
    """Keys that name nothing, and those that stand twice in a mapping, of which YAML's readers take the last."""
    for mapping in _mappings(root):
        seen = set()
        for key, _ in mapping.value:
            place = f"line {key.start_mark.line + 1}: "
            if not isinstance(key, yaml.ScalarNode) or key.tag not in _NAMES:
                yield f"{place}a key is no text: put it in quotes"
            elif key.value in seen:
                yield f"{place}{_shown(key.value)} stands there twice"
            else:
                seen.add(key.value)


def _mappings(root: yaml.Node) -> Iterator[yaml.MappingNode]:
    """Every mapping, in its order, once: what has an anchor may stand in many places, and in itself."""
    waiting, seen = [root], set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            yield node
            waiting.extend(value for _, value in reversed(node.value))
        elif isinstance(node, yaml.SequenceNode):
            waiting.extend(reversed(node.value))


def _shown(name: object) -> str:
    """A name as it can stand in a line."""
    return str(name) if str(name).isprintable() else ascii(name)


def _explained(errors: Sequence[ErrorDetails], root: yaml.Node) -> Iterator[str]:
    """One problem a field, with its line."""
    within = {error["loc"][:end] for error in errors for end in range(len(error["loc"]))}
    found: dict[str, list[str]] = {}
    for error in errors:
        # A list of which every entry is wrong is said to be too short as well, which it is not.
        if error["type"] != "too_short" or error["loc"] not in within:
            found.setdefault(_place(error["loc"], root), []).append(_said(error))
    return (f"{place}{', or '.join(messages)}" for place, messages in found.items())


def _place(location: tuple[int | str, ...], root: yaml.Node) -> str:
    # What is behind a field with several types is the one that was tried: constrained-int, literal['auto'].
    named = ".".join(_shown(part) for part in location if not re.search(r"\[|^constrained-", str(part)))
    return f"line {_line(root, location)}: {named} " if location else ""


def _said(error: ErrorDetails) -> str:
    known = {
        "missing": "is missing",
        "extra_forbidden": "is no known field",
        "model_type": "is no mapping, as in `name: value`",
    }
    return known.get(error["type"]) or problems.said(error)


def _line(node: yaml.Node, location: Sequence[int | str]) -> int:
    """The line of what is at `location`, or of the last part of the way to it that is there."""
    line: int = node.start_mark.line
    for part in location:
        found = _child(node, part)
        if found is None:
            break
        line, node = found
    return line + 1


def _child(node: yaml.Node, part: int | str) -> tuple[int, yaml.Node] | None:
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part].start_mark.line, node.value[part]
    if isinstance(node, yaml.MappingNode):
        return next(((key.start_mark.line, value) for key, value in node.value if key.value == part), None)
    return None

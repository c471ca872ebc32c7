"""A YAML file as a pydantic model; what is wrong in it is named by its line."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from handler.config import problems

Model = TypeVar("Model", bound=BaseModel)

MAX_BYTES = 1 << 20


def load(path: str, model: type[Model]) -> Model:
    """Read the file at `path`. Raises ValueError, one line, with every problem and its line number."""
    try:
        text = _text(path)
        root = yaml.compose(text, yaml.SafeLoader)
        if root is None:
            raise ValueError("is empty")
        twins = list(_twins(root))
        if twins:
            raise ValueError("; ".join(twins))
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(_unreadable(error)) from None
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
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or "is no YAML"
    return f"line {mark.line + 1}: {problem}" if mark else str(problem)


def _twins(node: yaml.Node) -> Iterator[str]:
    """Keys that stand twice in a mapping, of which YAML's readers take the last."""
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if key.value in seen:
                yield f"line {key.start_mark.line + 1}: {key.value} stands there twice"
            seen.add(key.value)
            yield from _twins(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _twins(value)


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
    named = ".".join(str(part) for part in location if not re.search(r"\[|^constrained-", str(part)))
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

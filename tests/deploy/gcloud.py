"""Whether gcloud knows a command and its flags, by the table that it completes commands with, without a network."""

import importlib.util
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Where a command begins in a script: on a line of its own, after what a shell puts before one, or within another.
BEGINS = re.compile(r"(?:^|\| |&& |; |do |then )\s*(gcloud .*)", re.M)
WITHIN = re.compile(r"\$\((gcloud [^()]*)\)")


def table() -> dict[str, Any] | None:
    """The tree of all commands; None where there is no Google Cloud SDK."""
    found = shutil.which("gcloud")
    path = found and Path(found).resolve().parents[1] / "data/cli/gcloud_completions.py"
    if not (path and path.is_file()):
        return None
    spec = importlib.util.spec_from_file_location("gcloud_completions", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.STATIC_COMPLETION_CLI_TREE


def commands(script: str) -> Iterator[list[str]]:
    """The gcloud commands of a shell script, as lists of words without the `gcloud`."""
    script = script.replace("\\\n", " ")
    for line in BEGINS.findall(script) + WITHIN.findall(script):
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|;&<>()")
        lexer.whitespace_split = True
        words = []
        for word in lexer:
            if set(word) <= set("|;&<>()"):
                break
            words.append(word)
        yield words[1:]


def problem(root: dict[str, Any], words: list[str]) -> str | None:
    """What is wrong with a command: not one, not whole, or with a flag that it does not have."""
    node, rest = root, list(words)
    while rest and rest[0] in node["commands"]:
        node = node["commands"][rest.pop(0)]
    if node["commands"]:
        return f"{words} is no whole command"
    flags = {word.partition("=")[0] for word in rest if word.startswith("--")}
    unknown = flags - node["flags"].keys() - root["flags"].keys()
    wrong = [word for word in rest if not allowed(node, word)]
    return f"{words}: {sorted(unknown) + wrong}" if unknown or wrong else None


def allowed(node: dict[str, Any], word: str) -> bool:
    """Whether a flag that takes one of a few values has one of them."""
    flag, _, value = word.partition("=")
    choices = node["flags"].get(flag)
    return not isinstance(choices, list) or value in {*choices, *map(str.upper, choices)}

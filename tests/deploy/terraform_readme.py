"""Writes the tables of terraform/modules/relay/README.md: python tests/deploy/terraform_readme.py (or: make docs)."""

import json
import re
from pathlib import Path
from typing import Any

import hcl2

MODULE = Path(__file__).resolve().parents[2] / "terraform/modules/relay"
README = MODULE / "README.md"
MARK = "<!-- made by `make docs` -->\n"


def blocks(files: str, kind: str) -> list[tuple[str, dict[str, Any]]]:
    """The blocks of a kind in some of the module's files: name and contents."""
    found = [one for path in sorted(MODULE.glob(files)) for one in hcl2.loads(path.read_text())[kind]]
    return [(name.strip('"'), body) for one in found for name, body in one.items()]


def plain(value: object) -> str:
    """A value as somebody would write it in terraform.tfvars."""
    if isinstance(value, dict | list) and not value:
        return "`{}`" if isinstance(value, dict) else "`[]`"
    if isinstance(value, str):
        return f"`{value}`" if value.startswith('"') else f"`{value.removeprefix('${').removesuffix('}')}`"
    return f"`{json.dumps(value)}`"


def default(body: dict[str, Any]) -> str:
    """What a variable is where it is left out."""
    return plain(body["default"]) if "default" in body else "required"


def kind(text: str) -> str:
    """A type, by its outer word."""
    return re.split(r"[({]", text.removeprefix("${").removesuffix("}"))[0]


def text(body: dict[str, Any]) -> str:
    """What a variable or an output says of itself."""
    return json.loads(body["description"]).replace("|", "\\|")


def tables() -> str:
    """Inputs and outputs, each a row."""
    inputs = [
        f"| `{name}` | {kind(body['type'])} | {default(body)} | {text(body)} |"
        for name, body in blocks("variables*.tf", "variable")
    ]
    outputs = [f"| `{name}` | {text(body)} |" for name, body in blocks("outputs.tf", "output")]
    return "\n".join(
        [
            *("## Inputs", "", "| variable | type | default | meaning |", "|---|---|---|---|", *inputs, ""),
            *("## Outputs", "", "| output | meaning |", "|---|---|", *outputs, ""),
        ]
    )


if __name__ == "__main__":
    README.write_text(README.read_text().split(MARK)[0] + MARK + "\n" + tables())

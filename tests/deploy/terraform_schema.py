"""Write the schemas of the resources that terraform/ uses, for the stand-in provider (terraform_google.py).

They are read off the bindings in the wheel cdktn-provider-google, which are generated from the provider's own schema.
The wheel is only parsed, never imported:

    pip download --no-deps cdktn-provider-google==21.1.0  # made from the provider's 8.7.0
    python tests/deploy/terraform_schema.py cdktn_provider_google-*.whl > tests/deploy/terraform_google.json

What comes out is {"version": the provider's, "resource": {name: block}, "data": {name: block}}. A block is
{"arguments": {name: [type, required]}, "exported": {name: type}, "blocks": {name: [least, most, block]}}; most is 0
where nothing bounds it. The bindings know neither value ranges nor which texts an argument takes.
"""

import ast
import json
import re
import sys
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve()
TERRAFORM = HERE.parents[2] / "terraform"
USED = re.compile(r'^(resource|data) "google_(\w+)"', re.M)
# Terraform's own arguments and the library's own properties.
NOT_THE_PROVIDERS = {"connection", "count", "depends_on", "for_each", "lifecycle", "provider", "provisioners"}
NOT_EXPORTED = {"cdktf_stack", "cdktn_stack", "fqn", "friendly_unique_id", "internal_value", "node", "config_schema"}
DOCUMENTED = re.compile(r"^:param (\w+):.*/docs/(?:resources|data-sources)/\w+#(\w+) ", re.M)
VERSION = re.compile(r"/hashicorp/google/([0-9.]+)/docs/")
OWN_CLASS = re.compile(r"'([A-Z]\w+)'")


class Bindings:
    """One module of the wheel: the classes of one resource or data source."""

    def __init__(self, source: str) -> None:
        tree = ast.parse(source)
        self.classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
        self.spelled = {name.lower(): name for name in self.classes}

    def find(self, name: str) -> ast.ClassDef:
        return self.classes[self.spelled[name.lower()]]

    def schema(self, name: str) -> dict:
        resource = name.replace("_", "")
        return self.block(self.find(resource + "Config"), self.find(resource))

    def block(self, config: ast.ClassDef, exporter: ast.ClassDef | None) -> dict:
        made: dict = {"arguments": {}, "blocks": {}}
        start = method(config, "__init__")
        names = dict(DOCUMENTED.findall(re.sub(r"^ +", "", ast.get_docstring(start) or "", flags=re.M)))
        for argument, default in zip(start.args.kwonlyargs, start.args.kw_defaults, strict=True):
            if argument.arg in NOT_THE_PROVIDERS | {"timeouts"}:
                continue
            name = names.get(argument.arg, argument.arg).rstrip("_")
            annotation = ast.unparse(argument.annotation)
            nested = [found for found in OWN_CLASS.findall(annotation) if found in self.classes]
            if nested:
                inner = self.block(self.classes[nested[0]], self.classes.get(nested[0] + "OutputReference"))
                made["blocks"][name] = [int(default is None), 0 if "Sequence" in annotation else 1, inner]
            else:
                made["arguments"][name] = [taken(annotation), default is None]
        made["exported"] = exported(exporter, made) if exporter else {}
        return made


def method(owner: ast.ClassDef, name: str) -> ast.FunctionDef:
    return next(node for node in owner.body if isinstance(node, ast.FunctionDef) and node.name == name)


def taken(annotation: str) -> object:
    kind = "bool" if "builtins.bool" in annotation else "number" if "jsii.Number" in annotation else "string"
    return ["map", kind] if "Mapping" in annotation else ["list", kind] if "Sequence" in annotation else kind


def exported(owner: ast.ClassDef, made: dict) -> dict:
    found = {}
    for node in owner.body:
        if not isinstance(node, ast.FunctionDef) or "builtins.property" not in map(ast.unparse, node.decorator_list):
            continue
        known = node.name in NOT_EXPORTED or node.name in made["arguments"] or node.name in made["blocks"]
        if not known and not node.name.endswith("_input") and node.name != "timeouts":
            found[node.name] = given(ast.unparse(node.returns))
    return found


def given(annotation: str) -> object:
    if "StringMap" in annotation or "Mapping" in annotation:
        return ["map", "string"]
    if "List[builtins.str]" in annotation:
        return ["list", "string"]
    plain = {"builtins.str": "string", "jsii.Number": "number", "_cdktn_78ede62e.IResolvable": "bool"}
    return next((kind for text, kind in plain.items() if annotation.strip("'\"") == text), "dynamic")


def main(wheel: str) -> None:
    texts = [path.read_text() for path in sorted(TERRAFORM.rglob("*.tf"))]
    wanted = sorted({pair for text in texts for pair in USED.findall(text)})
    made: dict = {"resource": {}, "data": {}}
    with zipfile.ZipFile(wheel) as archive:
        for kind, name in wanted:
            module = name if kind == "resource" else f"data_google_{name}"
            source = archive.read(f"cdktn_provider_google/{module}/__init__.py").decode()
            made[kind][f"google_{name}"] = Bindings(source).schema(module)
            made["version"] = VERSION.search(source)[1]
    json.dump(made, sys.stdout, sort_keys=True, separators=(",", ":"))
    sys.stdout.write("\n")


if __name__ == "__main__":
    main(sys.argv[1])

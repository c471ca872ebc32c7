"""Closed JSON Schemas of Kubernetes resources: a field that they do not know is an error."""

from functools import cache
from importlib import import_module


def closed(schema):
    """The same JSON Schema, in which an object has no other properties than those it names."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: closed(value) for key, value in schema.items()}
    return made | {"additionalProperties": False} if isinstance(made.get("properties"), dict) else made


@cache
def published(module, kind):
    """The closed schema of a kind, of those in cloudcoil.models; loading these takes seconds."""
    return closed(getattr(import_module(f"cloudcoil.models.{module}"), kind).model_json_schema(by_alias=True))


def thing(required, **properties):
    """The closed schema of an object: of its properties, the first so many are required."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties)[:required],
        "additionalProperties": False,
    }


def many(schema):
    """The schema of a list that is not empty."""
    return {"type": "array", "items": schema, "minItems": 1}


TEXT = {"type": "string", "minLength": 1}
TEXTS = {"type": "object", "additionalProperties": TEXT}
METADATA = thing(1, name=TEXT, namespace=TEXT, labels=TEXTS, annotations=TEXTS)
EXPRESSION = thing(2, key=TEXT, operator={"enum": ["In", "NotIn", "Exists", "DoesNotExist"]}, values=many(TEXT))
SELECTOR = thing(0, matchLabels=TEXTS, matchExpressions=many(EXPRESSION))
PEER = thing(0, namespaceSelector=SELECTOR, podSelector=SELECTOR, ipBlock=thing(1, cidr=TEXT, **{"except": many(TEXT)}))
PORTS = many(thing(2, port={"type": "integer"}, protocol={"enum": ["TCP", "UDP"]}))


def resource(version, kind, **rest):
    """The closed schema of a Kubernetes resource."""
    return thing(3, apiVersion={"const": version}, kind={"const": kind}, metadata=METADATA, **rest)

"""A stand-in for Terraform's provider hashicorp/google that knows schemas alone: no registry, no cloud, no credentials.

    python tests/deploy/terraform_google.py terraform -chdir=terraform init
    python tests/deploy/terraform_google.py terraform -chdir=terraform test

runs the command with the stand-in attached. Without a command it prints what TF_REATTACH_PROVIDERS has to be, and
serves until its input ends. It speaks as much of plugin protocol 6 as `init`, `validate`, `graph` and `test` with a
mocked provider need. It finds arguments that do not exist, are missing or of another type; it knows neither ranges nor
enums.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

SCHEMAS = Path(__file__).with_suffix(".json")
PROVIDER = "hashicorp/google"
PROVIDER_ARGUMENTS = ("project", "region", "zone", "credentials", "access_token", "impersonate_service_account")
LIST = 2  # tfplugin6: NestedBlock.NestingMode

# The part of tfplugin6.proto that is spoken here: a message's fields by number, "[]" for repeated ones.
PROTOCOL = {
    "Attribute": {1: "name string", 2: "type bytes", 4: "required bool", 5: "optional bool", 6: "computed bool"},
    "NestedBlock": {
        1: "type_name string",
        2: "block Block",
        3: "nesting int32",
        4: "min_items int64",
        5: "max_items int64",
    },
    "Block": {2: "attributes []Attribute", 3: "block_types []NestedBlock"},
    "Schema": {1: "version int64", 2: "block Block"},
    # A map travels as its entries.
    "Entry": {1: "key string", 2: "value Schema"},
    "Capabilities": {2: "get_provider_schema_optional bool"},
    "Schemas": {
        1: "provider Schema",
        2: "resource_schemas []Entry",
        3: "data_source_schemas []Entry",
        6: "server_capabilities Capabilities",
    },
    "Nothing": {},
}


def messages() -> Callable[[str], Any]:
    field_type = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="part.proto", package="part", syntax="proto3")
    for name, fields in PROTOCOL.items():
        message = file.message_type.add(name=name)
        for number, text in fields.items():
            field_name, kind = text.split()
            field = message.field.add(name=field_name, number=number)
            field.label = field_type.LABEL_REPEATED if kind.startswith("[]") else field_type.LABEL_OPTIONAL
            kind = kind.removeprefix("[]")
            if kind in PROTOCOL:
                field.type, field.type_name = field_type.TYPE_MESSAGE, f".part.{kind}"
            else:
                field.type = getattr(field_type, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return lambda name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"part.{name}"))


message = messages()


def block(known: dict[str, Any]) -> Any:
    made = message("Block")()
    for name, (kind, required) in known["arguments"].items():
        # Which of the optional ones the provider fills in itself is not known: any may be.
        made.attributes.add(
            name=name, type=json.dumps(kind).encode(), required=required, optional=not required, computed=not required
        )
    for name, kind in known["exported"].items():
        made.attributes.add(name=name, type=json.dumps(kind).encode(), computed=True)
    for name, (least, most, inner) in known["blocks"].items():
        made.block_types.add(type_name=name, nesting=LIST, min_items=least, max_items=most, block=block(inner))
    return made


def schemas() -> Any:
    known = json.loads(SCHEMAS.read_text())
    made = message("Schemas")()
    # A process asks once, and not at every walk of a graph.
    made.server_capabilities.get_provider_schema_optional = True
    for name in PROVIDER_ARGUMENTS:
        made.provider.block.attributes.add(name=name, type=b'"string"', optional=True)
    for kind, entries in (("resource", made.resource_schemas), ("data", made.data_source_schemas)):
        for name, one in known[kind].items():
            entry = entries.add(key=name)
            entry.value.block.CopyFrom(block(one))
    return made


def serve(socket: Path) -> grpc.Server:
    def answer(reply: Any) -> grpc.RpcMethodHandler:
        written = reply.SerializeToString()  # once, and not for every process that asks
        return grpc.unary_unary_rpc_method_handler(lambda _request, _context: written)

    nothing = message("Nothing")()
    accepted = ("ValidateProviderConfig", "ValidateResourceConfig", "ValidateDataResourceConfig", "StopProvider")
    calls = {"GetProviderSchema": answer(schemas())} | {name: answer(nothing) for name in accepted}
    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("tfplugin6.Provider", calls),))
    server.add_insecure_port(f"unix:{socket}")
    server.start()
    return server


def attached(socket: Path) -> str:
    """What TF_REATTACH_PROVIDERS has to be."""
    address = {"Network": "unix", "String": str(socket)}
    plugin = {"Protocol": "grpc", "ProtocolVersion": 6, "Pid": os.getpid(), "Test": True, "Addr": address}
    return json.dumps({PROVIDER: plugin})


def main(command: list[str]) -> int:
    with tempfile.TemporaryDirectory() as scratch:
        socket = Path(scratch) / "google.sock"
        server = serve(socket)
        try:
            if command:
                return subprocess.run(
                    command, env=os.environ | {"TF_REATTACH_PROVIDERS": attached(socket)}, check=False
                ).returncode
            print(attached(socket), flush=True)
            sys.stdin.read()
            return 0
        finally:
            server.stop(None).wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""A Pub/Sub behind TLS that takes publishes with a metadata server's token alone: python secure_pubsub.py CA_FILE."""

import itertools
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
import trustme
from google.pubsub_v1.types import PublishRequest, PublishResponse

_ids = itertools.count()


def publish(request, context):
    """Confirm each message of a request."""
    if dict(context.invocation_metadata()).get("authorization") != "Bearer t-1":
        context.abort(grpc.StatusCode.UNAUTHENTICATED, "no token")
    return PublishResponse.pb()(message_ids=[str(next(_ids)) for _ in request.messages])


authority = trustme.CA()
authority.cert_pem.write_to_path(sys.argv[1])
certificate = authority.issue_cert("localhost")
chain = b"".join(one.bytes() for one in certificate.cert_chain_pems)
method = grpc.unary_unary_rpc_method_handler(
    publish,
    request_deserializer=PublishRequest.pb().FromString,
    response_serializer=PublishResponse.pb().SerializeToString,
)
server = grpc.server(ThreadPoolExecutor(20))
server.add_generic_rpc_handlers(
    [grpc.method_handlers_generic_handler("google.pubsub.v1.Publisher", {"Publish": method})]
)
port = server.add_secure_port(
    "localhost:0", grpc.ssl_server_credentials([(certificate.private_key_pem.bytes(), chain)])
)
server.start()
print(port, flush=True)
server.wait_for_termination()

"""A server's side of TLS, with a certificate of the tests' own authority."""

import ssl


def server_context(authority, *names):
    """What wraps a listening socket that is called by these names; `authority` is trustme's."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context

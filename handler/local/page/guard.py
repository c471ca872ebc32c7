"""Who may talk to the page: a browser on this machine that shows this very page, and no other page in it."""

from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from aiohttp import web

_LOCAL = {"127.0.0.1", "localhost", "::1"}
_READS = {"GET", "HEAD"}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse what another site's page makes a browser send.

    A foreign Host is a name that was rebound to this machine; a foreign Origin is another site's form or script.
    Ports may differ from ours, since a tunnel's do.
    """
    if _host(f"//{request.host}") not in _LOCAL:
        raise web.HTTPForbidden(text="This page is for 127.0.0.1 and localhost alone.\n")
    if request.method not in _READS and request.headers.get("Origin") != f"http://{request.host}":
        raise web.HTTPForbidden(text="Only this page's own buttons do that: the Origin is missing, or foreign.\n")
    return await handler(request)


async def add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    """Let nothing come from elsewhere, and nobody else show or read the page."""
    response.headers.update(_HEADERS)


def _host(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None

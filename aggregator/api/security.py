"""What every request passes before a handler sees it, and what every answer carries.

The dashboard has no login, so a foreign page must not be able to read it through the operator's own browser:
the Host header must be one of our names (DNS rebinding), a WebSocket's Origin must be ours (browsers send
WebSockets across origins without asking), there is no CORS, and nothing may run or load that we did not serve.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import urlsplit

import structlog
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from aggregator.api.errors import Refusal
from aggregator.api.models import ErrorAnswer
from aggregator.api.settings import LOOPBACK_NAMES, Settings
from aggregator.auth import matches

log = structlog.get_logger(__name__)

HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
ANY_HOST: Final = frozenset({"/healthz"})  # a probe calls it by address, and it says nothing


def names(settings: Settings) -> frozenset[str]:
    """Host names that are ours, lower case, without port."""
    own = settings.host if ":" not in settings.host or settings.host.startswith("[") else f"[{settings.host}]"
    return frozenset(name.lower() for name in (*LOOPBACK_NAMES, own, *settings.allowed_hosts))


def host_name(netloc: str) -> str:
    """`host:port` or `[v6]:port` without its port, lower case; "" for what is neither."""
    host, colon, port = netloc.rpartition(":")
    if colon and port.isdigit() and (":" not in host or host.endswith("]")):
        return host.lower()
    return netloc.lower()


def make_guard(settings: Settings) -> Middleware:
    """The outermost middleware: host check, and every failure as JSON."""
    ours = names(settings)

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            if request.path not in ANY_HOST and host_name(request.headers.get(hdrs.HOST, "")) not in ours:
                raise Refusal(
                    403, "Host is not a name of this server", "Host", "use localhost, or add the name to allowed_hosts"
                )
            return await handler(request)
        except Refusal as refusal:
            return refused(refusal)
        except web.HTTPException as error:
            if error.status < 400:
                raise
            keep = {str(name): error.headers[name] for name in (hdrs.ALLOW,) if name in error.headers}
            return refused(
                Refusal(error.status, error.reason, "path", "GET /v1/openapi.json lists what there is", keep)
            )
        except (ConnectionError, TimeoutError):
            raise  # the client is gone: nobody to answer
        except Exception:
            log.exception("request failed", path=request.path)
            return refused(Refusal(500, "internal error", None, "see the server's log"))

    return guard


def refused(refusal: Refusal) -> web.Response:
    """A refusal as a response."""
    body = ErrorAnswer(error=refusal.error, field=refusal.field, remedy=refusal.remedy)
    return web.json_response(text=json.dumps(body.model_dump()), status=refusal.status, headers=refusal.headers)


def make_header_hook(settings: Settings) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """The signal handler that puts the security headers on every answer, errors and files included."""
    headers = dict(HEADERS)
    if settings.cert is not None:
        headers["Strict-Transport-Security"] = "max-age=31536000"

    async def add(_: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(headers)
        response.headers.setdefault(hdrs.CACHE_CONTROL, "no-store")
        response.headers.pop(hdrs.SERVER, None)

    return add


def require_token(request: web.Request, settings: Settings) -> None:
    """Raises Refusal 401 with the challenge of RFC 6750 section 3."""
    given = request.headers.get(hdrs.AUTHORIZATION)
    if matches(given, settings.token):
        return
    challenge = 'Bearer realm="flyball"' + (', error="invalid_token"' if given else "")
    remedy = "send `Authorization: Bearer TOKEN`, the token of FLYBALL_API_TOKEN or of the token file"
    error = "wrong token" if given else "token missing"
    raise Refusal(401, error, "Authorization", remedy, {hdrs.WWW_AUTHENTICATE: challenge})


def require_same_origin(request: web.Request) -> None:
    """Raises Refusal 403 for a WebSocket opened by a page that is not ours. Programs send no Origin."""
    origin = request.headers.get(hdrs.ORIGIN)
    if origin is None:
        return
    parts = urlsplit(origin)
    if parts.scheme not in ("http", "https") or parts.netloc.lower() != request.headers.get(hdrs.HOST, "").lower():
        raise Refusal(403, "Origin is not this server", "Origin", "open the dashboard from this server's own address")

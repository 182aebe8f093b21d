"""The application and its life: build, bind, run until told to stop, leave nothing behind.

`make_app` for whoever brings a runner of his own (tests, a proxy); `serve` for a process. Binding errors are named,
so that the command line can say what to do.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ssl
import time
from collections.abc import AsyncIterator, Callable

import structlog
from aiohttp import web
from redis.asyncio import Redis

from aggregator.api import routes
from aggregator.api.accounts import Accounts
from aggregator.api.bids import Bids
from aggregator.api.errors import BadCertificate, CannotListen, PortInUse
from aggregator.api.explaining import Explainer
from aggregator.api.feed import Feed
from aggregator.api.hub import Hub
from aggregator.api.metrics import make_registry
from aggregator.api.publish import store_at
from aggregator.api.security import make_guard, make_header_hook
from aggregator.api.settings import Settings
from aggregator.api.signals import SignalWriter
from aggregator.api.wishes import WishWriter

log = structlog.get_logger(__name__)
BODY_MAX = 4096  # a set-point takes some 40 bytes


def make_app(
    settings: Settings,
    *,
    now_ns: Callable[[], int] = time.time_ns,
    mono_s: Callable[[], float] = time.monotonic,
) -> web.Application:
    """The aiohttp application of one API process.

    now_ns, mono_s : wall and monotonic clock, given by tests
    """
    app = web.Application(middlewares=[make_guard(settings)], client_max_size=BODY_MAX)
    store = open_store(settings)
    feed = Feed(store, settings, now_ns, mono_s)
    app[routes.SETTINGS] = settings
    app[routes.FEED] = feed
    app[routes.HUB] = Hub(feed, settings)
    app[routes.WRITER] = SignalWriter(store, settings.area, settings.name, settings.source)
    app[routes.WISHES] = WishWriter(store, settings)
    app[routes.ACCOUNTS] = Accounts(store, settings.area, feed.mono_s)
    app[routes.BIDS] = Bids(settings, now_ns, feed.mono_s)
    app[routes.EXPLAINER] = Explainer(store, settings)
    app[routes.REGISTRY] = make_registry(feed)
    routes.add_routes(app)
    app.on_response_prepare.append(make_header_hook(settings))
    app.on_shutdown.append(_say_goodbye)
    app.cleanup_ctx.append(_polling)
    return app


def open_store(settings: Settings) -> Redis:
    """The client of the API's store."""
    return store_at(settings.redis_url, settings.store_timeout_s)


async def serve(settings: Settings, stop: asyncio.Event, ready: Callable[[str], None] | None = None) -> None:
    """Listen until `stop` is set.

    ready : called once with the URL that answers, port filled in when settings asked for any (0)

    Raises PortInUse, CannotListen or BadCertificate before anything is served.
    """
    tls = _tls(settings)
    runner = web.AppRunner(make_app(settings), access_log=None, handle_signals=False, shutdown_timeout=2.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, settings.host.strip("[]"), settings.port, ssl_context=tls, reuse_address=True)
        await _bind(site, settings)
        url = address(settings, runner.addresses[0][1])
        log.info("listening", url=url)
        if ready is not None:
            ready(url)
        await stop.wait()
    finally:
        await runner.cleanup()


def address(settings: Settings, port: int) -> str:
    """The URL to open in a browser."""
    host = settings.host if ":" not in settings.host else f"[{settings.host.strip('[]')}]"
    return f"{'https' if settings.cert else 'http'}://{host}:{port}/"


async def _bind(site: web.TCPSite, settings: Settings) -> None:
    try:
        await site.start()
    except OSError as error:
        where = f"{settings.host}:{settings.port}"
        if error.errno == errno.EADDRINUSE:
            remedy = "stop the other process, or choose another port (0 takes any free one)"
            raise PortInUse(f"{where} is in use", "port", remedy) from error
        remedy = "choose an address of this machine and a port above 1023"
        raise CannotListen(f"{where}: {error.strerror or error}", "host", remedy) from error


def _tls(settings: Settings) -> ssl.SSLContext | None:
    if settings.cert is None or settings.key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.cert, settings.key)
    except (OSError, ssl.SSLError) as error:
        text = f"{settings.cert} and {settings.key} cannot be loaded: {error}"
        raise BadCertificate(text, "cert", "give a PEM chain and its unencrypted private key") from error
    return context


async def _polling(app: web.Application) -> AsyncIterator[None]:
    feed = app[routes.FEED]
    await feed.poll()  # the first request finds figures
    task = asyncio.create_task(feed.run())
    yield
    feed.closing = True
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await feed.store.aclose()


async def _say_goodbye(app: web.Application) -> None:
    await app[routes.HUB].close()

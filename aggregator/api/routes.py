"""What is served where: one table of endpoints, and handlers that only fetch, check and answer.

No state of its own: the feed reads, the hub fans out, the writer writes, and all three hang on the application.
"""

from __future__ import annotations

import hashlib
from importlib import resources
from typing import Final

import orjson
from aiohttp import hdrs, web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from pydantic import BaseModel, ValidationError

from aggregator import views
from aggregator.api import models, openapi
from aggregator.api.accounts import Accounts
from aggregator.api.bids import BIDS_PARAMS, Bids, BidsAnswer
from aggregator.api.endpoints import Endpoint, Param, query
from aggregator.api.errors import Refusal
from aggregator.api.explaining import Explainer, charger
from aggregator.api.feed import Feed, record_age_s
from aggregator.api.hub import Hub
from aggregator.api.security import require_same_origin, require_token
from aggregator.api.settings import Settings
from aggregator.api.signals import SignalWriter, parse_signal
from aggregator.api.vehicles import ORDERS, REASONS, STATES, Query, select
from aggregator.api.wishes import WishWriter, parse_wish

SETTINGS: Final = web.AppKey("settings", Settings)
FEED: Final = web.AppKey("feed", Feed)
HUB: Final = web.AppKey("hub", Hub)
WRITER: Final = web.AppKey("writer", SignalWriter)
WISHES: Final = web.AppKey("wishes", WishWriter)
ACCOUNTS: Final = web.AppKey("accounts", Accounts)
BIDS: Final = web.AppKey("bids", Bids)
EXPLAINER: Final = web.AppKey("explainer", Explainer)
REGISTRY: Final = web.AppKey("registry", CollectorRegistry)

FILES: Final = {
    "index.html": "text/html",
    "style.css": "text/css",
    "app.js": "text/javascript",
    "chart.js": "text/javascript",
    "table.js": "text/javascript",
    "explain.js": "text/javascript",
    "format.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}

OFFSET: Final = Param("offset", "rows to skip", 0, 0, 10_000_000)
VEHICLE_PARAMS: Final = (
    Param("limit", "rows in the page", 50, 1, 1000),
    OFFSET,
    Param("state", "only this state", choices=tuple(STATES)),
    Param("reason", "only rows limited by this, in either direction", choices=tuple(REASONS)),
    Param("q", "part of a vehicle's name, or a slot's number"),
    Param(
        "sort", "column; a leading minus turns the order round", "slot", choices=(*ORDERS, *(f"-{o}" for o in ORDERS))
    ),
)
EXPLAIN_PARAMS: Final = (Param("slot", "which charger, where several give this name", None, 0, 10_000_000),)
STATEMENT_PARAMS: Final = (Param("limit", "rows in the page", 20, 1, 500), OFFSET)


def reply(answer: BaseModel, status: int = 200) -> web.Response:
    """A model as JSON; NaN never leaves as a bare word."""
    return web.Response(body=answer.model_dump_json().encode(), status=status, content_type="application/json")


async def get_status(request: web.Request) -> web.Response:
    """Served whatever the state of worker and store: it is where one looks when something is wrong."""
    query(request, ())
    return reply(request.app[FEED].status())


async def get_capability(request: web.Request) -> web.Response:
    query(request, ())
    s = _current(request)
    answer = models.CapabilityAnswer(
        area=s.area,
        as_of_ns=s.as_of_ns,
        stale=s.stale,
        mode=s.mode,
        headroom_up_kw=s.headroom_up_kw,
        headroom_down_kw=s.headroom_down_kw,
        capability=s.capability,
    )
    return reply(answer)


async def get_vehicles(request: web.Request) -> web.Response:
    q = query(request, VEHICLE_PARAMS)
    feed = request.app[FEED]
    t_ns, rows = await _view(feed)
    wanted = Query(**q)  # type: ignore[arg-type]  # checked by VEHICLE_PARAMS
    matched, page = select(rows, wanted)
    answer = models.VehiclesAnswer(
        t_ns=t_ns,
        age_s=round(record_age_s(t_ns, feed.now_ns()), 3),
        total=int(rows.size),
        matched=matched,
        limit=wanted.limit,
        offset=wanted.offset,
        rows=page,
    )
    return reply(answer)


async def get_explain(request: web.Request) -> web.Response:
    q = query(request, EXPLAIN_PARAMS)
    vehicle, slot = request.match_info["vehicle"], q["slot"]
    feed = request.app[FEED]
    _, rows = await _view(feed)
    slot, session, slots = charger(vehicle, None if slot is None else int(slot), rows)
    found = await request.app[EXPLAINER].ask(slot, session)
    try:
        answer = models.ExplainAnswer(**{**found, "vehicle": vehicle, "slots": slots, "age_s": 0.0})
    except ValidationError as error:
        where = error.errors(include_url=False)[0]["loc"]
        text = f"the worker's answer cannot be read: {where}"
        raise Refusal(503, text, "worker", "run one version everywhere") from error
    answer.age_s = round(record_age_s(answer.t_ns, feed.now_ns()), 3)
    feed.count("explanations")
    return reply(answer)


async def get_account(request: web.Request) -> web.Response:
    query(request, ())
    return reply(models.AccountAnswer(**await request.app[ACCOUNTS].of(request.match_info["vehicle"])))


async def get_bids(request: web.Request) -> web.Response:
    require_token(request, request.app[SETTINGS])  # what will be offered is nobody else's business
    q = query(request, BIDS_PARAMS)
    found = await request.app[BIDS].of(str(q["product"] or ""), str(q["date"] or ""), str(q["confidence"] or ""))
    return reply(BidsAnswer(**found))


async def get_statements(request: web.Request) -> web.Response:
    q = query(request, STATEMENT_PARAMS)
    return reply(await request.app[FEED].statements(int(q["limit"] or 0), int(q["offset"] or 0)))


async def get_history(request: web.Request) -> web.Response:
    query(request, ())
    return reply(request.app[FEED].past())


async def post_signal(request: web.Request) -> web.Response:
    feed = request.app[FEED]
    try:
        require_token(request, request.app[SETTINGS])
        query(request, ())
        body = parse_signal(await request.read(), request.app[SETTINGS])
    except Refusal:
        feed.count("signals_refused")
        raise
    answer = await request.app[WRITER].write(body, feed.now_ns())
    feed.count("signals")
    return reply(answer, 202)


async def post_wish(request: web.Request) -> web.Response:
    feed = request.app[FEED]
    now_ns = feed.now_ns()
    try:
        require_token(request, request.app[SETTINGS])
        query(request, ())
        body, until_ns = parse_wish(await request.read(), now_ns, request.app[SETTINGS])
        _, rows = await _view(feed)
        answer = await request.app[WISHES].write(request.match_info["vehicle"], body, until_ns, rows, now_ns)
    except Refusal:
        feed.count("wishes_refused")
        raise
    feed.count("wishes")
    return reply(answer, 202)


async def get_ws(request: web.Request) -> web.StreamResponse:
    require_same_origin(request)
    return await request.app[HUB].serve(request)


async def get_openapi(request: web.Request) -> web.Response:
    query(request, ())
    return web.Response(body=OPENAPI, content_type="application/json")


async def get_metrics(request: web.Request) -> web.Response:
    body = generate_latest(request.app[REGISTRY])
    return web.Response(body=body, headers={hdrs.CONTENT_TYPE: CONTENT_TYPE_LATEST})


async def get_healthz(_: web.Request) -> web.Response:
    return reply(models.HealthAnswer())


async def _view(feed: Feed) -> tuple[int, views.Rows]:
    """The fleet's snapshot, or 503 where another version wrote it."""
    try:
        return await feed.view()
    except views.ViewError as error:
        raise Refusal(503, f"fleet view cannot be read: {error}", "fleetview", "run one version everywhere") from error


def _current(request: web.Request) -> models.Status:
    """The status, or 503 when the store is lost: a promise needs a source."""
    feed = request.app[FEED]
    if feed.reading.store_fault is not None:
        raise feed.lost()
    return feed.status()


def _file(name: str, media: str) -> Endpoint:
    """A dashboard file, held in memory with a strong ETag: a reload costs a 304."""
    body = resources.files("aggregator").joinpath("dashboard", name).read_bytes()
    tag = hashlib.sha256(body).hexdigest()[:32]

    async def get_file(request: web.Request) -> web.Response:
        headers = {hdrs.CACHE_CONTROL: "no-cache", hdrs.ETAG: f'"{tag}"'}
        if any(etag.value == tag for etag in request.if_none_match or ()):
            return web.Response(status=304, headers=headers)
        return web.Response(body=body, content_type=media, charset="utf-8", headers=headers)

    path = "/" if name == "index.html" else f"/static/{name}"
    return Endpoint("GET", path, name, f"Dashboard: {name}", get_file, media=media)


ENDPOINTS: Final = (
    Endpoint(
        "GET", "/v1/status", "status", "Live figures, alarms, ages", get_status, models.Status, refusals=(400, 403)
    ),
    Endpoint(
        "GET",
        "/v1/capability",
        "capability",
        "Headroom, and power sustainable for 15, 30 and 60 minutes",
        get_capability,
        models.CapabilityAnswer,
        refusals=(400, 403, 503),
    ),
    Endpoint(
        "GET",
        "/v1/vehicles",
        "vehicles",
        "Vehicles with set-point, measurement, SoC and reasons",
        get_vehicles,
        models.VehiclesAnswer,
        VEHICLE_PARAMS,
        refusals=(400, 403, 503),
    ),
    Endpoint(
        "GET",
        "/v1/vehicles/{vehicle}/explain",
        "explain",
        "Why a vehicle got its power: plan, slope, lambda, bounds with their reasons, and what without them",
        get_explain,
        models.ExplainAnswer,
        EXPLAIN_PARAMS,
        refusals=(400, 403, 404, 503),
    ),
    Endpoint(
        "GET",
        "/v1/vehicles/{vehicle}/account",
        "account",
        "What a vehicle was asked, gave and held available in the interval closed last, and why it fell short",
        get_account,
        models.AccountAnswer,
        refusals=(400, 403, 404, 503),
    ),
    Endpoint(
        "GET",
        "/v1/bids",
        "bids",
        "What to offer in each block of a day, learned from this run's own history",
        get_bids,
        BidsAnswer,
        BIDS_PARAMS,
        refusals=(400, 403, 404, 409, 503),
        token=True,
    ),
    Endpoint(
        "GET",
        "/v1/statements",
        "statements",
        "Statements, newest first",
        get_statements,
        models.StatementsAnswer,
        STATEMENT_PARAMS,
        refusals=(400, 403, 503),
    ),
    Endpoint(
        "GET",
        "/v1/history",
        "history",
        "The last minutes as columns",
        get_history,
        models.HistoryAnswer,
        refusals=(400, 403),
    ),
    Endpoint(
        "POST",
        "/v1/signal",
        "signal",
        "A balancing authority's set-point",
        post_signal,
        models.SignalAnswer,
        body=models.SignalBody,
        status=202,
        refusals=(400, 403, 422, 503),
        token=True,
    ),
    Endpoint(
        "POST",
        "/v1/vehicles/{vehicle}/wish",
        "wish",
        "An owner's override, until it lapses or the session ends",
        post_wish,
        models.WishAnswer,
        body=models.WishBody,
        status=202,
        refusals=(400, 403, 404, 422, 503),
        token=True,
    ),
    Endpoint("GET", "/v1/ws", "ws", "WebSocket of live figures", get_ws, status=101, refusals=(403, 503)),
    Endpoint("GET", "/v1/openapi.json", "openapi", "This document", get_openapi, refusals=(400, 403)),
    Endpoint("GET", "/metrics", "metrics", "Prometheus exposition", get_metrics, media="text/plain", refusals=(403,)),
    Endpoint("GET", "/healthz", "healthz", "Liveness", get_healthz, models.HealthAnswer),
)
OPENAPI: Final = orjson.dumps(openapi.document(ENDPOINTS))


def add_routes(app: web.Application) -> None:
    """Put the table and the dashboard's files on the router."""
    for endpoint in (*ENDPOINTS, *(_file(name, media) for name, media in FILES.items())):
        app.router.add_route(endpoint.method, endpoint.path, endpoint.handler)

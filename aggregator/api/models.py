"""The documents of the API: what comes in, what goes out, each field with its unit.

Pydantic models only; openapi.py prints them, routes.py fills them. Positive power is into the grid, int64 ns since
1970 UTC, fractions 0..1. Unknown keys are refused from clients and passed through from our own processes, so that
a newer worker can show more than this file knows.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

MODES = "starting, normal, hold, ramp or baseline; silent: no news from the worker; store lost: no news from Redis"
Severity = Literal["warning", "critical"]
Kw = float
KwOrNone = float | None


class Answer(BaseModel):
    """A document we publish; keys of newer writers pass through."""

    model_config = ConfigDict(extra="allow")


class Product(Answer):
    """One sold product and what of it is called now."""

    id: str
    sold_kw: Kw = 0.0
    fraction: float | None = Field(default=None, description="of the sold power asked now, -1..1")
    title: str | None = None
    deadband_hz: float | None = Field(default=None, description="half-width around nominal")
    full_hz: float | None = Field(default=None, description="deviation of full activation")


class Alarm(Answer):
    """A condition that someone should know of, from when it began until it ends."""

    code: str
    severity: Severity = "warning"
    since_ns: int
    text: str


class Capability(Answer):
    """Power that could be sustained for 15, 30 and 60 minutes; all magnitudes, >= 0."""

    up_kw: dict[str, Kw] = Field(default_factory=dict)
    down_kw: dict[str, Kw] = Field(default_factory=dict)


class Withheld(Answer):
    """Rated power that one limit takes now, of the vehicles that are plugged in; magnitudes, >= 0."""

    up: Kw = 0.0
    down: Kw = 0.0


class Latency(Answer):
    """Milliseconds at one stage between the source's stamp and the command on the stream."""

    p50: float | None = None
    p99: float | None = None
    max: float | None = None


class FleetCounts(Answer):
    """Vehicles by state."""

    total: int = 0
    plugged: int = 0
    stale: int = 0
    unplugged: int = 0
    fault: int = 0


class Live(Answer):
    """What the worker writes five times a second."""

    t_ns: int = Field(default=0, description="of the newest sample, by its source; 0: none yet")
    rx_ns: int = Field(default=0, description="when that sample arrived")
    now_ns: int = Field(default=0, description="when the worker wrote this")
    area: str = ""
    nominal_hz: float = 50.0
    hz: float | None = None
    quality: list[str] = Field(default_factory=list)
    mode: Annotated[str, Field(description=MODES)] = "starting"
    products: list[Product] = Field(default_factory=list)
    signal_kw: KwOrNone = None
    request_kw: KwOrNone = None
    baseline_kw: KwOrNone = None
    response_kw: KwOrNone = None
    dealt_kw: KwOrNone = None
    commanded_kw: KwOrNone = None
    unserved_kw: KwOrNone = None
    unserved_by_reason: dict[str, Kw] = Field(default_factory=dict)
    withheld_kw: dict[str, Withheld] = Field(
        default_factory=dict, description="by the limit that takes it; override: what the owners' wishes cost"
    )
    modes: dict[str, EnergyModes] = Field(default_factory=dict, description="by product with energy rules")
    reserved: dict[str, Any] = Field(
        default_factory=dict, description="what the products reserve of power and energy, and what there is"
    )
    headroom_up_kw: Kw = 0.0
    headroom_down_kw: Kw = 0.0
    capability: Capability = Field(default_factory=Capability)
    metered_kw: KwOrNone = None
    meter_t_ns: int | None = None
    delivered_kw: KwOrNone = None
    vehicles: FleetCounts = Field(default_factory=FleetCounts)
    soc_hist: list[int] = Field(default_factory=list, description="20 counts over 0..1")
    ticks: int = 0
    commands: int = 0
    rejected: dict[str, int] = Field(default_factory=dict)
    alarms: list[Alarm] = Field(default_factory=list)
    latency_ms: dict[str, Latency] = Field(default_factory=dict)
    requested_kwh: float | None = Field(default=None, description="up and down together, since the worker's start")
    delivered_kwh: float | None = None
    worker: dict[str, Any] = Field(default_factory=dict)


class Ages(Answer):
    """Seconds since each writer was last heard; null: never."""

    live_s: float | None = None
    fleetview_s: float | None = None
    processes_s: dict[str, float] = Field(default_factory=dict)


class Statement(Answer):
    """One product over one settlement interval, as settle wrote it."""

    start_ns: int
    end_ns: int | None = None
    until_ns: int | None = Field(default=None, description="computed up to here")
    product: str | None = None
    final: bool | None = Field(default=None, description="false while the interval runs")
    revision: int = Field(default=0, description="above 0: a correction, as late history reached the interval")
    sold_kw: Kw | None = None
    requested_up_kwh: float | None = None
    requested_down_kwh: float | None = None
    delivered_up_kwh: float | None = None
    delivered_down_kwh: float | None = None
    coverage_frac: float | None = None
    score: float | None = None
    score_note: str | None = None
    kpis: dict[str, float | bool | None] = Field(default_factory=dict)


class Source(Answer):
    """One source of frequency, as the ingest process sees it."""

    number: int = Field(description="`source` of its rows")
    name: str = ""
    kind: str = ""
    address: str = ""
    priority: int = 1
    used: bool = Field(default=False, description="the value acted on rests on it")
    state: str = Field(default="", description="used, standby, returning, outvoted, rejected, lost or unheard")
    why: str = ""
    hz: float | None = Field(default=None, description="its newest usable value; null: none of now")
    decided: int = Field(default=0, description="decisions that carry its stamps")
    rejected: dict[str, int] = Field(
        default_factory=dict, description="its rows that may not move a vehicle, by reason"
    )
    clock: dict[str, float | None] = Field(
        default_factory=dict, description="against ours: offset_s (with the shortest way here), drift_ppm, 95 % of each"
    )


class EnergyModes(Answer):
    """What a product's energy rules have turned on."""

    on: list[str] = Field(default_factory=list, description="of alert, reserve, nem, aem")
    seconds: dict[str, int] = Field(default_factory=dict, description="how long each was on")
    nem_kw: Kw = 0.0


class Status(Live):
    """The live figures, with their age and everything the API knows about their sources.

    When the worker is silent or the store is lost, measurements are null and promises (headroom, capability) are 0:
    silence is the unsafe value.
    """

    now_ns: int = Field(description="the API's clock")
    as_of_ns: int = Field(description="when the worker last wrote; 0: never")
    sample_age_s: float | None = Field(description="since the newest sample arrived, when the worker last wrote")
    stale: bool = Field(description="the figures are not current; do not act on them")
    ages: Ages
    processes: dict[str, dict[str, Any]] = Field(default_factory=dict, description="each process' own counters")
    sources: list[Source] = Field(default_factory=list, description="of frequency, preferred ones first")
    statement: Statement | None = Field(default=None, description="the newest interval")
    statements: int = Field(default=0, description="how many statements there are")


class CapabilityAnswer(Answer):
    """What the fleet can promise now."""

    area: str
    as_of_ns: int
    stale: bool
    mode: str = Field(description=MODES)
    headroom_up_kw: Kw
    headroom_down_kw: Kw
    capability: Capability


class VehicleRow(Answer):
    """One charger and the vehicle in it."""

    slot: int
    vehicle: str = Field(description="empty when nothing is plugged in")
    session: int
    state: str
    setpoint_kw: KwOrNone
    measured_kw: KwOrNone
    soc_frac: float | None
    lo_kw: KwOrNone
    hi_kw: KwOrNone
    plan_kw: KwOrNone = Field(description="its part of the declared baseline")
    reason_up: str = Field(description="what stops more discharge")
    reason_down: str = Field(description="what stops more charge")
    age_s: float | None = Field(description="of its last report")


class VehiclesAnswer(Answer):
    """A page of the fleet."""

    t_ns: int
    age_s: float
    total: int = Field(description="chargers in the fleet")
    matched: int = Field(description="rows that pass the filter")
    limit: int
    offset: int
    rows: list[VehicleRow]


class ExplainAnswer(Answer):
    """One vehicle's power in the worker's last decision, in parts: power = clip(plan + slope x lambda, lo, hi)."""

    vehicle: str
    slot: int
    session: int
    slots: list[int] = Field(description="chargers that give this name; one, as a rule")
    t_ns: int = Field(description="of the decision")
    age_s: float = Field(description="since the decision")
    sentence: str = Field(description="all this in words")
    request_kw: Kw = Field(description="asked of the whole fleet, baseline included")
    power_kw: Kw = Field(description="what it got")
    command_kw: KwOrNone = Field(description="what the charger was last told")
    plan_kw: Kw = Field(description="its part of the declared baseline")
    lam: float = Field(description="the fleet's multiplier, the same for every vehicle")
    price: float = Field(description="multiplier below which it stays at its plan")
    slope_kw: Kw = Field(description="willingness in the direction of lambda, per unit of it")
    moved_kw: Kw = Field(description="what lambda calls for on top of the plan")
    free_kw: Kw = Field(description="plan and moved: the power without any bound")
    lo_kw: Kw
    hi_kw: Kw
    reason_down: str = Field(description="what set lo_kw")
    reason_up: str = Field(description="what set hi_kw")
    own_lo_kw: Kw = Field(description="bound of the vehicle by itself, without least powers and caps of the site")
    own_hi_kw: Kw
    own_reason_down: str
    own_reason_up: str
    rated_lo_kw: Kw
    rated_hi_kw: Kw
    bound: Literal["ceiling", "floor"] = Field(description="the one it is held at, else the one it moves towards")
    binding: bool = Field(description="whether it is held there")
    reason: str = Field(description="what set that bound")
    without_kw: Kw = Field(description="with that bound at the next one behind it, at the same lambda")
    resolved_kw: KwOrNone = Field(description="the same once the other vehicles have given way")
    resolved_lam: float | None = Field(description="lambda then")
    wish: str = Field(description="the owner's override in force; none")
    wish_until_ns: int = Field(description="when it lapses; 0 for none")
    wish_up_kw: Kw = Field(description="rated discharge that the wish takes")
    wish_down_kw: Kw = Field(description="rated charge that the wish takes")


class StatementsAnswer(Answer):
    """A page of statements, newest first."""

    total: int
    limit: int
    offset: int
    rows: list[Statement]


class HistoryAnswer(Answer):
    """The last minutes as columns of one length, oldest first; null where nothing was known."""

    t_ns: list[int] = Field(description="when the worker wrote")
    hz: list[float | None] = Field(description="null where the sample was rejected or too old")
    response_kw: list[KwOrNone]
    delivered_kw: list[KwOrNone]


class SignalBody(BaseModel):
    """A balancing authority's set-point, on top of the products, until it expires."""

    model_config = ConfigDict(extra="forbid", strict=True)

    power_kw: Annotated[float, Field(allow_inf_nan=False, description="positive into the grid")]
    valid_s: Annotated[float, Field(gt=0, allow_inf_nan=False, description="seconds from receipt")]


class SignalAnswer(Answer):
    """The set-point is on the stream; the worker takes it on its next sample."""

    id: str = Field(description="stream entry")
    stream: str
    power_kw: Kw
    valid_until_ns: int


class WishBody(BaseModel):
    """An owner's override of the running session; give `until` or `valid_s`, and neither for `none`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    wish: Annotated[
        Literal["none", "charge_now", "no_discharge", "leave_alone"],
        Field(description="none takes an earlier wish back; leave_alone: nothing but the charging plan"),
    ]
    until: Annotated[
        str | None, Field(max_length=64, description="when it lapses: ISO 8601 date, time and offset")
    ] = None  # fmt: skip
    valid_s: Annotated[
        float | None, Field(gt=0, le=1e9, allow_inf_nan=False, description="seconds from receipt")
    ] = None  # fmt: skip


class WishAnswer(Answer):
    """The wish is on the stream; it ends when it lapses or with the session, whichever is first."""

    id: str = Field(description="stream entry")
    stream: str
    vehicle: str
    slots: list[int] = Field(description="chargers that give this name; one, as a rule")
    wish: str
    until_ns: int = Field(description="when it lapses; 0 for none")


class ErrorAnswer(Answer):
    """A refusal."""

    error: str
    field: str | None = None
    remedy: str | None = None


class HealthAnswer(Answer):
    """The event loop turns. Says nothing of the store: an outage there must not restart every replica."""

    status: Literal["ok"] = "ok"

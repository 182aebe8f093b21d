"""The configuration: one TOML file, checked once, frozen. Secrets are not in it.

Every table and key has a default that makes `flyball run` work on one machine. An unknown key is refused with
the nearest valid one; a bad value names its place. Environment: `FLYBALL_REDIS_URL`, `FLYBALL_REDIS_URL_B`,
`FLYBALL_API_TOKEN`, `FLYBALL_COMMAND_KEY`.
"""

from __future__ import annotations

import difflib
import os
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from droop import tomlfiles
from droop.tables import TableError

if TYPE_CHECKING:
    from aggregator.journal_keeping import Limits

IngestName = Annotated[str, Field(pattern=r"^i[1-4]$")]
PlanName = Literal["even", "immediate", "delayed", "price"]  # in the order of droop's `PlanKind`
Origin = Literal["bay", "station", "remote", "automatic_bay", "automatic_station", "automatic_remote"]


class ConfigError(ValueError):
    """A configuration that cannot be used; one line that names the field and the remedy."""


class Table(BaseModel):
    """A table of the file: frozen, and nothing in it that is not known."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ContractTable(Table):
    """What is sold."""

    product: str = "ce_fcr"
    sold_kw: float | None = Field(None, ge=0, allow_inf_nan=False, description="unset: two kW a vehicle")


class FleetTable(Table):
    """The simulated fleet behind the gateway."""

    vehicles: int = Field(1000, ge=1, le=2_000_000)
    seed: int = Field(1, ge=0)
    perfect: bool = False
    minimum_power: bool = Field(True, description="most chargers draw and give at least 6 A or nothing")
    liars_frac: float = Field(
        0.003, ge=0, le=1, description="chargers that acknowledge and, from some time on, do nothing"
    )
    sessions: Path | None = Field(None, description="recorded sessions; unset: cars are drawn for each charger")
    sessions_site: str | None = Field(None, description="one of their sites; unset: all")
    sessions_from: str | None = Field(None, description="arrivals from this ISO date or time on")
    sessions_to: str | None = Field(None, description="arrivals before this one")
    sessions_shift: str = Field("auto", description="`auto`, `none`, or the date that the trace's first day shows")
    sessions_tz: str | None = Field(None, description="zone of times that name none; unset: the publisher's")
    departures: Literal["auto", "told", "known"] = Field("auto", description="what is known of them beforehand")
    skip_bad: bool = Field(False, description="count rows that cannot be true instead of refusing the file")
    generator: Path | None = Field(None, description="a model of `flyball fleet fit`, or `builtin`")
    cars: Path | None = Field(None, description="car models to draw from; unset: built-in classes")
    plans: dict[PlanName, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = Field(
        {"even": 1.0}, min_length=1, description="shares of charging plans"
    )
    tariff: Path | None = Field(None, description="CSV of time,price for plans by price")
    tariff_day: tuple[tuple[float, float], ...] = Field((), description="[hour, price] of any day, instead")
    tariff_tz: str | None = Field(None, description="zone of a tariff's times; unset: UTC")

    @model_validator(mode="after")
    def _agreeing(self) -> FleetTable:
        if self.sessions is not None and self.generator is not None:
            raise ValueError("`generator`: leave it out where `sessions` are given, or them")
        if not sum(self.plans.values()) > 0.0:
            raise ValueError("`plans`: the shares sum to 0; give one above it")
        if self.plans.get("price", 0.0) > 0.0 and self.tariff is None and not self.tariff_day:
            raise ValueError("`plans.price`: needs a `tariff`, or a `tariff_day`")
        if self.tariff is not None and self.tariff_day:
            raise ValueError("`tariff_day`: leave it out where a `tariff` is given, or that")
        return self

    @property
    def plan_shares(self) -> tuple[float, ...]:
        """The shares by droop's `PlanKind` code; (1,) where all are even."""
        shares = tuple(self.plans.get(name, 0.0) for name in get_args(PlanName))
        return shares if sum(shares[1:]) > 0.0 else (1.0,)


class UnitTlsTable(Table):
    """PEM files of the association with the measuring unit; passwords are in the environment."""

    cert: Path
    key: Path
    pins: tuple[Path, ...] = ()
    ca: tuple[Path, ...] = ()


class UnitTable(Table):
    """The measuring unit, and the simulated ones that `flyball run` starts."""

    host: str = "127.0.0.1"
    port: int = Field(0, ge=0, le=65535, description="0: a free one")
    rate_hz: float = Field(50.0, gt=0, le=1000)
    seed: int = Field(1, ge=0)
    trip_every_s: float = Field(180.0, gt=0)
    faults: tuple[str, ...] = ()
    nominal_volt: float = Field(11547.0, gt=0)
    report_block: str | None = Field(None, description="unset: the best free one that browsing finds")
    hz_ref: str | None = Field(None, description="unset: the Hz of the block's data set")
    volt_ref: str | None = Field(None, description="unset: PhV beside it")
    poll_ms: int = Field(20, ge=0, le=60_000, description="where no block is free; 0: wait for one")
    tls: UnitTlsTable | None = None
    plaintext: bool = Field(False, description="without TLS beyond this machine")
    history: bool = Field(False, description="a buffered block besides: what was missed, for the record")
    silent_after_s: float = Field(3.0, gt=0, le=3600)
    backend: Literal["libiec61850", "open61850"] | None = Field(None, description="unset: the best one installed")
    simulated: bool = True
    count: int = Field(1, ge=1, le=8, description="simulated units side by side on one grid, each a source")


class SourceTable(Table):
    """One source of frequency of several; without any, the units of `[unit]` are the sources."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,47}$")
    kind: Literal["iec61850", "c37118", "goose"] = "iec61850"
    host: str = Field("127.0.0.1", description="of `goose`: the network interface")
    port: int = Field(0, ge=0, le=65535, description="0: a free one, for a simulated unit; `goose` has none")
    priority: int = Field(1, ge=1, le=99, description="1 is preferred; of equal ones the first in the file")
    simulated: bool = Field(False, description="`flyball run` starts a unit of `[unit]` for it")
    nominal_volt: float | None = Field(None, gt=0, description="unset: that of `[unit]`")
    silent_after_s: float | None = Field(None, gt=0, le=3600, description="unset: that of `[unit]`")
    ingest: IngestName | None = Field(None, description="which of `worker.ingests` follows it; unset: each of them")
    options: dict[str, Any] = Field(default_factory=dict, description="further options of that kind of client")

    @model_validator(mode="after")
    def _reachable(self) -> SourceTable:
        if self.simulated and self.kind != "iec61850":
            raise ValueError("`simulated`: the simulated unit speaks iec61850; set `kind` to it, or name a real source")
        if not self.simulated and self.port == 0 and self.kind != "goose":
            raise ValueError("`port`: name the port of the source, or make it `simulated`")
        return self


class ChoiceTable(Table):
    """How one of several sources is chosen; None leaves the default of `telemetry.choice`."""

    policy: Literal["priority", "voting"] | None = None
    agree_hz: float | None = Field(None, gt=0, le=1, allow_inf_nan=False)
    disagree_s: float | None = Field(None, gt=0, le=60)
    out_s: float | None = Field(None, gt=0, le=60)
    return_s: float | None = Field(None, gt=0, le=3600)
    slew_hz_s: float | None = Field(None, gt=0, description="inf: at once")


class WorkerTable(Table):
    """What the worker follows: one ingest, or several of which one is chosen."""

    ingests: tuple[IngestName, ...] = Field(("i1",), min_length=1, description="preferred ones first")
    choice: ChoiceTable | None = Field(None, description="among the ingests, as [choice] among sources")


class QualityTable(Table):
    """Settings of the gate; None leaves its own default."""

    spike_test: Literal["rate", "median"] = Field(
        "rate", description="`median`: of three, and every sample waits for the next"
    )

    band_frac: float | None = Field(None, gt=0, lt=0.5)
    spike_ceiling_hz: float | None = Field(None, gt=0)
    spike_rows: int | None = Field(None, ge=1, le=50)
    stuck_s: float | None = Field(None, gt=0)
    volt_min_frac: float | None = Field(None, ge=0, lt=1)
    age_max_s: float | None = Field(None, gt=0)
    clock_jump_s: float | None = Field(None, gt=0)


class EngineTable(Table):
    """The core's times and prices."""

    refresh_s: float = Field(1.0, gt=0, le=10)
    fresh_s: float = Field(3.0, gt=0, le=5)
    stale_s: float = Field(5.0, gt=0, le=5)
    validity_s: float = Field(6.0, gt=0.5, le=60)
    overshoot_frac: float = Field(0.05, ge=0, le=0.5)
    sample_age_max_s: float = Field(1.0, gt=0, le=60)
    dwell_s: float = Field(60.0, ge=0, le=3600)
    rest_s: float = Field(0.0, ge=0, le=60)
    reversal_kw: float = Field(2.0, ge=0, le=100)
    most_frac: float = Field(1.0, gt=0, le=1)
    wear_price: float = Field(0.0, ge=0, le=10)
    retry_s: float = Field(900.0, gt=0, le=86_400)
    loss_standing_frac: float = Field(0.0, ge=0, lt=0.2, description="of the rating, lost while a charger runs")
    loss_quadratic_frac: float = Field(0.0, ge=0, lt=0.5, description="of the rating, lost besides at full power")

    @model_validator(mode="after")
    def _ordered(self) -> EngineTable:
        if self.fresh_s > self.stale_s:
            raise ValueError("`fresh_s` must not be above `stale_s`")
        return self


class LimitsTable(Table):
    """How ratings shrink near the edges of the state of charge and of temperature."""

    taper_from_frac: float = Field(0.85, gt=0, le=1)
    taper_least_frac: float = Field(0.1, gt=0, le=1)
    weak_below_frac: float = Field(0.08, ge=0, lt=1)
    cold_c: float = Field(5.0, ge=-60, le=120)
    cold_stop_c: float = Field(-10.0, ge=-60, le=120)
    hot_c: float = Field(45.0, ge=-60, le=120)
    hot_stop_c: float = Field(55.0, ge=-60, le=120)
    bypass_k: float = Field(5.0, gt=0, le=200)

    @model_validator(mode="after")
    def _ordered(self) -> LimitsTable:
        if not self.cold_stop_c < self.cold_c < self.hot_c < self.hot_stop_c:
            raise ValueError("`cold_stop_c`, `cold_c`, `hot_c`, `hot_stop_c` must rise in this order")
        if self.weak_below_frac >= self.taper_from_frac:
            raise ValueError("`weak_below_frac` must be below `taper_from_frac`")
        return self


class SiteTable(Table):
    """A connection with caps, and the rows of the fleet behind it."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,47}$")
    parent: str | None = None
    first: int = Field(ge=0)
    count: int = Field(ge=1)
    export_kw: float | None = Field(None, ge=0, allow_inf_nan=False)
    import_kw: float | None = Field(None, ge=0, allow_inf_nan=False)
    local_meter: int | None = Field(None, ge=2, le=2**32 - 1, description="1 is the fleet's own")
    local_lo_kw: float = Field(0.0, allow_inf_nan=False)
    local_hi_kw: float = Field(0.0, allow_inf_nan=False)

    @property
    def last(self) -> int:
        """The row after its last one."""
        return self.first + self.count

    @model_validator(mode="after")
    def _ordered(self) -> SiteTable:
        if self.local_lo_kw > self.local_hi_kw:
            raise ValueError("`local_lo_kw` must not be above `local_hi_kw`")
        if self.local_meter is None and (self.local_lo_kw or self.local_hi_kw):
            raise ValueError("`local_lo_kw` and `local_hi_kw` need a `local_meter`")
        return self


class MeterTable(Table):
    """How exact a meter at a grid connection is, each error of its reading."""

    number: int = Field(1, ge=1, le=2**32 - 1, description="1 is the fleet's own")
    random_frac: float = Field(0.0, ge=0, le=1, description="independent of the others, e.g. 0.01 of class B (MID)")
    common_frac: float = Field(0.0, ge=0, le=1, description="shared by all of its model: it does not average out")


class ProtectionTable(Table):
    """The interconnection's trip limits, and how service is entered again; its own figures, or whose."""

    use: str = Field("auto", min_length=1, description="`auto`, `none`, or a product that brings them")
    trips: tuple[tuple[float, float], ...] | None = Field(None, description="[Hz, s]")
    ride_through: tuple[tuple[float, float, float], ...] | None = Field(None, description="[low Hz, high Hz, s]")
    enter_low_hz: float | None = None
    enter_high_hz: float | None = None
    enter_delay_s: float | None = None
    enter_ramp_s: float | None = None
    enter_low_pu: float | None = None
    enter_high_pu: float | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> ProtectionTable:
        if self.use != "auto" and self.model_dump(exclude_none=True, exclude={"use"}):
            raise ValueError("`use`: leave it out where the table brings figures of its own")
        return self


class ApiTable(Table):
    """The API process."""

    host: str = "127.0.0.1"
    port: int = Field(8080, ge=0, le=65535)
    cert: Path | None = None
    key: Path | None = None
    allowed_hosts: tuple[str, ...] = ()
    signal_max_kw: float | None = Field(None, ge=0, description="unset: as much as is sold")


class UtilityClientTable(Table):
    """A client of the utility's server, by its certificate."""

    name: str = Field(min_length=1, max_length=64)
    cert: Path
    operate: bool = False


class UtilityTable(Table):
    """The IEC 61850 server on the utility's side; the process runs where this table stands."""

    host: str = "127.0.0.1"
    port: int = Field(10103, ge=0, le=65535)
    cert: Path | None = None
    key: Path | None = None
    client: tuple[UtilityClientTable, ...] = ()
    local_operate: bool = Field(False, description="without TLS: whether any program of this machine may operate")
    ied: str = "FLYBALL"
    device: str = "VPP"
    control: Literal["direct", "select"] = "select"
    select_s: float = Field(30.0, gt=0, le=3600)
    valid_s: float = Field(60.0, gt=0, le=3600)
    interval_s: float = Field(0.5, ge=0, le=3600)
    step_kw: float | None = Field(None, gt=0, allow_inf_nan=False)
    age_s: float = Field(10.0, gt=0, le=3600)
    categories: tuple[Origin, ...] = ("remote", "automatic_remote")
    names: dict[str, str] = Field(default_factory=dict, description="figure = LN.DO")


class StoreTable(Table):
    """The embedded servers; `FLYBALL_REDIS_URL` takes their place."""

    maxmemory_mb: int = Field(512, ge=64)
    paired: bool = Field(True, description="a second one beside the first, which has the frequency as well")
    snapshot_s: float = Field(5.0, ge=1, le=60, description="the worker's state for a new owner")


class JournalTable(Table):
    """How long the journal is kept; 0: for ever."""

    keep_days: float = Field(0.0, ge=0, le=36_525)
    keep_gb: float = Field(0.0, ge=0, description="of all tables together; the oldest hours go first")
    keep_kind_days: dict[str, Annotated[float, Field(ge=0, le=36_525)]] = Field({}, description="by table, instead")

    @model_validator(mode="after")
    def _known(self) -> JournalTable:
        from aggregator.journal import ELSEWHERE, TABLE_OF

        known = sorted({*TABLE_OF.values(), ELSEWHERE})
        for name in self.keep_kind_days:
            if name not in known:
                raise ValueError(f"`keep_kind_days.{name}` is no table of the journal; known: {', '.join(known)}")
        return self

    def limits(self) -> Limits:
        """As the journal's housekeeping takes them."""
        from aggregator.journal_keeping import Limits

        return Limits(self.keep_days, self.keep_kind_days, round(self.keep_gb * 1e9))


class SettlementTable(Table):
    """What the settlement does besides."""

    prices: Path | None = Field(
        None, description="file of prices: what it earns is sealed too; read anew as it changes"
    )


class Config(Table):
    """The whole configuration."""

    area: str = Field("ce", pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")
    folder: Path = Field(Path("var"), description="journal, keys, sockets")
    log: Literal["info", "debug", "warning"] = "info"
    contract: tuple[ContractTable, ...] = (ContractTable(),)
    fleet: FleetTable = FleetTable()
    unit: UnitTable = UnitTable()
    source: tuple[SourceTable, ...] = ()
    choice: ChoiceTable = ChoiceTable()
    worker: WorkerTable = WorkerTable()
    quality: QualityTable = QualityTable()
    engine: EngineTable = EngineTable()
    limits: LimitsTable = LimitsTable()
    site: tuple[SiteTable, ...] = ()
    protection: ProtectionTable = ProtectionTable()
    api: ApiTable = ApiTable()
    store: StoreTable = StoreTable()
    journal: JournalTable = JournalTable()
    settlement: SettlementTable = SettlementTable()
    meter: tuple[MeterTable, ...] = ()
    utility: UtilityTable | None = None

    @model_validator(mode="after")
    def _sites(self) -> Config:
        _check_sites(self.site, self.fleet.vehicles)
        return self

    @model_validator(mode="after")
    def _sources(self) -> Config:
        names = [source.name for source in self.source]
        if len(set(names)) != len(names):
            raise ValueError(f"`source.name`: {max(names, key=names.count)!r} is given twice")
        if len(names) > 8:
            raise ValueError(f"`source`: {len(names)} tables; one process follows 8 at most")
        if self.unit.count > 1 and (self.source or not self.unit.simulated):
            raise ValueError(
                "`unit.count`: counts simulated units alone; with [[source]] tables, give each one its own"
            )
        return self

    @model_validator(mode="after")
    def _ingests(self) -> Config:
        names = self.worker.ingests
        if len(set(names)) != len(names):
            raise ValueError(f"`worker.ingests`: {max(names, key=names.count)!r} is given twice")
        for source in self.sources:
            if source.ingest is not None and source.ingest not in names:
                raise ValueError(f"`source.ingest`: {source.ingest!r} of {source.name!r} is none of `worker.ingests`")
            if source.ingest not in (None, names[0]) and source.options.get("history", self.unit.history):
                raise ValueError(f"`source.options.history` of {source.name!r}: only {names[0]!r} brings late history")
        for name in names:
            if not self.sources_of(name):
                raise ValueError(f"`worker.ingests`: {name!r} has no source; give it one, or leave it out")
        return self

    def sources_of(self, ingest: str) -> dict[int, SourceTable]:
        """The sources that one ingest follows, by the number of their rows, preferred ones first."""
        numbered = enumerate(self.sources, 1)
        return {number: source for number, source in numbered if source.ingest in (None, ingest)}

    @property
    def sources(self) -> tuple[SourceTable, ...]:
        """Every source of frequency, preferred ones first."""
        given = self.source or tuple(
            SourceTable.model_construct(
                name=f"unit{k + 1}", host=self.unit.host, port=self.unit.port if k == 0 else 0, priority=k + 1,
                simulated=self.unit.simulated,
                # One unit serves all of them; of several each ingest has its own.
                ingest=self.worker.ingests[k % len(self.worker.ingests)] if self.unit.count > 1 else None,
            )
            for k in range(self.unit.count)
        )  # fmt: skip
        return tuple(sorted(given, key=lambda source: source.priority))


def _check_sites(sites: tuple[SiteTable, ...], vehicles: int) -> None:
    """Raises ValueError for a site that is no part of a tree over the fleet's rows."""
    named: dict[str, SiteTable] = {}
    for site in sites:
        if site.name in named:
            raise ValueError(f"`site.name`: {site.name!r} is given twice")
        if site.last > vehicles:
            raise ValueError(f"`site.count`: {site.name!r} ends at row {site.last}, the fleet has {vehicles}")
        named[site.name] = site
    _check_meters(sites)
    within: dict[str | None, list[SiteTable]] = {}
    for site in sites:
        if site.parent is not None and site.parent not in named:
            raise ValueError(f"`site.parent`: {site.name!r} names {site.parent!r}, which is no site")
        above = named[site.parent] if site.parent is not None else None
        if above is not None and not above.first <= site.first < site.last <= above.last:
            raise ValueError(f"`site.parent`: {site.name!r} does not lie within {site.parent!r}")
        _check_ancestry(site, named)
        within.setdefault(site.parent, []).append(site)
    for siblings in within.values():
        for one, next_one in pairwise(sorted(siblings, key=lambda site: site.first)):
            if next_one.first < one.last:
                raise ValueError(f"`site.first`: {one.name!r} and {next_one.name!r} share rows; make one the parent")


def _check_meters(sites: tuple[SiteTable, ...]) -> None:
    """Raises ValueError for a meter named by two sites: what it reads lies behind one connection."""
    of: dict[int, str] = {}
    for site in sites:
        if site.local_meter is not None and of.setdefault(site.local_meter, site.name) != site.name:
            raise ValueError(
                f"`site.local_meter`: {of[site.local_meter]!r} and {site.name!r} both name {site.local_meter}; "
                "give it to the one that it measures"
            )


def _check_ancestry(site: SiteTable, named: dict[str, SiteTable]) -> None:
    """Raises ValueError for a site that is its own ancestor."""
    above, seen = site, {site.name}
    while above.parent is not None and above.parent in named:
        if above.parent in seen:
            raise ValueError(f"`site.parent`: {site.name!r} lies within itself")
        seen.add(above.parent)
        above = named[above.parent]


def load(path: Path | None, **overrides: Any) -> Config:
    """The configuration of a file, or the defaults, with options of the command line on top.

    overrides : dotted names with `__` for the dot (`fleet__vehicles=10`); None leaves the file's value
    """
    table: dict[str, Any] = {}
    where = "options"
    if path is not None:
        where = str(path)
        try:
            table = tomlfiles.own(path, "configuration", "give a TOML file")
        except TableError as error:
            raise ConfigError(str(error)) from error
    for dotted, value in overrides.items():
        if value is not None:
            _put(table, dotted.split("__"), value)
    return validate(table, where)


def validate(table: dict[str, Any], where: str) -> Config:
    """A Config, or one ConfigError for the first thing that is wrong."""
    try:
        return Config.model_validate(table)
    except ValidationError as error:
        raise ConfigError(f"{where}: {_first(error)}") from error


def redis_url(embedded_url: str | None) -> str | None:
    """The store to use: the environment's, or the embedded one."""
    return os.environ.get("FLYBALL_REDIS_URL") or embedded_url


def store_keys() -> Path | None:
    """The folder of passwords for the users of a server of one's own, where the environment names one."""
    named = os.environ.get("FLYBALL_STORE_KEYS")
    return Path(named) if named and redis_url(None) else None


def redis_url_b(embedded_url: str | None) -> str | None:
    """The second server, for the frequency: the environment's, or the embedded one beside an embedded first.

    Raises ConfigError for a second one without a first, and for one that is the first.
    """
    first, second = os.environ.get("FLYBALL_REDIS_URL"), os.environ.get("FLYBALL_REDIS_URL_B")
    if second and not first:
        raise ConfigError("FLYBALL_REDIS_URL_B is set and FLYBALL_REDIS_URL is not; set both, or neither")
    if second and second == first:
        raise ConfigError("FLYBALL_REDIS_URL_B names the same server as FLYBALL_REDIS_URL; name an independent one")
    return second or (None if first else embedded_url)


def _put(table: dict[str, Any], names: list[str], value: Any) -> None:
    for name in names[:-1]:
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            return  # no table: the check names it
    table[names[-1]] = value


def _first(error: ValidationError) -> str:
    found = error.errors(include_url=False)[0]
    place = [str(part) for part in found["loc"]]
    name = ".".join(place)
    if not place:
        return str(found["msg"]).removeprefix("Value error, ")
    if found["type"] == "tuple_type" and isinstance(found["input"], dict):
        return f"`{name}`: one table of several; write its head as [[{name}]]"
    if found["type"] != "extra_forbidden":
        return f"`{name}`: {found['msg']}, got {found['input']!r}"
    known = _keys(place[:-1])
    near = difflib.get_close_matches(place[-1], known, 1)
    return f"unknown key `{name}`; " + (
        f"did you mean `{'.'.join([*place[:-1], near[0]])}`?" if near else f"known here: {', '.join(known)}"
    )


def _keys(place: list[str]) -> list[str]:
    """Valid keys of the table at `place`."""
    model: type[BaseModel] = Config
    tables: dict[str, type[BaseModel]] = {
        "contract": ContractTable, "fleet": FleetTable, "unit": UnitTable, "source": SourceTable,
        "choice": ChoiceTable, "worker": WorkerTable, "quality": QualityTable, "protection": ProtectionTable,
        "engine": EngineTable, "limits": LimitsTable, "site": SiteTable, "api": ApiTable, "store": StoreTable,
        "journal": JournalTable, "settlement": SettlementTable, "meter": MeterTable, "tls": UnitTlsTable,
        "utility": UtilityTable,
        "client": UtilityClientTable,
    }  # fmt: skip
    for part in place:
        model = tables.get(part, model)
    return sorted(model.model_fields)

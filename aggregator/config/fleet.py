"""Tables of what is sold and who serves it: contracts, the simulated fleet, its sites and meters."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from aggregator.config.table import Table

PlanName = Literal["even", "immediate", "delayed", "price"]  # in the order of droop's `PlanKind`


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


def check_sites(sites: tuple[SiteTable, ...], vehicles: int) -> None:
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

"""What is sold and with what the core is built: everything that decides a command, in one record.

The record travels as JSON at the head of every journal, so that a replay needs neither the configuration file
nor the catalogue of the day. Keys are named by their id, never written.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Final

import numpy as np
import orjson

from droop import plans
from droop.bounds import Rules
from droop.commands import Sending
from droop.limits import Ages, Derating
from droop.minimum import Turns
from droop.modes import heeds
from droop.products import Product, parse, to_table
from droop.promises import Protection
from droop.response import Believing
from droop.sites import Node
from droop.step import Settings
from droop.tables import record, table
from settlement import baselines
from settlement.facts import Classes

# What a restart of the settlement reads back (`settle.recent`).
INTERVAL_MAX_S: Final = 3600


@dataclass(frozen=True)
class Contract:
    """One product and how much of it is sold [kW]."""

    product: Product
    sold_kw: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.sold_kw < math.inf:
            raise ValueError(f"sold_kw {self.sold_kw}: give a number of 0 or more for {self.product.id}")
        if self.product.interval_s > INTERVAL_MAX_S:
            raise ValueError(f"{self.product.id}: field `interval_s` takes at most {INTERVAL_MAX_S} s to be sold, not "
                             f"{self.product.interval_s}; a longer block is `market.block_s`")  # fmt: skip
        # A baseline that could not be settled is refused before anything is sold.
        baselines.check(self.product)
        baselines.ramp_s(self.product)


def contracts_sold(contracts: Sequence[Contract], sold_kw: Sequence[float]) -> tuple[Contract, ...]:
    """The same products with other powers sold. Raises ValueError for another number of them, or for bad ones."""
    if len(sold_kw) != len(contracts):
        raise ValueError(f"sold_kw: {len(sold_kw)} powers for {len(contracts)} contracts; give one for each")
    return tuple(replace(contract, sold_kw=float(kw)) for contract, kw in zip(contracts, sold_kw, strict=True))


@dataclass(frozen=True)
class Site:
    """A connection with caps and the rows of the fleet behind it; magnitudes in kW, None: no cap.

    meter                    : number of the meter of what else lies behind it; 0: there is none
    local_lo_kw, local_hi_kw : what that meter could say at worst while it is silent
    """

    name: str
    parent: str | None
    first: int
    rows: int
    export_kw: float | None = None
    import_kw: float | None = None
    meter: int = 0
    local_lo_kw: float = 0.0
    local_hi_kw: float = 0.0

    def node(self) -> Node:
        """The same for the engine."""
        export_kw = math.inf if self.export_kw is None else self.export_kw
        import_kw = math.inf if self.import_kw is None else self.import_kw
        return Node(
            self.name, self.parent, self.first, self.rows, export_kw, import_kw, self.local_lo_kw, self.local_hi_kw
        )


@dataclass(frozen=True)
class Tariff:
    """Prices that plans by price go by, in slots of one length; any unit, only their order counts.

    start_ns : when the first slot begins; repeats : the slots come again and again (a table for a day)
    """

    start_ns: int
    slot_s: int
    prices: tuple[float, ...]
    repeats: bool = False


@dataclass(frozen=True)
class CoreSettings:
    """The core's whole configuration; times in s, powers in kW."""

    area: str
    rows: int
    contracts: tuple[Contract, ...]
    epoch: int = 1
    key_id: int = 1
    signal_max_kw: float = 0.0
    sample_age_max_s: float = 1.0
    refresh_s: float = 1.0
    fresh_s: float = 3.0
    stale_s: float = 5.0
    horizon_s: float = 2.0
    validity_s: float = 6.0
    renew_s: float = 3.0
    overshoot_frac: float = 0.05
    reversal_kw: float = 2.0
    most_frac: float = 1.0
    rest_s: float = 0.0
    dwell_s: float = 60.0
    retry_s: float = 900.0
    wear_price: float = 0.0
    losses: tuple[float, float] = (0.0, 0.0)
    derating: tuple[float, ...] = tuple(Derating())
    sites: tuple[Site, ...] = ()
    protection: Protection | None = None
    tariff: Tariff | None = None
    # (number, random, common): error of each meter whose class is known, of its reading.
    meter_classes: tuple[tuple[int, float, float], ...] = ()
    # (epoch, seq) of the last journal entry of the life this one goes on from; (0, 0): it begins anew.
    continues: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        own = {c.product.id for c in self.contracts}
        for c in self.contracts:
            if len(own) > 1 and (name := baselines.method(c.product)) != "schedule":
                raise ValueError(f"{c.product.id}: field `baseline.fn`: `{name}` goes with one product alone: "
                                 "several share one delivery; give schedule, or sell it by itself")  # fmt: skip

    def classes(self) -> Classes:
        """The meters' classes as settlement takes them."""
        number, random, common = zip(*self.meter_classes, strict=True) if self.meter_classes else ((), (), ())
        return Classes(np.array(number, np.int64), np.array(random, np.float64), np.array(common, np.float64))

    @property
    def nominal_hz(self) -> float:
        """The grid's nominal frequency; all contracts share it."""
        return self.contracts[0].product.nominal_hz

    @property
    def interval_s(self) -> int:
        """Settlement interval of the first contract; the baseline is declared by it."""
        return self.contracts[0].product.interval_s

    @property
    def intervals_s(self) -> tuple[int, ...]:
        """Settlement intervals of all contracts."""
        return tuple(c.product.interval_s for c in self.contracts)

    @property
    def ramp_s(self) -> int:
        """The declared baseline's ramp into an interval, of the first contract as the interval."""
        return baselines.ramp_s(self.contracts[0].product)

    def engine(self) -> Settings:
        """The kernel's settings."""
        sending = Sending(
            round(self.validity_s * 1e9), round(self.renew_s * 1e9), self.overshoot_frac,
            reversal_kw=self.reversal_kw, most_frac=self.most_frac, rest_ns=round(self.rest_s * 1e9),
        )  # fmt: skip
        rules = Rules(
            Ages(self.fresh_s, self.stale_s, self.horizon_s, self.refresh_s), Derating(*self.derating),
            Turns(dwell_ns=round(self.dwell_s * 1e9)), round(self.refresh_s * 1e9),
            energies=any(heeds(contract.product) for contract in self.contracts),
        )  # fmt: skip
        # Of a product on a signal these two are about the signal (`droop.signals`).
        heard = [c.product for c in self.contracts if c.product.input == "frequency"]
        products = heard or [c.product for c in self.contracts]
        hold_s = min(product.hold_s for product in products)
        fade_s = min(product.fade_s for product in products)
        return Settings(rules, sending, round(hold_s * 1e9), fade_s)

    def prices_ahead(self) -> plans.Tariff | None:
        """The tariff as the engine takes it."""
        known = self.tariff
        if known is None:
            return None
        return plans.tariff(known.prices, known.start_ns, known.slot_s * 1_000_000_000, repeats=known.repeats)

    def believing(self) -> Believing:
        """When a charger is no longer believed to follow."""
        return Believing(retry_ns=round(self.retry_s * 1e9))

    def to_json(self) -> bytes:
        """The record as JSON, products in full."""
        plain = asdict(self)
        for contract, entry in zip(self.contracts, plain["contracts"], strict=True):
            entry["product"] = to_table(contract.product)
        plain["protection"] = None if self.protection is None else table(self.protection)
        return orjson.dumps(plain, option=orjson.OPT_SORT_KEYS)


def from_json(data: bytes) -> CoreSettings:
    """The settings that `to_json` wrote."""
    plain = orjson.loads(data)
    contracts = tuple(
        Contract(parse(entry["product"], "journal"), float(entry["sold_kw"])) for entry in plain.pop("contracts")
    )
    sites = tuple(Site(**site) for site in plain.pop("sites"))
    limits, tariff = plain.pop("protection", None), plain.pop("tariff", None)
    return CoreSettings(
        contracts=contracts, sites=sites, derating=tuple(plain.pop("derating")),
        losses=tuple(plain.pop("losses")),
        meter_classes=tuple((int(n), float(r), float(c)) for n, r, c in plain.pop("meter_classes", ())),
        continues=tuple(plain.pop("continues", (0, 0))),
        protection=None if limits is None else record(Protection, limits, "protection."),
        tariff=None if tariff is None else Tariff(**{**tariff, "prices": tuple(tariff["prices"])}), **plain,
    )  # fmt: skip

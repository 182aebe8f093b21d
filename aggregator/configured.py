"""What the configuration asks for, as the records that the core and the simulated fleet are made of.

Apart from the processes that are run with it: a backtest needs the records, and no servers.
"""

from __future__ import annotations

import dataclasses
from typing import Final

from aggregator.config import Config, ConfigError, FleetTable, SiteTable
from aggregator.contracts import Contract, CoreSettings, Site
from aggregator.fleets.composing import tariff_of
from aggregator.gateways.population import PERFECT, Behaviour
from aggregator.protecting import protection_of
from aggregator.validity import check_sold_once
from droop.limits import Derating
from droop.products import load

# Sold when nobody says how much: well within what a plugged-in vehicle can sustain both ways.
SOLD_KW_PER_VEHICLE: Final = 2.0
# Bounds must last until the next refresh, and as long again as a report may be on its way.
REPORT_DELAY_S: Final = 1.0


def core_settings(config: Config) -> CoreSettings:
    """The core's settings from the configuration. Raises ConfigError, ProductError."""
    contracts = tuple(
        Contract(load(entry.product), _sold_kw(entry.sold_kw, config.fleet.vehicles)) for entry in config.contract
    )
    check_sold_once([contract.product for contract in contracts])
    nominal = {contract.product.nominal_hz for contract in contracts}
    if len(nominal) != 1:
        raise ConfigError("`contract`: products of 50 and of 60 Hz cannot be sold in one area; run two")
    limit = config.api.signal_max_kw
    engine = config.engine
    return CoreSettings(
        config.area, config.fleet.vehicles, contracts,
        signal_max_kw=sum(c.sold_kw for c in contracts) if limit is None else limit,
        sample_age_max_s=engine.sample_age_max_s, refresh_s=engine.refresh_s,
        horizon_s=engine.refresh_s + REPORT_DELAY_S, fresh_s=engine.fresh_s,
        stale_s=engine.stale_s, validity_s=engine.validity_s, renew_s=engine.validity_s / 2,
        overshoot_frac=engine.overshoot_frac, reversal_kw=engine.reversal_kw, most_frac=engine.most_frac,
        rest_s=engine.rest_s, dwell_s=engine.dwell_s, retry_s=engine.retry_s, wear_price=engine.wear_price,
        losses=(engine.loss_standing_frac, engine.loss_quadratic_frac),
        derating=tuple(Derating(**config.limits.model_dump())), sites=tuple(_site(table) for table in config.site),
        protection=protection_of(config.protection, contracts), tariff=tariff_of(config.fleet),
        meter_classes=tuple((one.number, one.random_frac, one.common_frac) for one in config.meter),
    )  # fmt: skip


def _site(table: SiteTable) -> Site:
    return Site(
        table.name, table.parent, table.first, table.count, table.export_kw, table.import_kw, table.local_meter or 0,
        table.local_lo_kw, table.local_hi_kw,
    )  # fmt: skip


def _sold_kw(named_kw: float | None, vehicles: int) -> float:
    return SOLD_KW_PER_VEHICLE * vehicles if named_kw is None else named_kw


def behaviour(table: FleetTable) -> Behaviour:
    """How imperfect the configured fleet is."""
    if table.perfect:
        return dataclasses.replace(PERFECT, plans=table.plan_shares)
    plain = Behaviour(liars_frac=table.liars_frac, plans=table.plan_shares)
    return plain if table.minimum_power else dataclasses.replace(plain, minimum_frac=0.0)

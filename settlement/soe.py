"""Great Britain: whether a settlement period began with the energy that NESO asks for then (rulebook 4.2) [V2].

What must be there is `droop.state_of_energy`'s requirement; here it gets its numbers: the contracted volumes of all
products sold on the fleet that state a recovery share, what was delivered in the periods before, by the meters, and
the energies that the engine had on record at the start. One direction at a time, for the unit as a whole: a period
that starts outside either requirement is unavailable for all of them.

The requirement looks back over a block of eight periods and starts at the whole volume there: what was delivered
earlier has been recovered by then unless more was, and to assume so never helps the seller [D]. Unknown time counts as
nothing delivered, for the same reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from droop import state_of_energy
from droop.products import Product
from settlement import baseline, delivered, window
from settlement.align import NS, Floats, Grid
from settlement.facts import Facts, digest
from settlement.statement import StateOfEnergy

BACK: Final = 8  # settlement periods
# Energies are on record once a minute; one that is older than this says nothing of the start.
NEAR_NS: Final = 90 * NS
NOT_RECORDED: Final = "the energy of the fleet is not on record: not judged"
SILENT: Final = "the energy of the fleet is not on record at the start: unavailable"
ONE_WAY: Final = "no vehicle goes both ways: there is no state of energy to judge"

Sold = Sequence[tuple[Product, float]]


def asks(product: Product) -> bool:
    """Whether a product's market asks for a state of energy at the start of each settlement period."""
    return product.reservoir is not None and product.reservoir.recovery_frac > 0.0


def reach_ns(sold: Sold) -> int:
    """How far before an interval the meters and the baseline are needed [ns]; 0 where nothing asks for it."""
    return max((BACK * product.interval_s * NS for product, _ in sold if asks(product)), default=0)


def judge(sold: Sold, facts: Facts, start_ns: int) -> StateOfEnergy | None:
    """The state of energy at the start of a settlement period; None where no product sold asks for one.

    facts : meters and baseline reach back by `reach_ns`, energies a little beyond the start on either side
    """
    asking = [(product, kw) for product, kw in sold if asks(product)]
    if not asking:
        return None
    length_ns = max(product.interval_s for product, _ in asking) * NS
    meters = window.take(facts.meters, window.between(facts.meters.t_ns, start_ns - BACK * length_ns, start_ns))
    declared = window.take(
        facts.declarations, window.declared(facts.declarations, start_ns - BACK * length_ns, start_ns)
    )
    rows = window.take(
        facts.energy, window.between(facts.energy.t_ns, start_ns - NEAR_NS, start_ns + NEAR_NS)
    )  # fmt: skip
    given = _delivered_kwh(facts._replace(meters=meters, declarations=declared), start_ns, length_ns)
    least_up, least_down = (_least_kwh(asking, given[:, way], way) for way in (0, 1))
    sha256 = digest(*rows, *meters, *declared)
    if not rows.t_ns.size:
        silent = facts.energy.t_ns.size > 0
        return StateOfEnergy(
            None, None, least_up, least_down, False if silent else None, SILENT if silent else NOT_RECORDED, sha256
        )
    place = int(np.argmin(np.abs(rows.t_ns - start_ns)))
    up_kwh, down_kwh = float(rows.up_kwh[place]), float(rows.down_kwh[place])
    if up_kwh + down_kwh <= 0.0:
        return StateOfEnergy(up_kwh, down_kwh, least_up, least_down, None, ONE_WAY, sha256)
    (inside,) = state_of_energy.available([up_kwh], up_kwh + down_kwh, [least_up], [least_down])
    return StateOfEnergy(up_kwh, down_kwh, least_up, least_down, inside, "" if inside else _short(
        up_kwh, down_kwh, least_up, least_down), sha256)  # fmt: skip


def _delivered_kwh(facts: Facts, start_ns: int, length_ns: int) -> Floats:
    """float64[BACK, 2]: energy delivered up and down in each of the periods before, beyond the baseline."""
    found = np.zeros((BACK, 2))
    if not facts.meters.t_ns.size:
        return found
    grid = Grid(start_ns - BACK * length_ns, NS, BACK * length_ns // NS)
    net = delivered.net_kw(delivered.metered_kw(facts.meters, grid), baseline.power_kw(facts.declarations, grid))
    power = (np.nan_to_num(net.mean) * net.coverage_frac).reshape(BACK, -1) / 3600.0
    found[:, 0], found[:, 1] = np.maximum(power, 0.0).sum(axis=1), np.maximum(-power, 0.0).sum(axis=1)
    return found


def _least_kwh(asking: Sold, given_kwh: Floats, way: int) -> float:
    """What must be there at the start: of all products of a direction together. way : 0 up, 1 down"""
    volume_kwh, share = 0.0, 0.0
    for product, kw in asking:
        assert product.reservoir is not None  # noqa: S101 - `asks`
        volume_kwh += kw * (product.reservoir.energy_down_h if way else product.reservoir.energy_up_h)
        share = max(share, product.reservoir.recovery_frac)
    return state_of_energy.requirement_kwh(volume_kwh, given_kwh.tolist(), share)[-1]


def _short(up_kwh: float, down_kwh: float, least_up: float, least_down: float) -> str:
    missing = [
        f"{have:.1f} kWh {way}, {least:.1f} are asked for"
        for way, have, least in (("up", up_kwh, least_up), ("down", down_kwh, least_down))
        if have < least
    ]
    return f"state of energy at the start: {' and '.join(missing) or 'outside'}: unavailable"

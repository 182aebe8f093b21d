"""Australia, contingency FCAS: the standard frequency ramp, and the quantity it shows.

AEMO, Market ancillary service specification: offers are sized on the response to a ramp from 50 Hz at 0.125 Hz/s to
the reference frequency (49.5 Hz on the mainland), at 1 Hz/s for the very fast services. The fast raise quantity is
the least of twice the mean of 1-6 s, twice the mean of 6-60 s and the peak, from the frequency disturbance time. The
windows of the other services, and that this time is when the frequency leaves 49.85-50.15 Hz, are from memory:
parameters, not claims.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from droop.products import Product
from settlement.prequalification.options import Options
from settlement.prequalification.plan import Part, Plan, PrequalificationError, hold, moved
from settlement.prequalification.recording import Played, Trace, shown
from settlement.prequalification.rows import Row, Rule

SOURCE: Final = "AEMO, Market ancillary service specification, 6.3"
BAND_HZ: Final = 0.15
REFERENCE_HZ: Final = 0.5
LEAD_S: Final = 10.0
FAST_HZ: Final = 20.0
DELAYED_HZ: Final = 1.0


class Service(NamedTuple):
    """Windows (factor, from s, to s) whose means bound the quantity, and whether the peak does as well.

    ramp_hz_s : of the standard ramp;  length_s : from the start of the ramp to its end
    """

    windows: tuple[tuple[float, float, float], ...]
    peak: bool
    ramp_hz_s: float
    length_s: float
    rate_hz: float
    mark: str


SERVICES: Final = {
    1: Service(((2.0, 0.0, 1.0), (2.0, 1.0, 6.0)), False, 1.0, 65.0, FAST_HZ, "M"),
    6: Service(((2.0, 1.0, 6.0), (2.0, 6.0, 60.0)), True, 0.125, 65.0, FAST_HZ, "V2"),
    60: Service(((2.0, 6.0, 60.0), (2.0, 60.0, 300.0)), False, 0.125, 310.0, DELAYED_HZ, "M"),
    5: Service(((2.0, 60.0, 300.0), (1.0, 300.0, 600.0)), False, 0.125, 610.0, DELAYED_HZ, "M"),
}


def service_of(product: Product) -> Service:
    """The service a product is, by the number at the end of its id or `prequalification.service`."""
    told = str(product.prequalification.get("service", product.id.rsplit("_", 1)[-1]))
    digits = "".join(c for c in told if c.isdigit())
    if not digits or int(digits) not in SERVICES:
        raise PrequalificationError(
            f"{product.id}: field `prequalification.service` takes R1, R6, R60 or R5 (L for lower), not {told!r}"
        )
    return SERVICES[int(digits)]


def plan(product: Product, options: Options) -> Plan:
    """The standard frequency ramp of the product's service, and back."""
    del options
    service, f0 = service_of(product), product.nominal_hz
    reached = f0 + (-REFERENCE_HZ if product.direction == "up" else REFERENCE_HZ)
    away = moved(f0, reached, service.ramp_hz_s)
    pieces = (hold(f0, LEAD_S), away, hold(reached, service.length_s - away.length_s), hold(f0, 60.0))
    at = {"ramp": LEAD_S, "leaves": LEAD_S + BAND_HZ / service.ramp_hz_s}
    part = Part("ramp", "standard frequency ramp", pieces, at)
    title = "contingency FCAS: standard frequency ramp"
    return Plan(("nem_ramp",), title, service.rate_hz, (part,), service.mark, SOURCE)


def quantity(service: Service, p: Trace, origin_s: float) -> tuple[float, list[float]]:
    """What a recorded response counts as, in its own unit, and the figures it is the least of.

    p : delivered power, positive in the service's direction;  origin_s : from which the windows count
    """
    found = [
        factor * p.integral(origin_s + start_s, origin_s + end_s) / (end_s - start_s)
        for factor, start_s, end_s in service.windows
    ]
    if service.peak:
        found.append(p.most(origin_s, origin_s + service.windows[-1][2]))
    return min(found), found


def verdict(product: Product, played: Played, sold_kw: float, options: Options) -> list[Row]:
    """The quantity against what is sold."""
    del options
    service = service_of(product)
    rule = Rule("quantity", "least of the service's windows", "of the power sold", service.mark, SOURCE)
    rows = []
    for part, cut in played:
        p = shown(cut, sold_kw if product.direction == "up" else -sold_kw)
        if not p.t_s.size:
            rows.append(rule.at_least(part.name, float("nan"), 1.0))
            continue
        still = Trace(p.t_s, p.y - p.mean(0.0, part.at["ramp"]))
        least, found = quantity(service, still, part.at["leaves"])
        note = f"windows count from {50 - BAND_HZ:g} Hz on: " + ", ".join(f"{value:.3f}" for value in found)
        rows.append(rule.at_least(part.name, least, 1.0, note))
    return rows

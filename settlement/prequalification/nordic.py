"""Nordic FCR: what its tests share, and the plans of steps, ramps and sines.

Nordic TSOs, Technical Requirements for FCR Provision, and Test Program for Prequalification of FCR, both of 28 March
2025. A test of a downward product is the mirror image of the upward one about 50 Hz: here both are written upwards and
turned round on the way out, and what was recorded is turned round on the way in.
"""

from __future__ import annotations

from typing import Final

from droop.products import Product
from settlement.prequalification.figures import Figures
from settlement.prequalification.options import Options
from settlement.prequalification.plan import Part, Piece, Plan, hold, moved, sine, until
from settlement.prequalification.recording import Recording, Trace, shown

REQUIREMENTS: Final = "Nordic TSOs, Technical requirements for FCR, 28 March 2025"
PROGRAM: Final = "Nordic TSOs, Test program for prequalification of FCR, 28 March 2025"
RATE_N_HZ: Final = 5.0
RATE_D_HZ: Final = 10.0
ENDURANCE_S: Final = 900.0
JUDGED_S: Final = 7.5
PERIODS_S: Final = (10.0, 15.0, 25.0, 40.0, 50.0, 60.0, 70.0)
PERIODS_N_S: Final = (*PERIODS_S, 90.0, 150.0, 300.0)
AMPLITUDE_HZ: Final = 0.1
SETTLING: Final = 2  # periods before those that count
CENTER_HZ: Final = {"symmetric": 50.0, "up": 49.7, "down": 49.7}
WIDTH_HZ: Final = {"symmetric": 0.1, "up": 0.4, "down": 0.4}


def stationary(period_s: float) -> int:
    """Periods that count: 5, of the slowest 3 and 2."""
    return {150.0: 3, 300.0: 2}.get(period_s, 5)


def mirrored(product: Product, parts: list[Part]) -> tuple[Part, ...]:
    """The parts as injected: of a downward product turned round about nominal."""
    if product.direction != "down":
        return tuple(parts)
    twice = 2.0 * product.nominal_hz
    return tuple(
        Part(
            part.name, part.title,
            tuple(Piece(p.length_s, twice - p.first, twice - p.last, -p.amplitude, p.period_s) for p in part.pieces),
            part.at, part.level, part.measured,
        )
        for part in parts
    )  # fmt: skip


def upwards(product: Product, recording: Recording, sold_kw: float) -> Trace:
    """Delivered power in units of what is sold, positive in the product's own direction."""
    return shown(recording, -sold_kw if product.direction == "down" else sold_kw)


def fcr_n(product: Product, options: Options) -> Plan:
    """FCR-N: the sequence of steps."""
    del product
    hold_s = options.hold(ENDURANCE_S)
    pieces = [hold(50.0, 30.0), hold(49.95, 30.0), hold(50.0, 300.0)]
    pieces += [hold(49.9, hold_s), hold(50.1, hold_s), hold(50.0, 300.0)]
    at = {"low": 360.0, "high": 360.0 + hold_s, "end": 360.0 + 2 * hold_s, "done": 660.0 + 2 * hold_s}
    step = Part("steps", "50.00, 49.95, 49.90, 50.10 Hz", tuple(pieces), at, {}, "Req. 1, endurance")
    return Plan(("nordic_fcr_n_steps",), "FCR-N, Nordic: steps", RATE_N_HZ, (step,), "V", PROGRAM)


def fcr_d(product: Product, options: Options) -> Plan:
    """FCR-D, dynamic: ramps 1 to 6, and 1 to 8 where FCR-N is provided as well (`prequalification.combined`)."""
    combined = bool(product.prequalification.get("combined", False))
    parts = mirrored(product, [_ramps(options.hold(ENDURANCE_S), combined)])
    return Plan(("nordic_fcr_d_ramps",), "FCR-D, Nordic: ramps", RATE_D_HZ, parts, "V", PROGRAM)


def _ramps(hold_s: float, combined: bool) -> Part:
    """Ramps 1 to 6; 7 and 8 go on at the rate and with the holds of 3 and 4, which is our reading."""
    third_s = 90.0
    fourth_s, fifth_s = third_s + hold_s, third_s + hold_s + 300.0
    sixth_s = fifth_s + 60.0
    pieces = [hold(49.9, 30.0), moved(49.9, 49.45, 0.14)]
    pieces += [until(pieces, 49.45, 34.9), moved(49.45, 49.9, 0.09)]
    pieces += [until(pieces, 49.9, third_s), moved(49.9, 49.5, 0.24)]
    pieces += [until(pieces, 49.5, fourth_s), moved(49.5, 49.9, 0.24)]
    pieces += [until(pieces, 49.9, fifth_s), moved(49.9, 49.0, 0.24)]
    pieces += [until(pieces, 49.0, sixth_s), moved(49.0, 50.0, 0.24)]
    at = {"1": 30.0, "2": 34.9, "3": third_s, "4": fourth_s, "5": fifth_s, "6": sixth_s}
    end_s = sixth_s + 60.0
    if combined:
        at |= {"7": end_s, "8": end_s + 300.0}
        pieces += [until(pieces, 50.0, end_s), moved(50.0, 49.7, 0.24)]
        pieces += [until(pieces, 49.7, end_s + 300.0), moved(49.7, 49.89, 0.24)]
        pieces += [until(pieces, 49.89, end_s + 600.0)]
    else:
        pieces.append(until(pieces, 50.0, end_s))
    at["done"] = sum(piece.length_s for piece in pieces)
    return Part("ramps", "ramps 1 to 8" if combined else "ramps 1 to 6", tuple(pieces), at, {}, "Req. 1 to 4")


def sines(product: Product, options: Options) -> Plan:
    """One part a period: 100 mHz about the middle of the product's band."""
    del options
    center, parts = CENTER_HZ[product.direction], []
    symmetric = product.direction == "symmetric"
    for period_s in Figures(product).numbers("sine_periods_s", PERIODS_N_S if symmetric else PERIODS_S):
        lead_s, count = 60.0, stationary(period_s)
        swing = sine(center, AMPLITUDE_HZ, period_s, SETTLING + count)
        at = {"from": lead_s + SETTLING * period_s, "to": lead_s + (SETTLING + count) * period_s, "period": period_s}
        pieces = (hold(center, lead_s), swing, hold(center, 10.0))
        parts.append(Part(f"sine {period_s:g} s", f"100 mHz, {count} periods", pieces, at, {}, "Req. 8 to 10"))
    rate_hz = RATE_N_HZ if symmetric else RATE_D_HZ
    return Plan(("nordic_sines",), "FCR, Nordic: sines", rate_hz, mirrored(product, parts), "V", PROGRAM)

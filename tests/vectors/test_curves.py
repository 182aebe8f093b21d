"""The rule book's vectors of static curves (section 12), each with its mark and where it comes from.

`product` at `hz` owes `expected` of the power sold, positive into the grid, within `tolerance`. The mark says how sure
the figure is: V read in the primary document, V2 in a secondary one, D derived or computed, M from memory.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from droop.curve import fractions
from droop.dynamics import OLRT_TO_TAU, advance, at_rest, terms
from droop.products import load


class Vector(NamedTuple):
    id: str
    product: str
    hz: float
    expected: float
    tolerance: float
    mark: str
    origin: str


DC, DM, DR = "NESO Response Service Terms, Table 1", "NESO Response Service Terms, Table 1", "the same, one slope"
VECTORS = [
    Vector("FCR-1", "ce_fcr", 49.95, 0.25, 1e-9, "V", "SO GL Annex V: 200 mHz"),
    Vector("FCR-1", "ce_fcr_nl", 49.95, 0.25, 1e-9, "V", "SO GL Annex V: 200 mHz"),
    Vector("FCR-1", "ce_fcr_de", 49.95, 0.25, 1e-9, "V", "SO GL Annex V: 200 mHz"),
    # 0 and +0.04 are both admissible inside 10 mHz; ours is 0.
    Vector("FCR-2", "ce_fcr", 49.992, 0.0, 0.0, "V", "TenneT NL 6.1.3"),
    Vector("FCR-3", "ce_fcr", 50.30, -1.0, 0.0, "V", "SO GL Annex V"),
    Vector("FCR-4", "ce_fcr", 49.90, 0.5, 1e-9, "V", "10 MW of 20 MW"),
    Vector("N-1", "nordic_fcr_n", 49.95, 0.5, 1e-9, "V", "Technical requirements, FCR-N"),
    Vector("N-1", "nordic_fcr_n", 50.10, -1.0, 1e-9, "V", "Technical requirements, FCR-N"),
    Vector("N-1", "nordic_fcr_n", 49.80, 1.0, 0.0, "V", "Technical requirements, FCR-N"),
    Vector("D-1", "nordic_fcr_d_up", 49.70, 0.5, 1e-9, "V", "Technical requirements, FCR-D"),
    Vector("D-1", "nordic_fcr_d_up", 49.90, 0.0, 1e-9, "V", "Technical requirements, FCR-D"),
    Vector("D-1", "nordic_fcr_d_up", 49.45, 1.0, 0.0, "V", "clamped; 1.125 if it were not"),
    Vector("DC-1", "gb_dc_low", 49.70, 0.05 + 0.95 * 0.1 / 0.3, 1e-9, "V2", DC),
    Vector("DC-2", "gb_dc_low", 49.90, 0.022973, 5e-7, "V2", "the published script"),
    Vector("DC-2", "gb_dc_low", 49.80, 0.05, 1e-9, "V2", "the published script"),
    Vector("DC-2", "gb_dc_low", 49.60, 0.683333, 5e-7, "V2", "the published script"),
    Vector("DC-2", "gb_dc_low", 49.985, 0.0, 1e-9, "V2", "the published script"),
    *(
        Vector("DC-3", "gb_dc_low", 50.0 - d, y, 1e-9, "V2", DC)
        for d, y in ((0.1075, 0.025), (0.2, 0.05), (0.35, 0.525), (0.5, 1.0), (0.8, 1.0))
    ),
    *(
        Vector("DC-3", "gb_dc_high", 50.0 + d, -y, 1e-9, "V2", DC)
        for d, y in ((0.1075, 0.025), (0.2, 0.05), (0.35, 0.525), (0.5, 1.0), (0.8, 1.0))
    ),
    *(
        Vector("DM-1", f"gb_dm_{side}", 50.0 - sign * d, sign * y, 1e-9, "V2", DM)
        for side, sign in (("low", 1.0), ("high", -1.0))
        for d, y in ((0.1, 0.05), (0.15, 0.525), (0.2, 1.0), (0.3, 1.0))
    ),
    *(
        Vector("DR-1", f"gb_dr_{side}", 50.0 - sign * d, sign * y, 1e-9, "V2", DR)
        for side, sign in (("low", 1.0), ("high", -1.0))
        for d, y in ((0.1075, 0.5), (0.2, 1.0), (0.25, 1.0))
    ),
    Vector("1547-1", "ieee1547", 59.9, 0.021333, 5e-7, "V", "IEEE 1547-2018 6.5.2.7, defaults"),
    Vector("1547-1", "ieee1547", 59.5, 0.154667, 5e-7, "V", "IEEE 1547-2018 6.5.2.7, defaults"),
    Vector("1547-1", "ieee1547", 61.0, -0.321333, 5e-7, "V", "IEEE 1547-2018 6.5.2.7, defaults"),
    Vector("1547-1", "ieee1547", 60.036, 0.0, 1e-9, "V", "IEEE 1547-2018 6.5.2.7, defaults"),
    Vector("1547-3", "ieee1547", 59.5, 0.154667, 5e-7, "D", "35.467 kW on 100 kW from 20 kW, steady"),
    Vector("LFSM-1", "lfsm_o", 50.7, -0.2, 1e-9, "V", "TenneT NL 3.1.4: 50.2 Hz, 5 %"),
    Vector("LFSM-1", "en50549", 50.7, -0.2, 1e-9, "M", "the same as a default"),
]


def share(product: str, hz: float) -> float:
    found = load(product)
    return float(fractions(found.response, [hz - found.nominal_hz])[0])


@pytest.mark.parametrize("vector", VECTORS, ids=[f"{v.id}-{v.product}-{v.hz:g}" for v in VECTORS])
def test_curve(vector):
    assert abs(share(vector.product, vector.hz) - vector.expected) <= vector.tolerance


def test_nd_1_stacked_products_add():
    """ND-1 [V]: 1 MW of FCR-N and 2 MW of FCR-D up at 49.70 Hz owe 2 MW."""
    assert 1.0 * share("nordic_fcr_n", 49.7) + 2.0 * share("nordic_fcr_d_up", 49.7) == pytest.approx(2.0, abs=1e-9)


@pytest.mark.parametrize(
    ("product", "mwh"), [("gb_dr_low", 0.5), ("gb_dm_low", 0.5), ("gb_dc_low", 0.025)], ids=["DR", "DM", "DC"]
)
def test_e_1_energy_of_half_an_hour_at_49_8_hz(product, mwh):
    """E-1 [V2]: per MW sold, summed over seconds."""
    found = load(product)
    power = fractions(found.response, np.full(1800, 49.8 - 50.0))
    assert power.sum() / 3600.0 == pytest.approx(mwh, abs=1e-9)


@pytest.mark.parametrize(("after_s", "expected"), [(1.0, 0.36904), (2.0, 0.60189), (5.0, 0.90000)])
def test_1547_2_step_response(after_s, expected):
    """1547-2 [D]: the share of a step that is there after so long, open-loop response time 5 s."""
    found = load("ieee1547")
    table, motion = terms([(found, 1.0)]), at_rest(1)
    assert table.tau_s[0] == found.olrt_s * OLRT_TO_TAU
    now_ns = 0
    for _ in range(round(after_s / 0.1)):
        now_ns += 100_000_000
        given = advance(motion, table, 0, now_ns, 0.1, 1.0)
    assert given == pytest.approx(expected, abs=5e-6)

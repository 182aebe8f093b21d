"""The power a product owed the grid, recomputed from recorded frequency through the engine's own curve.

This file knows products and frequency samples: no meter, no fleet. The fraction is taken sample by sample and then
averaged, because the curve is not linear; an unusable sample asks for nothing and covers nothing, as in the engine.
"""

from __future__ import annotations

import numpy as np

from droop import curve
from droop.products import Product
from settlement import align, managed
from settlement.align import Cells, Grid
from settlement.facts import Modes, Samples


def hold_ns(product: Product, samples: Samples) -> int:
    """How long a frequency may be held: the product's allowed time or three source periods, the larger."""
    return align.hold_limit_ns(samples.t_ns[samples.usable], product.hold_s)


def power_kw(product: Product, sold_kw: float, samples: Samples, grid: Grid, modes: Modes | None = None) -> Cells:
    """Expected response on the grid [kW], sold power x fraction; positive into the grid.

    modes : what the product's energy rules had turned on, as recorded
    """
    dev_hz = samples.hz - product.nominal_hz
    static = curve.fractions(product.response, dev_hz)
    asked_kw = sold_kw * managed.fractions(product, samples.t_ns, dev_hz, static, modes)
    # NaN asks for nothing and would count as a covered zero: keep it unknown.
    asked_kw = np.where(np.isnan(samples.hz), np.nan, asked_kw)
    return align.of_samples(samples.t_ns, asked_kw, grid, hold_ns(product, samples), samples.usable)


def deviation_hz(product: Product, samples: Samples, grid: Grid) -> Cells:
    """Mean frequency deviation on the grid [Hz]."""
    dev_hz = samples.hz - product.nominal_hz
    return align.of_samples(samples.t_ns, dev_hz, grid, hold_ns(product, samples), samples.usable)

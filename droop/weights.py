"""How willing a vehicle is to leave its plan, as a slope in each direction.

A slope is the room to the bound times a factor g of 0.1..10. With g = 1 everywhere all vehicles saturate
together; g leans on vehicles that hold more of their window than the fleet's mean when power goes out, and
on those that hold less when it comes in, so that states of charge draw together (consensus in energy, not in
percent of unlike batteries). g(-d) = 1/g(d): leaning up and down is the same law.
"""

from __future__ import annotations

from typing import Final

from droop.numerics import kernel

GAIN: Final = 2.0
# (1 + x) / (1 - x) is 10 at 9/11: the factor's bound, and with it the multiplier's bracket in `split`.
EDGE: Final = 9.0 / 11.0
# Keeps a slope above zero where there is no room, so that nothing divides by it.
LEAST: Final = 1e-6


@kernel
def lean(fill_frac: float, mean_frac: float) -> tuple[float, float]:
    """g and 1/g for a vehicle whose window is filled to `fill_frac` when the fleet's stands at `mean_frac`."""
    x = min(max(GAIN * (fill_frac - mean_frac), -EDGE), EDGE)
    # One division for both.
    share = 1.0 / ((1.0 + x) * (1.0 - x))
    return (1.0 + x) * (1.0 + x) * share, (1.0 - x) * (1.0 - x) * share

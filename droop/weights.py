"""How willing a vehicle is to leave its plan, as a factor on the room in each direction.

A slope is the room to the bound times a factor of 0.1..10; with 1 everywhere all vehicles saturate together.
Four things move it:

- consensus: vehicles that hold more of their window than the fleet's mean lean towards giving, those that hold
  less towards taking, by energy and not by percent of unlike batteries; leaning up and down is the same law;
- fairness: vehicles that moved more of their capacity today than the fleet's mean take a smaller share;
- presence: vehicles that leave within the hour take a smaller share, for what they give cannot be made good;
- wear: a battery whose kilowatt-hour costs twice as much moves half as far.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from droop.numerics import kernel

GAIN: Final = 2.0
# (1 + x) / (1 - x) is 10 at 9/11: the factor's bound, and with it the multiplier's bracket in `split`.
EDGE: Final = 9.0 / 11.0
MOST: Final = 10.0
# Keeps a slope above zero where there is no room, so that nothing divides by it.
LEAST: Final = 1e-6

# A vehicle far ahead of the mean takes half its share, one far behind one and a half.
FAIRNESS: Final = 0.5
# Cycles below which a day is too young to tell who moved more.
YOUNG_FRAC: Final = 0.02
# Shorter stays count less, down to this share.
PRESENCE_H: Final = 1.0
PRESENCE_LEAST: Final = 0.25


class Means(NamedTuple):
    """What the fleet's mean vehicle looks like."""

    fill_frac: float = 0.5  # of the window that is filled
    moved_frac: float = 0.0  # of the capacity, moved today


@kernel
def lean(fill_frac: float, mean_frac: float) -> tuple[float, float]:
    """g and 1/g for a vehicle whose window is filled to `fill_frac` when the fleet's stands at `mean_frac`."""
    x = min(max(GAIN * (fill_frac - mean_frac), -EDGE), EDGE)
    # One division for both.
    share = 1.0 / ((1.0 + x) * (1.0 - x))
    return (1.0 + x) * (1.0 + x) * share, (1.0 - x) * (1.0 - x) * share


@kernel
def share(moved_frac: float, mean_frac: float, depart_in_h: float, wear: float) -> float:
    """Fairness, presence and wear as one factor, for both directions alike.

    moved_frac, mean_frac : of the capacity, moved today, by this vehicle and in the fleet's mean
    depart_in_h           : hours to the departure; infinite when unknown
    wear                  : relative cost of moving energy, above 0
    """
    fair = 1.0 + FAIRNESS * (mean_frac - moved_frac) / (mean_frac + moved_frac + YOUNG_FRAC)
    present = min(max(depart_in_h / PRESENCE_H, PRESENCE_LEAST), 1.0)
    return fair * present / wear


@kernel
def factors(fill_frac: float, own: float, mean_fill_frac: float) -> tuple[float, float]:
    """The factors up and down, each within 0.1..10. own : see `share`"""
    up, down = lean(fill_frac, mean_fill_frac)
    return min(max(up * own, 1.0 / MOST), MOST), min(max(down * own, 1.0 / MOST), MOST)

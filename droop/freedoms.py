"""What a provider may do of its own accord to steer its state of charge, where its market lets it.

Degrees of freedom of the German FCR: to give up to a fifth more than is required where that helps, to answer inside
the dead band or not, and to follow any admissible trajectory. TenneT NL forbids the first (manual 3.2.5): a product
states what it allows (`promises.Freedoms`), and one that states nothing allows nothing. Used in proportion to how far
the fleet is from the middle of its window, so that nothing jumps when it crosses it.
"""

from __future__ import annotations

from typing import Final

from droop.numerics import strict

# Distance from the middle of the window, as a share of it, from which the freedoms are used in full.
FULL_FRAC: Final = 0.05


@strict
def leaning(up_kwh: float, down_kwh: float) -> float:
    """Which way energy should go, and how much so: 1 out of a fleet that is too full, -1 into one that is too empty."""
    window = up_kwh + down_kwh
    if not window > 0.0:
        return 0.0
    return min(max((up_kwh / window - 0.5) / FULL_FRAC, -1.0), 1.0)


@strict
def overfulfilled(fraction: float, lean: float, most: float) -> float:
    """The required share, more of it where that helps: never against `lean`, never beyond `most` times what is due."""
    return fraction * (1.0 + (most - 1.0) * abs(lean)) if fraction * lean > 0.0 else fraction


@strict
def within_deadband(proportional: float, lean: float) -> float:
    """Inside the dead band: the proportional response where it helps, nothing where it does not."""
    return proportional * abs(lean) if proportional * lean > 0.0 else 0.0


@strict
def paced(target: float, given: float, lean: float, elapsed_s: float, full_s: float) -> float:
    """The trajectory chosen: at once where the change helps, else no faster than full activation within `full_s`.

    The slower way is a ramp from the first moment on, above the slowest one admissible (half after half the time).
    """
    change = target - given
    if not change * lean < 0.0 or not full_s > 0.0:
        return target
    # The less the fleet needs it, the faster it follows; at full need it takes the time that is allowed.
    step = elapsed_s / (full_s * abs(lean))
    return given + min(max(change, -step), step)

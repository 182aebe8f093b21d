"""Energy management of limited reservoirs in the Nordic area: in normal operation (NEM) and at the edge (AEM).

NEM adds a slow power that brings the reservoir back, up to a share of the capacity sold, only while the frequency is
within its standard range, and faded by a mean over five minutes. AEM moves the reference that the deviation is counted
from towards the mean of the frequency, so that the response no longer drains the reservoir. Both begin at a threshold
and end at another (Technical requirements for FCR in the Nordic synchronous area, LER; figures in the product's
`reservoir`). Energies are counted as hours of full activation that are left.

One second at a time: what is asked within it is `answered`, a function of the last second's outcome alone.
"""

from __future__ import annotations

from droop.numerics import strict


@strict
def switched(on: int, up_h: float, down_h: float, on_h: float, off_h: float, lower: bool, upper: bool) -> int:
    """Which threshold holds from now on: -1 the lower one (short of energy up), 1 the upper one, 0 neither.

    on           : what held until now
    up_h, down_h : energy left each way, as hours of full activation
    on_h, off_h  : below the first it begins, from the second on it ends
    lower, upper : thresholds that the product has: upwards the lower, downwards the upper
    """
    short_up = lower and up_h < (off_h if on < 0 else on_h)
    short_down = upper and down_h < (off_h if on > 0 else on_h)
    if short_up and short_down:
        # Too small a reservoir for what is sold: whatever way it went, it would be wrong.
        return -1 if up_h < down_h else (1 if down_h < up_h else 0)
    return -1 if short_up else (1 if short_down else 0)


@strict
def allowed(side: int, dev_hz: float, standard_hz: float) -> float:
    """Sign of the power that NEM may use now: -1 charging, 1 discharging, 0 outside the standard range or unknown."""
    return float(side) if abs(dev_hz) < standard_hz else 0.0


@strict
def saturated_hz(dev_hz: float, low_hz: float, high_hz: float) -> float:
    """The deviation as the controller takes it in, within what the product answers [Hz]."""
    return min(max(dev_hz, low_hz), high_hz)


@strict
def answered(
    target: float, dev_hz: float, low_hz: float, high_hz: float, zero_hz: float, slope: float, reference_hz: float,
    nem_pu: float, floor_pu: float, ceiling_pu: float,
) -> float:  # fmt: skip
    """The share of the power sold that is asked, NEM included.

    target            : what the curve alone asks
    dev_hz            : frequency minus nominal; NaN asks for nothing
    low_hz, high_hz   : what the controller saturates at
    zero_hz, slope    : the curve as a line: where it is 0, and the share per Hz, negative
    reference_hz      : what the deviation is counted from; `zero_hz` while AEM is off
    nem_pu            : NEM's power, a share of that sold
    floor_pu, ceiling_pu : least and most that is asked
    """
    if dev_hz != dev_hz or (reference_hz == zero_hz and nem_pu == 0.0):
        return target
    line = target
    if reference_hz != zero_hz:
        line = slope * (saturated_hz(dev_hz, low_hz, high_hz) - reference_hz)
    return min(max(line + nem_pu, floor_pu), ceiling_pu)

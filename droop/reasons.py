"""Why a vehicle, or the fleet, could not give more: the codes behind every limit and every shortfall."""

from __future__ import annotations

from enum import IntEnum


class Reason(IntEnum):
    """What binds a vehicle's bound in one direction. The order is the wire and journal code: append only."""

    NONE = 0
    RATING = 1  # the charger's or vehicle's rated power
    SOC = 2  # SoC window
    SOH = 3  # SoC window, and it would not bind at the battery's nominal capacity
    DOD = 4  # depth of discharge allowed since plug-in
    DEPARTURE = 5  # energy the driver wants aboard at departure
    STALE = 6  # the vehicle's report is too old: no capacity
    UNPLUGGED = 7
    FAULT = 8
    REFUSED = 9  # the charger acknowledges commands and does not follow them
    HELD = 10  # the vehicle's report is ageing: capability shrinks


COUNT = 16
"""Width of arrays indexed by reason: room for codes to come."""


def name(code: int) -> str:
    """Lower-case name of a code, as it appears in JSON."""
    return Reason(code).name.lower()

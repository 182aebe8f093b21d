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
    TEMPERATURE = 11  # too cold, too hot, or too far above its site's mean
    TAPER = 12  # the rating falls near an edge of the state of charge
    THROUGHPUT = 13  # the day's throughput is used up
    OVERRIDE = 14  # the owner's wish
    RAMP = 15  # the charger cannot change faster
    MINIMUM = 16  # less than the charger's least power
    SITE = 17  # a cap of the site, feeder or transformer
    RESPONSE = 18  # the charger gives less than it is told
    FREQUENCY_OUT_OF_BOUNDS = 19  # the fleet has left the grid at a trip limit, or is still entering service


COUNT = 24
"""Width of arrays indexed by reason: room for codes to come."""

WORDS = {
    Reason.NONE: "no limit",
    Reason.RATING: "rated power",
    Reason.SOC: "SoC window",
    Reason.SOH: "SoC window of an aged battery",
    Reason.DOD: "depth of discharge",
    Reason.DEPARTURE: "energy for the departure",
    Reason.STALE: "report too old",
    Reason.UNPLUGGED: "no vehicle",
    Reason.FAULT: "charger at fault",
    Reason.REFUSED: "charger does not follow",
    Reason.HELD: "report ageing",
    Reason.TEMPERATURE: "battery temperature",
    Reason.TAPER: "taper near the end of the SoC range",
    Reason.THROUGHPUT: "the day's throughput",
    Reason.OVERRIDE: "the owner's wish",
    Reason.RAMP: "ramp of the charger",
    Reason.MINIMUM: "least power of the charger",
    Reason.SITE: "cap of the site",
    Reason.RESPONSE: "charger gives less than told",
    Reason.FREQUENCY_OUT_OF_BOUNDS: "frequency beyond the trip limits",
}
"""Each reason as people say it."""


def name(code: int) -> str:
    """Lower-case name of a code, as it appears in JSON."""
    return Reason(code).name.lower()

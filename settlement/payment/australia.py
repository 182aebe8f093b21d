"""Australia's NEM: enablement of frequency control ancillary services, and the frequency performance payment.

Enablement [V2]: price x enabled MW x 5/60 each dispatch interval (rulebook 6); a price row of five minutes does the
rest. Frequency performance payments began on 2025-06-08 [V]; the formula here is from memory [M].
"""

from __future__ import annotations

from settlement.payment.lines import Line, Number, at_least_0, exact, line, mwh, share

AUD = "AUD"


def nem(kw: Number, hours: Number, price: Number, available: Number = 1, *, note: str = "") -> tuple[Line, ...]:
    """Power enabled; vector S-2. What was enabled and not available is not paid."""
    factor = share(available, "available")
    return (line("enablement", mwh(kw, hours), "MWh", price, factor, AUD, "V2", note if factor < 1 else ""),)


def fpp(contribution: Number, required_mw: Number, hours: Number, price: Number) -> tuple[Line, ...]:
    """Contribution factor x requirement for corrective response x regulation price; vector S-4e [M].

    contribution : negative where the unit moved with the deviation: it is charged
    """
    quantity = at_least_0(required_mw, "required_mw") * at_least_0(hours, "hours")
    return (line("frequency performance", quantity, "MWh", price, exact(contribution, "contribution"), AUD, "M"),)

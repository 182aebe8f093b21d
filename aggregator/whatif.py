"""What if: a product with another dead band or droop, chargers with another dead time or ramp.

A changed product is none of its market's. It keeps its id, so that prices and contracts still find it, and its rule,
which then judges it by the changed curve; its title and notes say what was changed, and so does every result.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Final

from aggregator.contracts import CoreSettings
from aggregator.gateways.population import Behaviour
from droop.products import Product, ProductError, parse, to_table

CHANGED: Final = "changed: "


class WhatIfError(ValueError):
    """A change that cannot be made; the message names the option and the remedy."""


def sold(settings: CoreSettings, deadband_hz: float | None, full_hz: float | None) -> CoreSettings:
    """The settings with every product on the frequency changed. Raises WhatIfError."""
    if deadband_hz is None and full_hz is None:
        return settings
    contracts = tuple(replace(item, product=changed(item.product, deadband_hz, full_hz)) for item in settings.contracts)
    return replace(settings, contracts=contracts)


def changed(product: Product, deadband_hz: float | None, full_hz: float | None) -> Product:
    """The product with another half width of its dead band, or full activation at another deviation [Hz].

    The response between the dead band's edge and full activation is stretched; a dead band that is part of the curve
    (`offset`) moves with its edge, the others are a width alone.
    """
    if product.input != "frequency" or product.trigger is not None:
        raise WhatIfError(f"--deadband-hz, --full-hz: {product.id} has no droop; choose a product with a curve")
    before_full = max(abs(x) for x in product.curve_hz)
    full = before_full if full_hz is None else full_hz
    band = product.deadband_hz if deadband_hz is None else deadband_hz
    if not 0.0 <= band < math.inf:
        raise WhatIfError(f"--deadband-hz {band:g}: give a number of 0 or more")
    if not band < full < math.inf:
        raise WhatIfError(f"--full-hz {full:g}: full activation lies beyond the dead band of {band:g} Hz; give more")
    offset = product.deadband_kind == "offset"
    inner = (product.deadband_hz, band) if offset else (0.0, 0.0)
    points = _stretched(product, inner, (before_full, full))
    kind = "none" if band == 0.0 else ("offset" if offset else "step")
    told = [
        f"{name} {before:g} -> {after:g}"
        for name, before, after in (("deadband_hz", product.deadband_hz, band), ("full_hz", before_full, full))
        if before != after
    ]
    if not told:
        return product
    change = {
        "curve": points, "deadband_hz": band, "deadband_kind": kind, "title": f"{product.title} (changed)",
        "notes": [*product.notes, *(CHANGED + text for text in told)],
    }  # fmt: skip
    try:
        return parse(to_table(product) | change, f"{product.id}, changed")
    except ProductError as error:
        raise WhatIfError(f"--deadband-hz, --full-hz: {error}") from error


def _stretched(
    product: Product, inner: tuple[float, float], outer: tuple[float, float]
) -> list[list[float]]:  # fmt: skip
    """The curve's points with the inner and the outer deviation moved from the first to the second of each pair."""
    (near, near_now), (far, far_now) = inner, outer

    def moved(x: float) -> float:
        size = abs(x)
        if size < near:
            return x * (near_now / near)
        # At an edge the product of the quotient would miss the new edge by a last digit, and a curve that begins
        # within its dead band is refused: here it is exact.
        if size == far:
            return math.copysign(far_now, x)
        return math.copysign(near_now + (size - near) * ((far_now - near_now) / (far - near)), x)

    points: dict[float, float] = {}
    for x, y in zip(product.curve_hz, product.curve_frac, strict=True):
        points.setdefault(moved(x), y)  # edges of a dead band that is gone fall onto one another
    return [[x, y] for x, y in sorted(points.items())]


def chargers(behaviour: Behaviour, dead_s: float | None, ramp_kw_s: float | None) -> Behaviour:
    """All chargers with one dead time and one ramp. Raises WhatIfError."""
    if dead_s is not None:
        if not 0.0 <= dead_s < math.inf:
            raise WhatIfError(f"--dead-s {dead_s:g}: give a number of seconds, 0 or more")
        behaviour = replace(behaviour, dead_s=(dead_s, dead_s))
    if ramp_kw_s is not None:
        if not ramp_kw_s > 0.0:
            raise WhatIfError(f"--ramp-kw-s {ramp_kw_s:g}: give a rate above 0")
        behaviour = replace(behaviour, ramp_kw_s=(ramp_kw_s, ramp_kw_s))
    return behaviour


def told(product: Product) -> dict[str, Any]:
    """`changed`, where anything was: for results."""
    found = [note.removeprefix(CHANGED) for note in product.notes if note.startswith(CHANGED)]
    return {"changed": found} if found else {}

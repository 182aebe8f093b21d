"""Which trip limits a fleet is run with, from the configuration and what is sold.

Safe by default: unless the configuration says otherwise, the limits of the first product that brings its own, else
those usual where it is sold (`droop.protection.default`). Only `protection.use = "none"` switches them off.
"""

from __future__ import annotations

from collections.abc import Sequence

from aggregator.config import ConfigError, ProtectionTable
from aggregator.contracts import Contract
from droop.products import load
from droop.promises import Protection
from droop.protection import default
from droop.tables import TableError, record


def protection_of(table: ProtectionTable, contracts: Sequence[Contract]) -> Protection | None:
    """The protection to run with; None for none. Raises ConfigError, ProductError."""
    own = table.model_dump(exclude_none=True, exclude={"use"})
    if own:
        try:
            return record(Protection, own, "protection.")
        except TableError as error:
            raise ConfigError(str(error)) from error
    if table.use == "none":
        return None
    if table.use == "auto":
        brought = next((c.product.protection for c in contracts if c.product.protection is not None), None)
        return brought or default(contracts[0].product.nominal_hz, contracts[0].product.area)
    product = load(table.use)
    if product.protection is None:
        raise ConfigError(f"`protection.use`: product {table.use!r} brings no trip limits; name another, or `none`")
    if product.nominal_hz != contracts[0].product.nominal_hz:
        raise ConfigError(f"`protection.use`: {table.use!r} is for {product.nominal_hz:g} Hz, what is sold is not")
    return product.protection

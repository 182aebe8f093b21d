"""Measurements: their packed form, their sources, their quality, and the streams that carry them.

Nothing here knows a product, a vehicle's limits or a score. Positive power is into the grid; units are in
the names; every event carries two stamps, `t_ns` (when it was true, by the source's clock) and `rx_ns`
(when we learnt it), both int64 nanoseconds since 1970 UTC.
"""

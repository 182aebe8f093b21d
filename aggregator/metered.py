"""What the meter of a simulated fleet read, as settlement takes it: the mean of each second, from its beginning on.

The meter speaks at whole seconds, when a second is over: of the power at that very moment, before anything that is
decided then, and of its register. A value of settlement holds from its own time to the next one's (`settlement.align`),
so that moment's power would be compared with what is asked a second later. What the second held is known from the
register, to rounding, whatever happened within it; it is a fact of the second that has passed, and stamped with its
beginning.
"""

from __future__ import annotations

import numpy as np

from settlement.align import NS
from telemetry.samples import Block


class Metered:
    """Readings one after the other, from the fleet's beginning at `start_ns` on, where the register stood at 0."""

    def __init__(self, start_ns: int) -> None:
        self.until_ns = start_ns  # what has been metered so far ends here
        self._register_kwh = 0.0

    def seconds(self, readings: Block) -> Block:
        """POWER[n]: the mean power of the time that each reading ends, stamped with when that began.

        readings : POWER[n]  as the meter read them, in order; of a meter that missed some, the mean since the last
        """
        if not readings.size:
            return readings
        rows = readings.copy()
        ends_ns, register_kwh = readings["t_ns"], readings["energy_kwh"]
        rows["t_ns"] = np.concatenate([[self.until_ns], ends_ns[:-1]])
        moved_kwh = np.diff(register_kwh, prepend=self._register_kwh)
        rows["power_kw"] = moved_kwh * (3600.0 * NS) / (ends_ns - rows["t_ns"])
        self.until_ns, self._register_kwh = int(ends_ns[-1]), float(register_kwh[-1])
        return rows

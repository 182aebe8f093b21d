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
from telemetry.samples import POWER, Block


class Metered:
    """Readings one after the other, from the fleet's beginning at `start_ns` on, where the register stood at 0.

    They wait until they are asked for: a minute's cost as much as an hour's.
    """

    def __init__(self, start_ns: int) -> None:
        self.until_ns = self._told_ns = start_ns  # what has been metered, and what of it been told, ends here
        self._register_kwh = 0.0
        self._waiting = bytearray()

    def read(self, readings: Block) -> None:
        """Readings that follow. readings : POWER[n]  as the meter read them, in order"""
        if readings.size:
            self._waiting += readings.tobytes()
            self.until_ns = int(readings["t_ns"][-1])

    def seconds(self) -> Block:
        """POWER[n]: of each reading since the last call the mean power of the time that it ends, stamped with when that
        began; of a meter that missed some, since the one before.
        """
        rows = np.frombuffer(self._waiting, POWER).copy()
        self._waiting = bytearray()
        if not rows.size:
            return rows
        ends_ns, register_kwh = rows["t_ns"].copy(), rows["energy_kwh"]
        rows["t_ns"] = np.concatenate([[self._told_ns], ends_ns[:-1]])
        moved_kwh = np.diff(register_kwh, prepend=self._register_kwh)
        rows["power_kw"] = moved_kwh * (3600.0 * NS) / (ends_ns - rows["t_ns"])
        self._told_ns, self._register_kwh = int(ends_ns[-1]), float(register_kwh[-1])
        return rows

"""How far this machine's clock may be off, as its own time service says.

Linux keeps the bound: the kernel's `adjtimex` returns the largest error that the daemon (NTP, PTP) vouches for, growing
while nobody disciplines the clock. Where there is no such call, or nobody vouches, that is said.

Layout of `struct timex`: Linux `include/uapi/linux/timex.h`; state and flags: adjtimex(2).
"""

from __future__ import annotations

import ctypes
import ctypes.util
import sys
from typing import Any, Final, NamedTuple

STA_UNSYNC: Final = 0x0040
TIME_ERROR: Final = 5


class ClockError(NamedTuple):
    """synchronised : whether a time service vouches for the clock; max_ms : its bound, None where there is none"""

    synchronised: bool
    max_ms: float | None


class _Timex(ctypes.Structure):
    """As the kernel has it, up to what is read here, with room for the rest."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),  # us
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_long * 40),
    )


def host_clock() -> ClockError:
    """The bound now. Never raises: a machine that does not say has no bound."""
    if not sys.platform.startswith("linux"):
        return ClockError(False, None)
    try:
        library: Any = ctypes.CDLL(ctypes.util.find_library("c"), use_errno=True)
        asked = _Timex()
        state = library.adjtimex(ctypes.byref(asked))
    except (OSError, AttributeError):
        return ClockError(False, None)
    return judged(state, asked.status, asked.maxerror)


def judged(state: int, status: int, max_error_us: int) -> ClockError:
    """What the kernel's answer means. state : returned by the call, -1 where it was refused"""
    if state < 0:
        return ClockError(False, None)
    vouched = state != TIME_ERROR and not status & STA_UNSYNC
    return ClockError(vouched, max_error_us / 1e3 if vouched else None)

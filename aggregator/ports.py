"""Ports: what the shells ask of the world, in a method or two each.

Protocols only, no code. Time is passed in (`now_ns`, int64 ns since 1970 UTC) so that a simulated fleet, a replay and
a real gateway stand behind the same port. Blocks are one-dimensional arrays of the dtypes of `telemetry.samples`; an
empty block means nothing is due. Positive power is into the grid.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from aggregator.setpoints import Rows
from telemetry.samples import Block


class SessionSource(Protocol):
    """Who has plugged in and out."""

    def sessions(self, now_ns: int) -> Block:
        """SESSION block of starts and ends learnt since last asked, in order for each slot.

        Ask before `reports`: a report refers to a session that was announced.
        """


class ReportSource(Protocol):
    """What the vehicles do."""

    def reports(self, now_ns: int) -> Block:
        """VEHICLE block of the reports due since last asked."""


class MeterSource(Protocol):
    """What the grid connection sees."""

    def meter(self, now_ns: int) -> Block:
        """POWER block of the readings due since last asked."""


class CommandTarget(Protocol):
    """Where set-points go."""

    def apply(self, rows: Rows, valid_until_ns: int, now_ns: int) -> int:
        """Hand set-points to the chargers; how many rows were refused (no such slot, another session, no car).

        rows : SETPOINT block; valid_until_ns : from then on the chargers follow their safe profile
        """


@runtime_checkable
class VehicleGateway(SessionSource, ReportSource, MeterSource, CommandTarget, Protocol):
    """A gateway to a fleet of chargers, real or simulated."""

    def advance(self, now_ns: int) -> None:
        """Let time pass until `now_ns`: physics for a simulated fleet, upkeep for a real one."""

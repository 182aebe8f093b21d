"""The fleet view's bytes: what is written is read back, and nothing that is cut or padded passes."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from aggregator import views


def fleet(count: int) -> views.Rows:
    rows = np.zeros(count, views.FLEETVIEW)
    rows["slot"] = np.arange(count)
    rows["vehicle"] = [f"EV-{i}".encode() for i in range(count)]
    rows["setpoint_kw"] = np.linspace(-11, 11, count)
    rows["soc_frac"] = np.nan
    return rows


def test_layout_is_the_one_on_the_wire() -> None:
    assert views.FLEETVIEW.itemsize == 64
    assert views.FLEETVIEW.fields is not None
    assert {
        name: views.FLEETVIEW.fields[name][1] for name in ("slot", "session", "vehicle", "state", "setpoint_kw")
    } == {
        "slot": 0,
        "session": 4,
        "vehicle": 8,
        "state": 32,
        "setpoint_kw": 36,
    }


@pytest.mark.parametrize("count", [0, 1, 1000])
def test_round_trip(count: int) -> None:
    rows = fleet(count)
    data = views.encode(1_795_000_000_000_000_123, rows)
    assert data[:16] == struct.pack("<qq", 1_795_000_000_000_000_123, count)
    t_ns, back = views.decode(data)
    assert t_ns == 1_795_000_000_000_000_123
    assert back.tobytes() == rows.tobytes()
    assert views.header(data[:16]) == (t_ns, count)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "short"),
        (b"\0" * 15, "short"),
        (struct.pack("<qq", 1, -1), "count"),
        (struct.pack("<qq", 1, 1), "length"),
        (struct.pack("<qq", 1, 2**62), "length"),
        (views.encode(1, fleet(2))[:-1], "length"),
        (views.encode(1, fleet(2)) + b"\0", "length"),
    ],
)
def test_defects_are_named(data: bytes, reason: str) -> None:
    with pytest.raises(views.ViewError) as caught:
        views.decode(data)
    assert caught.value.reason == reason


def test_rows_of_another_layout_are_refused() -> None:
    with pytest.raises(views.ViewError, match="FLEETVIEW"):
        views.encode(1, np.zeros(3))

"""What is wanted of a backtest: no part of it can be changed behind the back of a run that was stopped."""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from aggregator.backtesting import recorded_gate
from aggregator.bidding.available import SLICE
from aggregator.bidding.products import bundle
from aggregator.bidding.rule import Rule
from aggregator.bidding.selling import Seller
from aggregator.billing import Asked, Files
from aggregator.contracts import Contract, CoreSettings
from aggregator.fleets.composing import Composed
from aggregator.gateways.arrivals import Guests
from aggregator.gateways.population import PERFECT, Behaviour
from aggregator.signal_file import Recorded
from aggregator.tracefolder import Span
from aggregator.wanted import BESIDE, Wanted
from droop.products import load
from telemetry.quality import GateSettings
from telemetry.traces import open_trace

ROWS = [
    "time,f,other",
    *(f"2026-06-{day:02d} 00:00:{s:02d},50.0{s % 9},49.9{s % 7}" for day in (6, 7) for s in range(60)),
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "day.csv"
    path.write_text("\n".join(ROWS) + "\n", encoding="utf-8")
    return path


def settings(**changed: object) -> CoreSettings:
    return replace(CoreSettings("ce", 12, (Contract(load("ce_fcr"), 24.0),)), **changed)  # type: ignore[arg-type]


def reading(path: Path, **changed: object):
    return open_trace(path, **{"format": "table", "time_col": "time", "hz_col": "f"} | changed)


def guests(soc_frac: float = 0.5) -> Composed:
    columns = {name: np.zeros(2) for name in Guests._fields} | {"soc_frac": np.full(2, soc_frac)}
    return Composed(Guests(**columns), {})  # type: ignore[arg-type]


def seller(confidence: float = 0.9, kw: float = 1.0) -> Seller:
    before = np.zeros(3, SLICE)
    before["kw"] = kw
    return Seller(Rule(confidence), bundle([load("ce_fcr")]), before)


def recorded(share: float = 0.5) -> Recorded:
    return Recorded(np.arange(3), np.full(3, share))


# Of each field, values of which every one is another run.
OTHERS = {
    "traces": lambda path: [[reading(path)], [reading(path), reading(path)], []],
    "settings": lambda _: [settings(), settings(rows=13), settings(contracts=(Contract(load("ce_fcr"), 25.0),)),
                           settings(contracts=(Contract(load("nordic_fcr_n"), 24.0),))],
    "gate": lambda _: [recorded_gate(50.0), recorded_gate(60.0)],
    "seed": lambda _: [1, 2],
    "perfect": lambda _: [False, True],
    "behaviour": lambda _: [None, Behaviour(), PERFECT],
    "signal": lambda _: [None, recorded(), recorded(0.6), Recorded(np.arange(3) + 1, np.full(3, 0.5))],
    "fleet": lambda _: [None, guests(), guests(0.6)],
    "seller": lambda _: [None, seller(), seller(0.8), seller(kw=2.0)],
    "battery_price": lambda _: [100.0, np.nextafter(100.0, 101.0)],
}  # fmt: skip
SAME = {
    "any_date": lambda: [False, True],
    "prices": lambda: [None, Files(Asked(None), {})],
    "source": lambda: [(), [{"read": []}]],
    "end_ns": lambda: [0, 1],
}


def wanted(path: Path, **fields_of_it: object) -> Wanted:
    return replace(Wanted([reading(path)], settings(), recorded_gate(50.0)), **fields_of_it)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [field.name for field in fields(Wanted)])
def test_every_field_tells_runs_apart_or_is_named_as_one_that_need_not(file, name):
    if name in BESIDE:
        assert len({wanted(file, **{name: value}).digest for value in SAME[name]()}) == 1
        return
    values = OTHERS[name](file)
    assert len({wanted(file, **{name: value}).digest for value in values}) == len(values)
    again = [wanted(file, **{name: value}).digest for value in OTHERS[name](file)]
    assert again == [wanted(file, **{name: value}).digest for value in values]  # of equal parts it is the same


@pytest.mark.parametrize(
    ("field", "record"),
    [("gate", GateSettings()), ("behaviour", Behaviour()), ("settings", settings())],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_every_figure_of_a_record_within_it_counts(file, field, record):
    before = wanted(file, **{field: record}).digest
    for name, value in asdict(record).items():
        if isinstance(value, int | float):
            other = not value if isinstance(value, bool) else value + (1 if isinstance(value, int) else 1e-3)
            changed = replace(record, **{name: other})
            assert wanted(file, **{field: changed}).digest != before, name


def test_a_file_read_in_another_way_is_another_run(file, monkeypatch):
    """Column, zone, what is skipped or put right (of the first day nothing is), the span; and other rows."""
    monkeypatch.setattr("telemetry.traces.common.CHUNK_ROWS", 60)
    day_ns = int(np.datetime64(date(2026, 6, 6)).astype("datetime64[ns]").astype(int))
    plain = reading(file)
    others = [
        plain, reading(file, hz_col="other"), reading(file, tz="Europe/Paris"), reading(file, skip_bad=True),
        reading(file, repair="day-month"), reading(file, nominal_hz=60.0), Span(plain, day_ns, None),
        Span(plain, day_ns, day_ns + 10**9),
    ]  # fmt: skip
    digests = [wanted(file, traces=[trace]).digest for trace in others]
    for rows in ([*ROWS[:-1], ROWS[-1] + "0"], [ROWS[0], ROWS[1].replace("50.00", "50.01"), *ROWS[2:]]):
        file.write_text("\n".join(rows) + "\n", encoding="utf-8")
        digests.append(wanted(file, traces=[reading(file)]).digest)
    assert len(set(digests)) == len(others) + 2

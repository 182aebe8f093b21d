"""The fleet's energy both ways goes on record where a market asks for it, and comes back the same."""

from __future__ import annotations

import numpy as np
import pytest

from aggregator.journal import Kind
from aggregator.records import FLEET, MODE
from aggregator.settle import settle_folder, verify_folder
from droop.products import load
from settlement.recompute import recompute
from settlement.verifier import verify
from tests.aggregator.test_backtest import driven, trace
from tests.aggregator.test_managing import World
from tests.aggregator.test_sealing import KEYS, evidence_files, opened, quick, read, run  # noqa: F401
from tests.aggregator.test_settle import NS, QUARTER, START_S, Worker, finals, settings

HALF = 1800


class Banking(Worker):
    """A worker of a fleet with too little for what is sold, from the second half hour on."""

    def __init__(self):
        super().__init__(own=settings(("gb_dc_low", 1000.0)))

    def _rows(self, s, now_ns, hz, dev, quality, meter):
        yield from super()._rows(s, now_ns, hz, dev, quality, meter)
        if s % 60 == 0:
            row = np.zeros(1, MODE)
            row["from_ns"], row["product"] = (START_S + s) * NS, FLEET
            row["up_kwh"], row["down_kwh"] = 260.0 if s < QUARTER else 100.0, 100.0
            yield Kind.MODES, row.tobytes()


@pytest.mark.parametrize("product", ["gb_dc_low", "ce_fcr"])
def test_once_a_minute_where_it_is_asked_for(product):
    world = World((load(product), 10.0), journal=True)
    world.hz(50.0, 180)
    entries = [entry for entry in world.entries if entry.kind is Kind.MODES]
    rows = np.concatenate([np.zeros(0, MODE), *(np.frombuffer(entry.payload, MODE) for entry in entries)])
    own = rows[rows["product"] == FLEET]
    assert own.size == (3 if product == "gb_dc_low" else 0)
    # 8 cars of 20 kWh half full, between 0.1 and 0.9.
    if own.size:
        assert own["up_kwh"][-1] == pytest.approx(64.0, rel=1e-3)
        assert own["down_kwh"][-1] == pytest.approx(64.0, rel=1e-3)


def test_a_backtest_judges_it():
    test = driven(trace(3600), product="gb_dc_low")
    first, second = test.statements()
    assert first.state_of_energy.available is second.state_of_energy.available is True
    assert second.state_of_energy.up_kwh > second.state_of_energy.least_up_kwh > 0.0


def test_live_again_and_sealed_it_is_the_same(tmp_path):
    """Live, restarted in between, from the files alone and from the sealed rows alone."""
    worker, told = Banking(), []
    begin = -(START_S % HALF)
    payloads = [worker.second(s) for s in range(begin, begin + 2 * HALF + 20)]
    settler = opened(tmp_path, told)
    run(settler, payloads[:2500], begin)
    settler.close()
    settler = opened(tmp_path, told)
    resumed = int(settler.resume_id().split("-")[1])
    run(settler, payloads[resumed:], begin + resumed)
    settler.close()
    done = sorted(finals(told).values(), key=lambda item: item.start_ns)
    assert [item.state_of_energy.available for item in done] == [True, False]
    assert done[1].kpis["available_frac"] == 0.0
    again = {item.key: item for item in settle_folder(tmp_path / "journal")}
    assert {item.key: again[item.key] for item in done[:1]} == {item.key: item for item in done[:1]}
    assert verify_folder(tmp_path / "journal") == 2
    assert verify(evidence_files(tmp_path / "evidence"), KEYS[0].public, running=True)["ok"]
    assert recompute(read(evidence_files(tmp_path / "evidence"))).mismatches == []

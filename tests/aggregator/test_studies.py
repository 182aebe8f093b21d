"""Studies: every combination once, the same bits wherever they are worked out, and what is done is kept."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from aggregator.studies import plan, pooling, running
from aggregator.studies.plan import StudyError
from droop import pooled
from droop.products import load
from telemetry.samples import FREQUENCY, empty
from telemetry.traces import open_trace
from tests.scenarios.lines import until

ROOT = Path(__file__).resolve().parents[2]
BEGIN = datetime(2026, 3, 1, tzinfo=UTC)


def trace(path: Path, seed: int, rows: int = 3600, gap: range = range(0), nominal_hz: float = 50.0) -> Path:
    draw = np.random.default_rng(seed)
    hz = nominal_hz + 0.08 * np.sin(np.arange(rows) / 300.0 + seed) + draw.normal(0.0, 0.01, rows)
    lines = [
        f"{BEGIN + timedelta(seconds=k):%Y-%m-%d %H:%M:%S},{value:.5f}" for k, value in enumerate(hz) if k not in gap
    ]
    path.write_text("dtm,f\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return path


def written(folder: Path, text: str) -> Path:
    path = folder / "study.toml"
    path.write_text(text, encoding="utf-8")
    return path


POOL = """
name = "how much"
traces = ["a.csv", "b.csv"]
[case]
product = "ce_fcr"
energy_kwh = 300.0
[vary]
sold_kw = [200.0, 400.0, 800]
deadband_hz = [0.0, 0.01]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    trace(tmp_path / "a.csv", 1)
    trace(tmp_path / "b.csv", 2)
    return tmp_path


def _address(told: Path) -> str:
    """Of the scheduler, once it has written it down."""

    def read() -> str | None:
        try:
            return str(json.loads(told.read_bytes())["address"])
        except (OSError, ValueError):
            return None

    return str(until(read, "a scheduler's address"))


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Dask scheduler with two workers, each a process as a cluster starts it."""
    pytest.importorskip("distributed", reason="Dask is not installed: pip install 'flyball[dask]'")
    folder = tmp_path_factory.mktemp("dask")
    told = folder / "scheduler.json"
    commands = [
        ["scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(told)],
        *[["worker", "--host", "127.0.0.1", "--no-nanny", "--nthreads", "1", "--no-dashboard", "--scheduler-file",
           str(told), "--local-directory", str(folder)]] * 2,
    ]  # fmt: skip
    with (folder / "log").open("wb") as log:
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", "dask", *command], cwd=folder, stdout=log, stderr=log,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
            for command in commands
        ]  # fmt: skip
    try:
        yield _address(told)
    finally:
        for process in reversed(processes):  # a worker without a scheduler would wait for it
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(5)


def test_every_combination_is_a_case(folder: Path) -> None:
    study = plan.read(written(folder, POOL))
    assert study.varied == ("trace", "sold_kw", "deadband_hz")
    values = [
        (Path(case.traces[0]).name, *(dict(case.values)[key] for key in study.varied[1:])) for case in study.cases
    ]
    assert values == [
        (name, sold, band) for name in ("a.csv", "b.csv") for sold in (200.0, 400.0, 800) for band in (0.0, 0.01)
    ]
    assert len({case.digest for case in study.cases}) == len(study.cases)
    assert [len(task) for task in running.batches(study.cases)] == [6, 6]


def test_a_pool_case_is_the_pool_over_the_files_rows(folder: Path) -> None:
    study = plan.read(written(folder, POOL))
    results = running.run(study)
    assert results is not None
    case = study.cases[3]  # 400 kW, the product's own dead band
    hz = open_trace(folder / "a.csv").read_all()["hz"]
    pool = pooled.Pool([pooled.Case(load("ce_fcr").response, 400.0, 300.0, 500.0, 500.0)], 50.0, 1.0)
    pool.feed(hz)
    assert dict(case.values)["sold_kw"] == 400.0
    told = results[3]
    assert {name: told[name] for name in pooled.Outcome._fields} == pool.outcomes()[0]._asdict()
    assert told["samples"] == 3600
    assert told["hours"] == 1.0
    assert told["gap_s"] == 0.0


def test_in_a_gap_nothing_is_asked_and_time_goes_on(tmp_path: Path) -> None:
    whole = trace(tmp_path / "whole.csv", 1)
    trace(tmp_path / "cut.csv", 1, gap=range(1000, 2380))
    text = 'traces = ["whole.csv", "cut.csv"]\ncase = {product = "ce_fcr", sold_kw = 100.0}\n'
    results = running.run(plan.read(written(tmp_path, text)))
    assert results is not None
    assert [result["gap_s"] for result in results] == [0.0, 1380.0]
    assert results[1]["hours"] == results[0]["hours"]
    hz = open_trace(whole).read_all()["hz"].copy()
    hz[1000:2380] = np.nan
    pool = pooled.Pool([pooled.Case(load("ce_fcr").response, 100.0, 200.0, 125.0, 125.0)], 50.0, 1.0)
    pool.feed(hz)
    assert results[1]["asked_up_kwh"] == pool.outcomes()[0].asked_up_kwh


def test_here_on_processes_and_on_a_cluster_come_the_same_bits(folder: Path, scheduler: str) -> None:
    study = plan.read(written(folder, POOL))
    here = running.run(study)
    assert here is not None
    assert running.run(study, workers=2) == here
    assert running.run(study, scheduler=scheduler) == here


FLEET = """
kind = "fleet"
traces = ["a.csv"]
[case]
product = "ce_fcr"
vehicles = 12
"engine.wear_price" = 0.0
[vary]
dead_s = [0.2, 5.0]
seed = [1, 2]
"""


def test_whole_backtests_come_to_the_same_bits_on_a_cluster(tmp_path: Path, scheduler: str) -> None:
    trace(tmp_path / "a.csv", 1, rows=600)
    study = plan.read(written(tmp_path, FLEET))
    here = running.run(study)
    assert here is not None
    assert running.run(study, scheduler=scheduler) == here
    scores = [result["score"] for result in here]
    assert scores[0] > scores[2]  # chargers that answer after five seconds
    assert scores[1] > scores[3]
    assert here[0] != here[1]


@pytest.mark.parametrize("key", ["fleet.generator", "fleet.sessions"])
def test_a_fleet_of_a_dotted_key_is_the_one_that_comes(tmp_path: Path, key: str) -> None:
    trace(tmp_path / "a.csv", 1, rows=120)
    stays = tmp_path / "stays.csv"
    begin, end = (BEGIN + timedelta(hours=h) for h in (-1, 3))
    stays.write_text(f"arrive,leave,energy_kwh\n{begin.isoformat()},{end.isoformat()},9.0\n", encoding="utf-8")
    value = "builtin" if key == "fleet.generator" else str(stays)
    text = f'kind = "fleet"\ntraces = ["a.csv"]\n[case]\nproduct = "ce_fcr"\nvehicles = 12\n"{key}" = "{value}"\n'
    found = running.run(plan.read(written(tmp_path, text)))
    assert found is not None
    assert found[0]["fleet"]["stays"] >= found[0]["fleet"]["came"]
    assert key == "fleet.generator" or found[0]["fleet"]["stays"] == 1


def test_a_case_whose_configuration_or_product_was_rewritten_is_another(tmp_path: Path) -> None:
    trace(tmp_path / "a.csv", 1, rows=60)
    product, config = tmp_path / "mine.toml", tmp_path / "run.toml"
    text = f'kind = "fleet"\ntraces = ["a.csv"]\nconfig = "run.toml"\n[case]\nproduct = "{product}"\n'
    digests = []
    for left, right in (("a", "1"), ("a", "2"), ("b", "2")):
        product.write_text(left, encoding="utf-8")
        config.write_text(right, encoding="utf-8")
        digests.append(plan.read(written(tmp_path, text)).cases[0].digest)
    assert len(set(digests)) == 3


def test_a_stopped_study_goes_on(folder: Path, tmp_path: Path) -> None:
    study, out = plan.read(written(folder, POOL)), tmp_path / "out"
    assert running.run(study, out, progress=lambda done, _: done < 6) is None
    file = out / running.DONE
    kept = file.read_bytes()
    assert kept.count(b"\n") == 6
    file.write_bytes(kept + b'["cut in the')
    seen: list[int] = []
    results = running.run(study, out, resume=True, progress=lambda done, _: seen.append(done) is None)
    assert seen == [6, 12]
    assert results == running.run(study)
    assert file.read_bytes().startswith(kept)
    assert file.read_bytes().count(b"\n") == 12
    # Another question is not answered by what is kept.
    trace(folder / "a.csv", 1, rows=3601)
    again: list[int] = []
    running.run(plan.read(folder / "study.toml"), out, resume=True, progress=lambda done, _: again.append(done) is None)
    assert again[0] == 6


def flyball(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "aggregator.cli", "study", *options], cwd=folder, capture_output=True, text=True,
        timeout=600, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip


def test_the_command_leaves_tables_and_a_page(folder: Path) -> None:
    written(folder, POOL)
    done = flyball(folder, "study.toml", "--out", "out", "--json", "-")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["varied"] == ["trace", "sold_kw", "deadband_hz"]
    rows = pq.read_table(folder / "out" / "cases.parquet").to_pylist()
    assert [row["given_up_kwh"] for row in rows] == [case["given_up_kwh"] for case in told["cases"]]
    assert rows[5]["sold_kw"] == 800.0
    page = (folder / "out" / "study.html").read_text()
    assert "Equivalent full cycles" in page
    assert "src=" not in page.split("<body>")[1].split("<script")[0]
    assert (folder / "out" / "cases.csv").read_text().count("\n") == 13


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (("sold_kw = [200.0", "sold = [200.0"), "vary.sold"),
        (('product = "ce_fcr"', ""), "case.product"),
        (("[200.0, 400.0, 800]", "[]"), "vary.sold_kw"),
        (("[200.0, 400.0, 800]", "[200.0, 200.0]"), "vary.sold_kw"),
        (("[200.0, 400.0, 800]", '["much"]'), "vary.sold_kw"),
        (("energy_kwh = 300.0", "energy_kwh = -1.0"), "energy_kwh"),
        (('"b.csv"', '"c.csv"'), "c.csv"),
        (('"b.csv"', '"c-*.csv"'), "c-*.csv"),
        (('name = "how much"', 'names = "how much"'), "names"),
        (('name = "how much"', 'config = "x.toml"'), "config"),
        (("[0.0, 0.01]", "[0.0, 0.3]"), "full-hz"),
        (('"ce_fcr"', '"pjm_reg_v1"'), "pjm_reg_v1"),
        (('"ce_fcr"', '"ieee1547"'), "60"),
    ],
)
def test_a_study_that_cannot_be_is_refused_by_its_field(folder: Path, change: tuple[str, str], named: str) -> None:
    written(folder, POOL.replace(*change))
    with pytest.raises(ValueError, match=re.escape(named)) as caught:
        running.run(plan.read(folder / "study.toml"))
    assert "\n" not in str(caught.value)


def test_traces_of_other_periods_do_not_go_together(tmp_path: Path) -> None:
    trace(tmp_path / "a.csv", 1, rows=50)
    slow = tmp_path / "b.csv"
    slow.write_text(
        "dtm,f\n"
        + "".join(f"{BEGIN + timedelta(hours=1, seconds=10 * k):%Y-%m-%d %H:%M:%S},50.0{k % 7}\n" for k in range(50))
    )
    text = 'traces = ["a.csv", "b.csv"]\njoin = true\ncase = {product = "ce_fcr"}\n'
    with pytest.raises(StudyError, match="one period"):
        running.run(plan.read(written(tmp_path, text)))


def test_nobody_at_the_schedulers_address_is_said(folder: Path) -> None:
    pytest.importorskip("distributed", reason="Dask is not installed: pip install 'flyball[dask]'")
    with pytest.raises(StudyError, match="--scheduler no-such-kind"):
        running.run(plan.read(written(folder, POOL)), scheduler="no-such-kind://127.0.0.1:1")


def test_a_resume_without_anything_to_resume_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="--resume"):
        running.run(plan.read(written(folder, POOL)), tmp_path / "nothing", resume=True)


def test_a_grid_of_steps_takes_each_row_once() -> None:
    def block(seconds: list[float], hz: list[float], quality: list[int]) -> Any:
        rows = empty(FREQUENCY, len(seconds))
        rows["t_ns"] = np.array(seconds) * 1e9
        rows["hz"], rows["quality"] = hz, quality
        return rows

    blocks = [
        block([10.0, 11.2, 11.4, 13.0], [1.0, 2.0, 3.0, 4.0], [0, 0, 0, 1]),
        block([13.1, 15.0], [5.0, 6.0], [0, 0]),
    ]
    found = np.concatenate(list(pooling.on_grid(iter(blocks), 1.0)))
    np.testing.assert_array_equal(found, [1.0, 2.0, np.nan, 5.0, np.nan, 6.0])

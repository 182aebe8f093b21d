"""Grids as data: what ships is whole and stable, what is wrong is refused by name."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest

from droop.stability import grid as grids
from droop.stability import swing
from droop.stability.grid import Governor, Grid, GridError
from droop.stability.measures import measure
from droop.stability.simulation import Contingency, simulate

WHOLE = {
    "id": "own", "title": "own", "area": "-", "nominal_hz": 50, "size_mw": 100.0, "inertia_s": 3.0,
    "load_damping_pu": 1.0, "loss_mw": 10.0,
}  # fmt: skip


def test_there_are_grids_of_both_frequencies():
    found = grids.names()
    assert set(found) == {"ce", "ercot", "gb", "island", "nordic"}
    assert {grids.load(name).nominal_hz for name in found} == {50.0, 60.0}


@pytest.mark.parametrize("name", grids.names())
def test_what_ships_says_where_it_comes_from_and_survives_its_own_loss(name):
    grid = grids.load(name)
    assert grid.id == name
    assert grid.sources
    assert grid.confidence in grids.CONFIDENCE
    for governor in grid.governor:
        assert {f"governor.{field}" for field in asdict(governor)} >= {m for m in grid.marks or {} if "." in m}
    for dev_hz in (0.0, 0.05, 0.15, 0.3, 2.0):
        assert swing.poles(grid, -dev_hz).real.max() < 0.0
    found = measure(grid, simulate(grid, Contingency(grid.loss_mw), seconds=60.0))
    assert 0.001 < found.worst_dev_hz / grid.nominal_hz < 0.03
    assert found.nadir_hz <= found.steady_hz + 1e-3


def test_the_nordic_figures_are_the_requirements():
    grid = grids.load("nordic")
    assert grid.inertia_s == pytest.approx(120_000 / 23_000)
    assert grid.load_damping_pu == 0.01 * 50
    assert [grid.strength_mw_hz(one) for one in grid.governor] == [600 / 0.1, 1450 / 0.4]
    assert sum(one.reserve_mw for one in grid.governor) == 600 + 1450
    assert grid.mark("size_mw") == "V"
    assert grid.mark("shed_hz") == "M"
    assert grid.mark("governor") == "M"


def test_droop_and_strength_say_the_same():
    by_droop = replace(grids.parse(WHOLE, "own"), governor=(Governor(droop_pu=0.04, share_frac=0.8),))
    # 80 MW at a deviation of 4 % of 50 Hz.
    assert by_droop.strength_mw_hz(by_droop.governor[0]) == pytest.approx(80.0 / 2.0)
    assert by_droop.gain_pu(by_droop.governor[0]) == pytest.approx(0.8 / 0.04)
    assert by_droop.damping_mw_hz == pytest.approx(2.0)


def test_a_grid_of_one_s_own_is_loaded_from_a_file(tmp_path):
    path = tmp_path / "own.toml"
    lines = [f"{key} = {value!r}" for key, value in WHOLE.items()]
    path.write_text("\n".join([*lines, "[[governor]]", "droop_pu = 0.05", "reheat_s = 8.0"]), encoding="utf-8")
    found = grids.load(str(path))
    assert isinstance(found, Grid)
    assert found.governor[0].blocks() == ((0.0, 8.0),)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"inertia_s": -1.0}, "inertia_s"),
        ({"inertia_s": 0}, "inertia_s"),
        ({"size_mw": 0}, "size_mw"),
        ({"load_damping_pu": -0.1}, "load_damping_pu"),
        ({"load_damping_pu": 0}, "neither of them.*give a damping"),
        ({"nominal_hz": 55}, "50 or 60"),
        ({"shed_hz": [51.0]}, "shed_hz"),
        ({"marks": {"nothing": "V"}}, "marks.nothing"),
        ({"marks": {"size_mw": "X"}}, "marks.size_mw"),
        ({"inertia": 3.0}, "unknown field `inertia`; did you mean `inertia_s`"),
        ({"governor": [{"droop_pu": 0.05, "strength_mw_hz": 3.0}]}, "give one of them"),
        ({"governor": [{}]}, "give one of them"),
        ({"governor": [{"droop_pu": 0.05, "reserve_mw": 0.0}]}, "reserve_mw"),
        ({"governor": [{"droop_pu": 0.05, "share_frac": 1.5}]}, "share_frac"),
        ({"governor": [{"droop_pu": 0.05, "servo_s": -1.0}]}, "servo_s"),
        ({"governor": [{"droop_pu": 0.05, "transient_ratio": 0.5}]}, "transient_ratio"),
        ({"confidence": "Q"}, "confidence"),
    ],
)
def test_a_grid_that_cannot_be_is_refused_by_name(changed, words):
    with pytest.raises(GridError, match=f"^own.toml: .*{words}"):
        grids.parse(WHOLE | changed, "own.toml")


def test_a_file_that_is_none_is_named(tmp_path):
    with pytest.raises(GridError, match=r"did you mean `nordic`"):
        grids.load("nordik")
    with pytest.raises(GridError, match=r"known: ce, ercot"):
        grids.load("mars")
    with pytest.raises(GridError, match="no such grid file"):
        grids.load(str(tmp_path / "none.toml"))
    (tmp_path / "bad.toml").write_text("id = ", encoding="utf-8")
    with pytest.raises(GridError, match="not a TOML file"):
        grids.load(str(tmp_path / "bad.toml"))
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(GridError, match="cannot be read"):
        grids.load(str(tmp_path / "folder.toml"))

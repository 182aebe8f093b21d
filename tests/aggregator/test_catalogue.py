"""`flyball products` and `respond` from outside, and what of the catalogue stops a run, a backtest or an inspection."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest

from aggregator.cli import main
from aggregator.curvetext import ALWAYS, ROWS, drawing, figures
from droop.curve import fractions
from droop.products import catalogue, load, to_table

CATALOGUE = catalogue()


@pytest.fixture
def flyball(monkeypatch, capfd, tmp_path):
    """Call the entry point as the script does; (exit status, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)

    def call(*words):
        monkeypatch.setattr("sys.argv", ["flyball", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capfd.readouterr()
        return ended.value.code or 0, out, err

    return call


def refused(said, *words):
    code, out, err = said
    assert (code, out, err.count("\n")) == (2, "", 1), said
    for word in words:
        assert word in err


def listed(flyball, *options):
    code, out, _ = flyball("products", *options, "--json", "-")
    assert code == 0
    return [row["id"] for row in json.loads(out)]


def test_filters_of_the_list(flyball):
    assert set(listed(flyball)) == set(CATALOGUE)
    assert listed(flyball, "--area", "pjm") == ["pjm_reg_v1", "pjm_reg_v2", "pjm_rega_v1"]
    assert listed(flyball, "--area", "PJM", "--date", "2025-12-01") == ["pjm_reg_v2"]
    assert listed(flyball, "--area", "PJM", "--date", "2025-09-30") == ["pjm_reg_v1", "pjm_rega_v1"]
    assert set(listed(flyball, "--direction", "down", "--area", "GB")) == {"gb_dc_high", "gb_dm_high", "gb_dr_high"}
    refused(flyball("products", "--area", "Mars"), "--area", "Mars", "Nordic")
    refused(flyball("products", "--direction", "left"), "--direction", "symmetric")
    refused(flyball("products", "--date", "soon"), "--date soon", "2026-01-31")


def test_the_list_for_people_tells_confidence_validity_and_what_is_answered_to(flyball):
    code, out, _ = flyball("products")
    assert code == 0
    rows = {line.split()[0]: line for line in out.splitlines() if line.strip() and line.split()[0] in CATALOGUE}
    assert set(rows) == set(CATALOGUE)
    assert "signal, 2 s" in rows["pjm_reg_v2"]
    assert "from 2025-10-01 until 2026-10-01" in rows["pjm_reg_v2"]
    assert "a threshold" in rows["nordic_ffr_a"]
    assert rows["gb_sffr"].rstrip().endswith("M")
    assert "V2 (" in rows["gb_dc_low"]
    assert "M from memory" in out


@pytest.mark.parametrize("product", CATALOGUE.values(), ids=CATALOGUE)
def test_every_figure_is_shown_with_its_mark(product):
    shown = {one.name: one for one in figures(product)}
    assert shown["curve"].value == [list(point) for point in zip(product.curve_hz, product.curve_frac, strict=True)]
    for key, value in to_table(product).items():
        if isinstance(value, float | int) and not isinstance(value, bool):
            assert shown[key].value == value
        if isinstance(value, dict) and value and key != "marks":
            assert any(name.startswith(f"{key}.") for name in shown)
    assert set(ALWAYS) <= set(shown)
    for name, mark in product.marks.items():
        # A mark of a whole table, of the curve's halves, or of one figure that is shown.
        assert name.startswith("curve_") or any(
            (one.name + ".").startswith(name + ".") and (one.mark == mark or one.name in product.marks)
            for one in shown.values()
        ), name


@pytest.mark.parametrize("product", CATALOGUE.values(), ids=CATALOGUE)
@pytest.mark.parametrize("width", [30, 100])
def test_the_drawing_is_the_curve(product, width):
    lines = drawing(product, width).plain.splitlines()
    assert len(lines) == ROWS + 1
    assert all(len(line) <= width for line in lines)
    # Each column has a mark, and where several rows are marked the curve goes through all of them.
    columns = [[row for row in range(ROWS) if line_at(lines[row], k) == "█"] for k in range(8, max(map(len, lines)))]
    columns = [rows for rows in columns if rows]
    top, bottom = max(*product.curve_frac, 0.0), min(*product.curve_frac, 0.0)
    first, last = columns[0][0], columns[-1][-1]
    step = (top - bottom) / (ROWS - 1)
    assert top - first * step == pytest.approx(product.curve_frac[0] or 0.0, abs=step)
    assert top - last * step == pytest.approx(product.curve_frac[-1] or 0.0, abs=step)
    for one, other in pairwise(columns):
        assert one == list(range(one[0], one[-1] + 1))
        assert other[0] <= one[-1] + 1
        assert one[0] <= other[-1] + 1
    assert ("Hz" in lines[-1]) == (product.input == "frequency")


def line_at(line, k):
    return line[k] if k < len(line) else " "


def test_show_draws_and_lists(flyball, tmp_path):
    code, out, _ = flyball("products", "show", "pjm regd")
    assert code == 0
    for words in ("pjm_reg_v1", "until 2025-10-01", "█", "score.propagation_s", "V2", "Sources:", "no claim", "rega"):
        assert (words in out) == (words != "rega"), words
    code, out, _ = flyball("products", "show", "ce_fcr_de", "--plot", "de.html", "--json", "de.json")
    assert code == 0
    page = (tmp_path / "de.html").read_text(encoding="utf-8")
    assert "freedoms.overfulfil_max" in page
    assert "plotly" in page
    assert "<script src" not in page
    plain = json.loads((tmp_path / "de.json").read_bytes())
    assert plain["curve"] == [[-0.2, 1.0], [0.0, 0.0], [0.2, -1.0]]
    assert (plain["confidence"], plain["marks"]["freedoms"], plain["ramp_pu_s"]) == ("V", "V2", None)
    refused(flyball("products", "show", "ce_fcr", "--plot", "no/where.html"), "--plot", "no/where.html")


def test_the_whole_catalogue_is_json(flyball):
    rows = json.loads(flyball("products", "--json", "-")[1])
    for row in rows:
        product = CATALOGUE[row["id"]]
        assert row["sources"] == list(product.sources)
        assert row["reservoir"] is None or row["reservoir"]["power_up_pu"] == product.reservoir.power_up_pu


def test_respond_to_a_signal_or_to_a_frequency_and_not_to_the_other(flyball):
    assert json.loads(flyball("respond", "pjm_reg_v2", "--signal", "-0.25", "--json", "-")[1]) == {
        "product": "pjm_reg_v2", "signal": -0.25, "fraction": -0.25,
    }  # fmt: skip
    assert float(flyball("respond", "afrr_up", "--signal=-1")[1]) == 0.0
    refused(flyball("respond", "pjm_reg_v2", "60"), "HZ", "pjm_reg_v2", "--signal")
    refused(flyball("respond", "pjm_reg_v2"), "--signal")
    refused(flyball("respond", "pjm_reg_v2", "60", "--signal", "0"), "--signal")
    refused(flyball("respond", "ce_fcr", "--signal", "0.5"), "HZ", "ce_fcr", "frequency")
    for wrong in ("1.5", "nan", "inf"):
        refused(flyball("respond", "pjm_reg_v2", "--signal", wrong), "--signal", "-1..1")


def trace(path, day, hz=59.99, rows=40):
    lines = [f"{day} 12:00:{k:02d},{hz + 0.001 * (k % 5):.3f}" for k in range(rows)]
    path.write_text("\n".join(["dtm,f", *lines]) + "\n", encoding="utf-8")


def signal(path, start):
    times = np.datetime64(start) + np.arange(20) * np.timedelta64(2, "s")
    path.write_text("\n".join(["time,signal", *(f"{at}Z,0.5" for at in times)]) + "\n", encoding="utf-8")


def test_a_backtest_on_a_day_outside_validity_is_refused_with_the_product_of_that_day(flyball, tmp_path):
    trace(tmp_path / "old.csv", "2025-09-30")
    trace(tmp_path / "new.csv", "2025-10-01")
    signal(tmp_path / "old_signal.csv", "2025-09-30T12:00:00")
    signal(tmp_path / "new_signal.csv", "2025-10-01T12:00:00")
    old, new = (("--signal", f"{day}_signal.csv", "--vehicles", "5", "--json", "-") for day in ("old", "new"))
    refused(flyball("backtest", "--product", "pjm_reg_v1", *new), "`pjm_reg_v1`", "`pjm_reg_v2`")
    refused(flyball("backtest", "old.csv", "new.csv", "--product", "pjm regd", *old), "2025-10-01", "--any-date")
    code, out, _ = flyball("backtest", "old.csv", "--product", "pjm regd", *old)
    assert (code, json.loads(out)["products"][0]["id"]) == (0, "pjm_reg_v1")
    code, out, _ = flyball("backtest", "new.csv", "--product", "pjm_reg_v1", "--any-date", *new)
    assert (code, json.loads(out)["samples"]) == (0, 40)


def test_a_trace_that_leaves_the_products_time_is_stopped_there(flyball, tmp_path):
    rows = [f"2025-10-01 0{k // 3600 + 3}:{k // 60 % 60:02d}:{k % 60:02d},59.99{k % 7}" for k in range(7300)]
    (tmp_path / "t.csv").write_text("\n".join(["dtm,f", *rows]) + "\n", encoding="utf-8")
    signal(tmp_path / "s.csv", "2025-10-01T03:00:00")
    asked = ("--product", "pjm_reg_v1", "--signal", "s.csv", "--vehicles", "2", "--json", "-")
    code, out, err = flyball("backtest", "t.csv", *asked)
    assert (code, out) == (2, "")
    assert "`pjm_reg_v1` was valid until 2025-10-01" in err.splitlines()[-1]


def test_a_run_is_refused_today(flyball, tmp_path):
    (tmp_path / "gone.toml").write_text(
        'id = "gone"\ntitle = "Gone"\narea = "X"\nnominal_hz = 50.0\ndirection = "up"\n'
        'curve = [[-0.2, 1.0], [0.0, 0.0]]\neffective_to = "2020-01-01"\nsuccessor = "ce_fcr"\n',
        encoding="utf-8",
    )
    refused(flyball("run", "--product", "gone.toml", "--seconds", "1"), "`gone` was valid until 2020-01-01", "`ce_fcr`")
    assert not (tmp_path / "var").exists()


def test_the_same_product_in_two_contracts_is_refused(flyball, tmp_path):
    (tmp_path / "c.toml").write_text(
        "[[contract]]\nproduct = 'ce_fcr'\nsold_kw = 5\n[[contract]]\nproduct = 'CE FCR'\nsold_kw = 7\n",
        encoding="utf-8",
    )
    trace(tmp_path / "t.csv", "2026-06-22", hz=49.9)
    for words in (("run", "--config", "c.toml", "--seconds", "1"), ("backtest", "t.csv", "--config", "c.toml")):
        refused(flyball(*words), "`contract.product`", "`ce_fcr`", "over the same time")
    assert not (tmp_path / "var").exists()


def test_more_sold_than_the_fleet_sustains_is_said(flyball, tmp_path):
    rows = [f"2026-06-22 12:{k // 60:02d}:{k % 60:02d},49.9{k % 7}" for k in range(200)]
    (tmp_path / "t.csv").write_text("\n".join(["dtm,f", *rows]) + "\n", encoding="utf-8")
    code, out, err = flyball("backtest", "t.csv", "--vehicles", "5", "--sold-kw", "900", "--json", "-")
    assert code == 0
    assert err.count("sold above capability: 900 kW of ce_fcr") == 1
    assert "SOLD_ABOVE_CAPABILITY" in json.loads(out)["alarms"]
    code, _, err = flyball("backtest", "t.csv", "--vehicles", "5", "--sold-kw", "0.1", "--json", "-")
    assert "sold above" not in err


def test_a_signal_is_inspected_and_not_played_as_a_frequency(flyball, tmp_path):
    cells = np.sin(np.arange(61) / 7.0)
    rows = [f"{23 + (58 * 60 + 2 * k) // 3600}:{(58 * 60 + 2 * k) // 60 % 60:02d}:{2 * k % 60:02d}" for k in range(60)]
    text = "".join(f"{at},{cell:.6f}\n" for at, cell in zip([*rows, "0:00:00"], cells, strict=True))
    (tmp_path / "s.csv").write_text(",8/1/2017\n" + text, encoding="utf-8")
    code, out, _ = flyball("inspect", "s.csv", "--json", "-")
    found = json.loads(out)
    assert (code, found["format"], found["rows"], found["period_s"]) == (0, "pjm_wide", 61, 2.0)
    assert found["signal"].keys() == {"min", "max", "mean", "std", "mileage_pu_h", "lag1"}
    assert "hz" not in found
    assert "mileage_pu_h" in flyball("inspect", "s.csv", "--format", "pjm_wide")[1]
    refused(flyball("inspect", "s.csv", "--plot", "s.html"), "--plot", "signal")
    refused(flyball("inspect", "missing.csv"), "missing.csv")
    for words in (("backtest", "s.csv"), ("run", "--trace", "s.csv")):
        refused(flyball(*words), "s.csv", "regulation signal", "not a frequency")


def test_what_is_drawn_is_what_is_owed():
    """The lowest row with a mark over nominal is at 0 for a product with a dead band."""
    product = load("gb_dc_low")
    assert fractions(product.response, [0.0])[0] == 0.0
    lines = drawing(product, 80).plain.splitlines()
    assert lines[ROWS - 1].rstrip().endswith("█")

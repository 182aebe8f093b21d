"""`flyball inspect`: figures, the drawing in characters, the page; wrong use in one line."""

from __future__ import annotations

import gzip
import json
import re

import numpy as np
import pytest
from rich.console import Console

from aggregator import running, tracepage, tracetext
from aggregator.backtesting import recorded_gate, run
from aggregator.cli import main
from aggregator.contracts import Contract, CoreSettings
from aggregator.wanted import Wanted
from droop.products import load
from telemetry.quality import Gate
from telemetry.traces import inspect, open_trace
from telemetry.traces.picture import Picture
from tests.telemetry import trace_shapes as shapes


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


def drawn(path, width=100, **options):
    trace = open_trace(path, **options)
    gate, picture = Gate(recorded_gate(trace.nominal_hz)), Picture(trace.nominal_hz)
    report = inspect(trace, lambda block: picture.add(gate.check(block)))
    return report, picture, tracetext.drawing(report, picture, width)


def gappy(tmp_path):
    """A thousand seconds in which a quarter is missing, one row is false and one is repeated."""
    hz = 50 + 0.05 * np.sin(np.arange(1000) / 60.0)
    hz[200] = 50.4
    rows = [f"{at:%Y-%m-%d %H:%M:%S},{value:.3f}\n" for at, value in zip(shapes.clock(1000), hz, strict=True)]
    del rows[500:750]
    rows.insert(100, rows[99])
    path = tmp_path / "gappy.csv"
    path.write_text("dtm,f\n" + "".join(rows))
    return path


def test_the_keys_of_the_contract_alone_on_standard_output(flyball, tmp_path):
    gappy(tmp_path)
    code, out, err = flyball("inspect", "gappy.csv", "--json", "-")
    found = json.loads(out)
    assert (code, err) == (0, "")
    assert found.keys() >= {
        "format", "rows", "start", "end", "period_s", "gaps", "duplicates", "rejected", "hz", "nominal_hz",
    }  # fmt: skip
    assert (found["rows"], found["duplicates"], found["rejected"]) == (751, 1, {"duplicate": 1})
    assert found["gaps"] == {
        "count": 1, "total_s": 250.0, "longest_s": 250.0, "longest_start": "2026-06-22T00:08:19Z",
    }  # fmt: skip
    assert found["jitter_s"] == {"rms": 0.0, "max": 0.0}
    assert found["marked"] == {"spike": 1, "order": 1}
    assert not {"gaps_ns", "span_ns"} & found.keys()


def test_figures_and_drawing_in_plain_text(flyball, tmp_path):
    gappy(tmp_path)
    code, out, _ = flyball("inspect", "gappy.csv")
    assert code == 0
    assert "\x1b" not in out
    assert all(word in out for word in ("neso", "░", "spike", "order", "50.050", "2026-06-22T00:16:39Z"))


def test_the_drawing_shows_gaps_rejected_rows_and_shares(tmp_path):
    _, _, text = drawn(gappy(tmp_path))
    lines = text.plain.splitlines()
    curve = [line[10:] for line in lines if "░" in line]
    assert len(curve) == tracetext.ROWS
    for line in curve:  # half of the time to three quarters of it
        assert set(line[46:67]) == {"░"}
        assert "░" not in line[:44] + line[69:]
    spike = next(line for line in lines if "spike" in line)
    assert spike[10:100].index("x") == 200 * 90 // 1000
    assert spike.endswith(" 1")
    shares = [float(found) for found in re.findall(r"([\d.]+)%", text.plain)]
    assert sum(shares) == pytest.approx(100.0, abs=1.0)
    assert max(map(len, lines)) <= 105
    columns = np.array([[char == "█" for char in line.ljust(90)] for line in curve])
    assert columns[:, :44].any(axis=0).all()  # no hole in the curve but the gap


def test_on_a_terminal_the_same_in_colours(tmp_path):
    text = drawn(gappy(tmp_path))[2]
    console = Console(force_terminal=True, width=110, color_system="standard")
    with console.capture() as captured:
        console.print(text, soft_wrap=True)
    shown = captured.get()
    assert "\x1b[" in shown
    assert re.sub(r"\x1b\[[\d;]*m", "", shown).rstrip() == text.plain.rstrip()


def test_what_is_rejected_is_not_drawn_as_frequency(tmp_path):
    path = tmp_path / "dead.csv"
    path.write_text(shapes.toledo(200))
    _, picture, text = drawn(path)
    assert "40.0" not in text.plain
    assert picture.marks["dead_bus"].count == 160
    upper = [line[10:] for line in text.plain.splitlines()[: tracetext.ROWS]]
    assert not any("█" in line[20:] for line in upper)  # the bus died after a fifth of the time


def test_no_line_is_drawn_over_a_stretch_without_believed_rows(tmp_path):
    hz = [f"{50 + 0.02 * np.sin(k / 50):.3f}" if not 400 <= k < 700 else "N/A" for k in range(1000)]
    path = tmp_path / "silent.csv"
    path.write_text("dtm,f\n" + "".join(f"{at},{value}\n" for at, value in zip(shapes.clock(1000), hz, strict=True)))
    _, picture, text = drawn(path)
    columns = [line[10:].ljust(90) for line in text.plain.splitlines()[: tracetext.ROWS]]
    assert picture.marks["missing"].count == 300
    assert not any("█" in line[37:62] or "░" in line for line in columns)
    assert all(any(line[k] == "█" for line in columns) for k in [*range(36), *range(64, 90)])


def test_a_trace_of_few_rows_has_no_holes(tmp_path):
    path = tmp_path / "few.csv"
    path.write_text("dtm,f\n" + "".join(f"{at},50.{k:02d}\n" for k, at in enumerate(shapes.clock(12, 60))))
    columns = [line[10:].ljust(90) for line in drawn(path)[2].plain.splitlines()[: tracetext.ROWS]]
    assert all(any(line[k] == "█" for line in columns) for k in range(90))


def test_nothing_to_draw(tmp_path):
    path = tmp_path / "one.csv"
    path.write_text("dtm,f\n2026-06-22 00:00:00,50.0\n")
    assert "nothing to draw" in drawn(path)[2].plain


def test_the_page_needs_no_network_and_shows_gaps_and_reasons(flyball, tmp_path):
    path = gappy(tmp_path)
    code, _, _ = flyball("inspect", "gappy.csv", "--plot", "out.html", "--json", "out.json")
    html = (tmp_path / "out.html").read_text(encoding="utf-8")
    assert code == 0
    assert not re.search(r'<(script|link)[^>]+(src|href)="', html)
    assert "spike: 1" in html
    report, picture, _ = drawn(path)
    page = tracepage.page("a <b>title</b></script>", report, picture, {"rows": "751"})
    assert "</b></script>" not in page
    shapes_drawn = re.search(r'"shapes":\[(.*?)\]', page)
    assert shapes_drawn is not None
    assert shapes_drawn[1].count('"rect"') == 1
    assert '"x0":"2026-06-22T00:08:19.000000000","x1":"2026-06-22T00:12:30.000000000"' in page
    line = tracepage._broken(*picture.line.points(), report)[1]
    assert np.count_nonzero(np.isnan(line)) == 1


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["gappy.csv", "--plot", "none/out.html"], ["--plot", "none/out.html"]),
        (["gappy.csv", "--repair", "all"], ["--repair", "day-month"]),
        (["gappy.csv", "--nominal-hz", "55"], ["--nominal-hz"]),
        (["pgf.csv"], ["pgf.csv", "--repair day-month", "--repair none"]),
        (["pmu"], ["--start"]),
    ],
)
def test_wrong_use_is_one_line_with_the_remedy(flyball, tmp_path, words, names):
    gappy(tmp_path)
    (tmp_path / "pgf.csv").write_text(shapes.pgf(shapes.BEGIN.replace(day=5), 30))
    (tmp_path / "pmu").write_text(shapes.openpmu_day())
    code, out, err = flyball("inspect", *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert all(name in err for name in names), err


def test_repair_and_nominal_reach_the_reader(flyball, tmp_path):
    (tmp_path / "pgf.csv").write_text(shapes.pgf(shapes.BEGIN.replace(day=5), 30))
    _, out, _ = flyball("inspect", "pgf.csv", "--repair", "day-month", "--nominal-hz", "60", "--json", "-")
    found = json.loads(out)
    assert (found["start"], found["nominal_hz"], found["repaired"]) == ("2026-06-05T00:00:00Z", 60.0, "day-month")


def test_a_played_trace_is_read_as_told(flyball, tmp_path, monkeypatch):
    seen = {}

    def stand_in(config, log, **how):
        seen.update(how)
        raise ValueError("enough")

    monkeypatch.setattr(running, "run", stand_in)
    words = [
        "--repair", "day-month", "--tz", "Europe/Paris", "--site", "X", "--hz-col", "b", "--time-col", "a",
        "--volt-col", "c", "--nominal-hz", "50", "--format", "table", "--skip-bad",
        "--start", "2026-01-01", "--step-s", "2",
    ]  # fmt: skip
    flyball("run", "--trace", "x.csv", *words)
    assert seen["trace_overrides"] == {
        "repair": "day-month", "tz": "Europe/Paris", "site": "X", "hz_col": "b", "time_col": "a", "volt_col": "c",
        "nominal_hz": 50.0, "format": "table", "skip_bad": True, "start": "2026-01-01", "step_s": 2.0,
    }  # fmt: skip
    (tmp_path / "pgf.csv").write_text(shapes.pgf(shapes.BEGIN.replace(day=5), 30))
    assert running.check_trace(tmp_path / "pgf.csv", 50.0, {"repair": "day-month"}) == 290.0
    (tmp_path / "bad.csv").write_text("dtm,f\n2026-06-22 00:00:00,x\n")
    with pytest.raises(ValueError, match=r"bad\.csv: none of its rows"):
        running.check_trace(tmp_path / "bad.csv", 50.0, {"skip_bad": True, "nominal_hz": 50.0})


@pytest.mark.parametrize("packed", [False, True])
def test_how_much_of_a_file_has_been_read_ends_at_all_of_it(tmp_path, packed):
    path = gappy(tmp_path)
    if packed:
        path.write_bytes(gzip.compress(path.read_bytes()))
    trace = open_trace(path)
    told = [trace.read_frac for _ in trace]
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_a_backtest_counts_what_its_reader_dropped(tmp_path):
    clean = shapes.openpmu([1000.0 + k for k in range(30)], "")
    damaged = clean.replace("*", "x*", 1) + "$KTH01,V1xx0,1030.000,1.5"
    (tmp_path / "pmu").write_text(damaged)
    trace = open_trace(tmp_path / "pmu", start="2026-01-01", skip_bad=True)
    settings = CoreSettings("us", 4, (Contract(load("ieee1547"), 8.0),))
    found = run(Wanted([trace], settings, recorded_gate(60.0), seed=1, perfect=True))
    assert (found["format"], found["samples"]) == ("openpmu", 29)
    assert found["rejected"] == {"checksum": 1, "malformed": 1}

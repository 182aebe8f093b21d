"""The command line from outside: what it prints where, and how wrong use reads. No process is started."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer

from aggregator.cli import app, main
from aggregator.cli.output import text
from aggregator.journal import Entry, Kind
from aggregator.journal_files import JournalWriter

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = (
    "run", "backtest", "bid", "respond", "products", "products show", "inspect", "doctor", "ied", "pmu", "ingest",
    "worker", "gateway", "api", "utility", "settle", "replay", "explain", "journal", "discover", "acl",
    "verify", "seal", "prove", "redact", "evidence", "account", "prequalify", "report", "compare", "fleet fit",
    "stability", "study", "sample",
)  # fmt: skip


class Said(NamedTuple):
    """What a command printed and its exit status."""

    code: int
    out: str
    err: str

    def json(self) -> object:
        return json.loads(self.out)


@pytest.fixture
def flyball(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Iterator[Callable[..., Said]]:
    """Call the entry point as the script does."""
    monkeypatch.chdir(tmp_path)
    for name in ("FLYBALL_REDIS_URL", "FLYBALL_API_TOKEN", "FLYBALL_COMMAND_KEY"):
        monkeypatch.delenv(name, raising=False)

    def call(*words: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["flyball", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        sys.stdout.flush()
        out, err = capfd.readouterr()
        code = ended.value.code
        return Said(code if isinstance(code, int) else int(bool(code)), out, err)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield call
    # What a process of its own may set for itself.
    for number, handler in before.items():
        signal.signal(number, handler)


def refused(said: Said, *names: str) -> None:
    """Exit 2, nothing on standard output, one line on standard error that names these."""
    assert said.code == 2, said
    assert said.out == ""
    assert said.err.count("\n") == 1, said.err
    assert said.err.startswith("flyball: ")
    for name in names:
        assert name in said.err


def test_every_command_is_there_and_helps_with_an_example(flyball: Callable[..., Said]) -> None:
    listed = flyball("--help")
    assert listed.code == 0
    for command in COMMANDS:
        said = flyball(*command.split(), "--help")
        assert said.code == 0
        assert "Example:" in said.out, command
        assert f"flyball {command}" in said.out, command
        assert command.split()[0] in listed.out
    known = {info.name or info.callback.__name__ for info in app.registered_commands} | {"products", "fleet"}
    assert known == {command.split()[0] for command in COMMANDS}


def test_no_command_shows_what_there_is(flyball: Callable[..., Said]) -> None:
    said = flyball()
    assert said.code == 2
    assert said.out == ""
    assert "backtest" in said.err


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["nope"], ["nope", "--help"]),
        (["run", "--nope"], ["--nope", "flyball run --help"]),
        (["run", "--rate", "abc"], ["--rate", "number"]),
        (["run", "--rate", "0"], ["rate_hz", "0"]),
        (["run", "--rate", "nan"], ["rate_hz", "nan"]),
        (["run", "--rate", "1e9"], ["rate_hz", "1000"]),
        (["run", "--vehicles", "0"], ["vehicles"]),
        (["run", "--vehicles", "-5"], ["vehicles"]),
        (["run", "--sold-kw", "-1"], ["sold_kw"]),
        (["run", "--sold-kw", "inf"], ["sold_kw"]),
        (["run", "--port", "99999"], ["port"]),
        (["run", "--seconds", "0"], ["--seconds"]),
        (["run", "--seconds", "nan"], ["--seconds"]),
        (["run", "--product", "ce_fcrr"], ["ce_fcrr", "`ce_fcr`"]),
        (["run", "--product", "missing.toml"], ["missing.toml"]),
        (["run", "--fault", "spyke@3"], ["spyke@3", "spike"]),
        (["run", "--fault", "spike"], ["spike", "KIND@SECONDS"]),
        (["run", "--trace", "missing.csv"], ["missing.csv", "No such file"]),
        (["run", "--config", "missing.toml"], ["missing.toml"]),
        (["ied", "--backend", "libiec"], ["backend", "libiec61850"]),
        (["discover", "missing.icd"], ["missing.icd", "No such file"]),
        (["discover", "127.0.0.1:1"], ["127.0.0.1:1", "refused"]),
        (["discover", "127.0.0.1:x"], ["127.0.0.1:x", "HOST:PORT"]),
        (["discover", "192.0.2.1"], ["192.0.2.1", "plaintext"]),
        (["discover", "127.0.0.1:1", "--cert", "a.pem"], ["--key"]),
        (["discover", "127.0.0.1:1", "--cert", "a.pem", "--key", "a.key"], ["pin"]),
        (["discover", "127.0.0.1:1", "--backend", "libiec"], ["libiec61850"]),
        (["ied", "--rate", "-1"], ["rate_hz"]),
        (["ied", "--fault", "nope@1"], ["nope@1"]),
        (["ingest"], ["FLYBALL_REDIS_URL"]),
        (["worker"], ["FLYBALL_REDIS_URL"]),
        (["gateway"], ["FLYBALL_REDIS_URL"]),
        (["api"], ["FLYBALL_REDIS_URL"]),
        (["settle"], ["FLYBALL_REDIS_URL"]),
        (["settle", "nowhere"], ["FOLDER", "nowhere"]),
        (["replay", "nowhere"], ["FOLDER", "nowhere"]),
        (["replay"], ["folder"]),
        (["journal", "nowhere"], ["FOLDER", "nowhere"]),
        (["journal"], ["folder"]),
        (["respond", "ce_fcr"], ["hz"]),
        (["respond", "ce_fcr", "x"], ["hz", "number"]),
        (["respond", "ce_fcr", "20"], ["HZ", "20"]),
        (["respond", "ce_fcr", "nan"], ["HZ"]),
        (["respond", "ce_fc", "50"], ["ce_fc", "`ce_fcr`"]),
        (["products", "show", "nordic_fcrn"], ["nordic_fcrn", "`nordic_fcr_n`"]),
        (["inspect", "missing.csv"], ["missing.csv"]),
        (["backtest", "missing.csv"], ["missing.csv"]),
        (["backtest"], ["trace"]),
    ],
)  # fmt: skip
def test_wrong_use_is_one_line_that_names_the_field(
    flyball: Callable[..., Said], tmp_path: Path, words: list[str], names: list[str]
) -> None:
    refused(flyball(*words), *names)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("table", "names"),
    [
        ("[flet]\nvehicles = 3\n", ["flet", "`fleet`"]),
        ("[fleet]\nvehicels = 3\n", ["fleet.vehicels", "`fleet.vehicles`"]),
        ("[unit]\nrate = 3\n", ["unit.rate", "`unit.rate_hz`"]),
        ("[unit]\nbackend = 'libiec'\n", ["unit.backend", "libiec61850"]),
        ("[fleet]\nvehicles = 'many'\n", ["fleet.vehicles", "many"]),
        ("vehicles =\n", ["c.toml", "TOML"]),
        ("[[contract]]\nproduct = 'gb_dc_lo'\n", ["gb_dc_lo", "`gb_dc_low`"]),
        ("[[contract]]\nproduct = 'ce_fcr'\nsold = 3\n", ["sold", "sold_kw"]),
        ("[[contract]]\nproduct = 'ce_fcr'\n[[contract]]\nproduct = 'ieee1547'\n", ["contract", "60"]),
        ("area = 'C E'\n", ["area"]),
    ],
)
def test_a_wrong_configuration_is_named(
    flyball: Callable[..., Said], tmp_path: Path, table: str, names: list[str]
) -> None:
    (tmp_path / "c.toml").write_text(table, encoding="utf-8")
    refused(flyball("run", "--config", "c.toml", "--seconds", "1"), *names)
    assert not (tmp_path / "var").exists()


def trace(path: Path, hz: float = 50.0, rows: int = 30, spoil: int | None = None) -> Path:
    lines = [f"2026-06-22 00:00:{k:02d},{hz + 0.001 * k:.3f}" for k in range(rows)]
    if spoil is not None:
        lines[spoil] = "2026-06-22 00:00:10,what"
    path.write_text("\n".join(["dtm,f", *lines]) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("command", ["run --trace", "backtest", "inspect"])
def test_a_malformed_trace_is_named_with_its_line(flyball: Callable[..., Said], tmp_path: Path, command: str) -> None:
    trace(tmp_path / "t.csv", spoil=10)
    refused(flyball(*command.split(), "t.csv"), "t.csv:12: ")
    (tmp_path / "empty.csv").write_bytes(b"")
    refused(flyball(*command.split(), "empty.csv"), "empty.csv")
    assert {path.name for path in tmp_path.iterdir()} == {"t.csv", "empty.csv"}


@pytest.mark.parametrize("command", ["run --trace", "backtest"])
def test_a_60_hz_trace_is_refused_on_a_50_hz_product(
    flyball: Callable[..., Said], tmp_path: Path, command: str
) -> None:
    trace(tmp_path / "t.csv", hz=60.0)
    refused(flyball(*command.split(), "t.csv"), "60 Hz", "50 Hz", "choose a product")
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]


def test_respond_agrees_with_the_rulebook_to_the_last_digit(flyball: Callable[..., Said]) -> None:
    with (ROOT / "tests" / "droop" / "golden" / "curves.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    assert len(rows) > 10
    for row in rows:
        found = flyball("respond", row["product"], row["hz"], "--json", "-").json()
        assert isinstance(found, dict)
        assert (found.keys(), found["product"]) == ({"product", "hz", "fraction"}, row["product"])
        assert found["hz"] == float(row["hz"])
        assert found["fraction"] == pytest.approx(float(row["expected"]), abs=float(row["tolerance"]), rel=0), row["id"]


def test_products_in_full(flyball: Callable[..., Said]) -> None:
    rows = flyball("products", "--json", "-").json()
    assert isinstance(rows, list)
    assert {row["id"] for row in rows} >= {
        "ce_fcr", "nordic_fcr_n", "nordic_fcr_d_up", "nordic_fcr_d_down", "gb_dc_low", "gb_dc_high", "ieee1547",
    }  # fmt: skip
    for row in rows:
        shown = flyball("products", "show", row["id"], "--json", "-").json()
        assert shown == row
        assert row["curve"]
        assert row["sources"]
        assert row["confidence"]
    assert "ce_fcr" in flyball("products").out


def test_inspect_and_a_file_for_the_result(flyball: Callable[..., Said], tmp_path: Path) -> None:
    trace(tmp_path / "t.csv")
    found = flyball("inspect", "t.csv", "--json", "-").json()
    assert isinstance(found, dict)
    assert found.keys() >= {
        "format", "rows", "start", "end", "period_s", "gaps", "duplicates", "rejected", "hz", "nominal_hz",
    }  # fmt: skip
    assert found["gaps"].keys() >= {"count", "total_s", "longest_s"}
    assert found["hz"].keys() >= {"min", "max", "mean", "std"}
    assert (found["rows"], found["nominal_hz"], found["period_s"]) == (30, 50.0, 1.0)
    said = flyball("inspect", "t.csv", "--json", "out.json")
    assert said.code == 0
    assert json.loads((tmp_path / "out.json").read_bytes()) == found
    assert "nominal_hz" in said.out  # people still see it
    refused(flyball("inspect", "t.csv", "--json", "no/such/folder.json"), "no/such/folder.json")


def test_backtest_says_all_the_contract_promises(flyball: Callable[..., Said], tmp_path: Path) -> None:
    trace(tmp_path / "t.csv", hz=49.9, rows=60)
    said = flyball("backtest", "t.csv", "--vehicles", "20", "--json", "-")
    assert said.code == 0
    found = said.json()
    assert isinstance(found, dict)
    assert found.keys() >= {
        "format", "samples", "rejected", "gap_s", "requested_up_kwh", "requested_down_kwh", "delivered_up_kwh",
        "delivered_down_kwh", "energy_up_kwh", "energy_balance_error_kwh", "throughput_kwh", "max_sum_error_kw",
        "bound_violations", "unserved_kwh", "unserved_by_reason", "score", "score_note", "soc_min_frac", "soc_max_frac",
    }  # fmt: skip
    assert found["samples"] == 60
    assert found["bound_violations"] == 0


def test_backtest_heeds_the_configuration_of_a_run(flyball: Callable[..., Said], tmp_path: Path) -> None:
    """Each table tells: the fleet's least powers, a cap, the engine, two contracts, the gate; options come on top."""
    rows = [f"2026-06-22 00:00:{k:02d},{49.9 + 0.001 * min(k, 20):.3f}" for k in range(60)]
    (tmp_path / "t.csv").write_text("\n".join(["dtm,f", *rows]) + "\n", encoding="utf-8")
    (tmp_path / "c.toml").write_text(
        "[fleet]\nvehicles = 30\nminimum_power = true\n[engine]\nmost_frac = 0.5\n[quality]\nstuck_s = 25\n"
        "[[contract]]\nproduct = 'ce_fcr'\nsold_kw = 20\n[[contract]]\nproduct = 'nordic_fcr_n'\nsold_kw = 5\n"
        "[[site]]\nname = 'street'\nfirst = 5\ncount = 20\nexport_kw = 1\nimport_kw = 1\n",
        encoding="utf-8",
    )

    def ran(*options: str) -> dict[str, Any]:
        said = flyball("backtest", "t.csv", "--config", "c.toml", *options, "--json", "-")
        assert said.code == 0, said.err
        found = said.json()
        assert isinstance(found, dict)
        assert found["bound_violations"] == 0
        return found

    found = ran()
    assert found["products"] == [{"id": "ce_fcr", "sold_kw": 20.0}, {"id": "nordic_fcr_n", "sold_kw": 5.0}]
    assert found["switches"] > 0
    assert found["rejected"]["stuck"] > 10  # off in a backtest unless it is set
    assert ran("--perfect")["switches_per_vehicle_h"] is None
    assert ran("--sold-kw", "7")["products"] == [{"id": "ce_fcr", "sold_kw": 7.0}]
    assert ran("--seed", "2")["soc_max_frac"] != found["soc_max_frac"]
    # Fewer vehicles than the street has rows.
    refused(flyball("backtest", "t.csv", "--config", "c.toml", "--vehicles", "20"), "site.count", "street", "20")
    (tmp_path / "open.toml").write_text((tmp_path / "c.toml").read_text().partition("[[site]]")[0], encoding="utf-8")
    free = flyball("backtest", "t.csv", "--config", "open.toml", "--json", "-").json()
    assert isinstance(free, dict)
    assert free["throughput_kwh"] != found["throughput_kwh"]


def test_the_module_is_the_script() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "aggregator.cli", "respond", "ce_fcr", "49.9"],
        cwd=ROOT, capture_output=True, timeout=600, check=False,
    )  # fmt: skip
    assert ended.returncode == 0
    assert float(ended.stdout) == pytest.approx(0.5)


def test_an_error_nobody_foresaw_is_not_dressed_up(
    flyball: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(**_: object) -> None:
        raise KeyError("a fault of ours")

    monkeypatch.setattr("aggregator.cli.app", broken)
    monkeypatch.setattr(sys, "argv", ["flyball"])
    with pytest.raises(KeyError):
        main()


def test_ctrl_c_is_told_apart(flyball: Callable[..., Said], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(**_: object) -> None:
        raise typer.Abort

    monkeypatch.setattr("aggregator.cli.app", interrupted)
    assert flyball("run").code == 130


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "-"), (float("nan"), "-"), (1.23456789, "1.23457"), ({}, "none"), ({"a": 1}, "a 1"), ([1, None], "1, -")],
)
def test_figures_as_people_read_them(value: object, shown: str) -> None:
    assert text(value) == shown


def test_what_could_not_be_served_or_written_is_refused_before_anything_starts(
    flyball: Callable[..., Said], tmp_path: Path
) -> None:
    config = tmp_path / "open.toml"
    config.write_text(f'folder = "{tmp_path}/var"\n[api]\nhost = "0.0.0.0"\n', encoding="utf-8")
    said = flyball("run", "--config", str(config), "--seconds", "1", "--no-browser")
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert "TLS" in said.err
    assert not (tmp_path / "var").exists()
    for command in (("run", "--seconds", "1"), ("backtest", "no-trace.csv")):
        said = flyball(*command, "--json", str(tmp_path / "no" / "x.json"))
        assert (said.code, said.out) == (2, "")
        assert "--json" in said.err


def test_a_journal_is_listed_and_what_is_passed_over_is_named(flyball: Callable[..., Said], tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path / "journal")
    now_ns = 1_700_000_000 * 10**9
    writer.append([Entry(Kind.START, 0, 0, 0, b"{}"), Entry(Kind.TIME, 0, 1, now_ns, b"12345678")], "7-1")
    writer.append([Entry(Kind.TIME, 0, 5, now_ns + 10**9, b"12345678")], "7-4")
    writer.flush()
    (tmp_path / "journal" / "notes.txt").touch()
    for folder in (tmp_path, tmp_path / "journal"):
        said = flyball("journal", str(folder), "--json", "-")
        assert said.code == 0
        found = json.loads(said.out)
        assert [(row["epoch"], row["first"], row["last"]) for row in found["spans"]] == [(7, 0, 5)]
        assert [(row["reason"], row["first"], row["last"]) for row in found["gaps"]] == [("stream", 2, 4)]
        assert found["kinds"]["calls"]["rows"] == 3
        assert [row["reason"] for row in found["problems"]] == ["foreign"]
        assert said.err.count("\n") == 1
        assert "notes.txt" in said.err
    shown = flyball("journal", str(tmp_path))
    assert "2023-11-14T22:13:20.000Z" in shown.out
    assert "stream: 7: 2..4" in shown.out


def test_discover_says_what_a_unit_has_and_what_a_file_says(flyball: Callable[..., Said], tmp_path: Path) -> None:
    from tests.telemetry.ieds import need, unit_here
    from tests.telemetry.test_iec61850_discovery import STRANGER

    need("libiec61850")
    with unit_here("libiec61850") as unit:
        found: Any = flyball("discover", f"127.0.0.1:{unit.port}", "--json", "-").json()
        shown = flyball("discover", f"127.0.0.1:{unit.port}")
    assert (found["report_block"], found["history_block"]) == ("GRIDMEAS/LLN0.RP.urcb01", "GRIDMEAS/LLN0.BR.brcb01")
    assert found["points"][0]["power"] == "GRIDMEAS/MMXU1.TotW"
    assert {"control", "history", "GRIDMEAS/LLN0.RP.urcb03"} <= set(shown.out.split())
    (tmp_path / "bay.cid").write_text(STRANGER, encoding="utf-8")
    found = flyball("discover", "bay.cid", "--json", "-", "--hz-ref", "BAY7PQ/AMMXU3.Hz").json()
    assert (found["report_block"], found["history_block"]) == ("BAY7CTRL/LLN0.RP.far", None)


def test_the_units_table_reaches_its_client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from aggregator.config import load
    from aggregator.measuring import client_options

    path = tmp_path / "c.toml"
    path.write_text("[unit]\npoll_ms = 0\nplaintext = true\n[unit.tls]\ncert = 'c'\nkey = 'k'\npins = ['p']\n")
    monkeypatch.setenv("FLYBALL_UNIT_PASSWORD", "one")
    monkeypatch.setenv("FLYBALL_UNIT_KEY_PASSWORD", "two")
    options = client_options(load(path).unit)
    assert (options["poll_ms"], options["plaintext"], options["password"]) == (None, True, "one")
    tls = options["tls"]
    assert (tls.cert, tls.key, tls.pins, tls.ca, tls.key_password) == (Path("c"), Path("k"), (Path("p"),), (), "two")
    assert client_options(load(None).unit)["tls"] is None


def test_a_backtest_without_its_input_says_what_is_missing(flyball: Callable[..., Said], tmp_path: Path) -> None:
    said = flyball("backtest")
    assert (said.code, said.err.strip()) == (
        2, "flyball: trace: what is sold responds to frequency; give a recorded one"
    )  # fmt: skip
    said = flyball("backtest", "--signal", "none.csv")
    assert (said.code, "none.csv: no such signal file" in said.err) == (2, True)

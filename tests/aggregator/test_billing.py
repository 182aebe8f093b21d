"""A recorded run to its bill and its files: the golden case, corrections, and all or nothing."""

from __future__ import annotations

import csv
import json
from decimal import Decimal
from functools import cache
from pathlib import Path

import orjson
import pyarrow.parquet as pq
import pytest

from aggregator import billing, exporting, nordic
from aggregator.billing import Asked, BillingError
from aggregator.exporting import ACCOUNT, MANIFEST, ExportError
from settlement import entries
from settlement.prices import MissingPriceError
from tests.aggregator.recorded import GOLDEN, record
from tests.aggregator.test_cli import flyball, refused  # noqa: F401 - a fixture
from tests.aggregator.test_settle import START_S

NS = 1_000_000_000


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return record(tmp_path_factory.mktemp("run"))


def asked(**more):
    return Asked(**({"prices": GOLDEN / "prices.csv", "contracts": GOLDEN / "contracts.csv"} | more))


@cache  # nothing that is settled is changed by what is done with it
def settled(run, **more):
    return billing.settle(run / "journal", asked(**more), [])


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_golden_settlement(run, tmp_path):
    """See tests/golden/settlement/README.md: worked out by hand there, and every digit held here."""
    found = settled(run, end_ns=(START_S + 1800) * NS)
    exporting.export(tmp_path / "out", "csv", found)
    for name in ("lines.csv", "totals.csv"):
        assert (tmp_path / "out" / name).read_text() == (GOLDEN / name).read_text(), name


def test_the_forms_say_the_same(run, tmp_path):
    found = settled(run)
    for form in exporting.FORMATS:
        exporting.export(tmp_path / form, form, found)
    plain = rows(tmp_path / "csv" / "lines.csv")
    table = pq.read_table(tmp_path / "parquet" / "lines.parquet")
    assert str(table.schema.field("amount").type) == "decimal128(38, 2)"
    told = orjson.loads((tmp_path / "json" / "lines.json").read_bytes())
    amounts = [Decimal(row["amount"]) for row in plain]
    assert amounts == table.column("amount").to_pylist() == [Decimal(row["amount"]) for row in told]
    assert len(amounts) > 5
    statements = rows(tmp_path / "csv" / "statements.csv")
    assert pq.read_table(tmp_path / "parquet" / "statements.parquet").num_rows == len(statements) == 3
    assert float(statements[1]["samples.count"]) == 900 + 32
    assert statements[0]["final"] == "true"


def test_a_better_price_corrects_the_bill_and_the_account_keeps_both(run, tmp_path):
    out, better = tmp_path / "out", tmp_path / "prices.csv"
    first = exporting.export(out, "csv", settled(run))
    assert (first["entries_added"], first["corrections"]) == (2, 0)
    assert exporting.export(out, "csv", settled(run))["entries_added"] == 0
    before = (out / ACCOUNT).read_bytes()
    better.write_text((GOLDEN / "prices.csv").read_text().replace("40.00", "44.00"))
    found = settled(run, prices=better)
    again = exporting.export(out, "parquet", found)
    assert (again["entries_added"], again["corrections"]) == (4, 2)
    assert (out / ACCOUNT).read_bytes().startswith(before)
    assert {path.name for path in out.iterdir()} == {
        ACCOUNT, MANIFEST, "lines.parquet", "statements.parquet", "totals.parquet",
    }  # fmt: skip
    account = exporting.account(out)
    posted = sum(entry.amounts["EUR"] for entry in account)
    assert posted == sum(item.line.amount for item in found.bill.items if item.final)
    assert [entry.kind for entry in account] == ["bill", "bill", "reversal", "correction", "reversal", "correction"]


def full(_):
    raise OSError("disk full")


def test_nothing_is_written_where_a_price_is_missing_or_the_disk_is_full(run, tmp_path, monkeypatch):
    out, short = tmp_path / "out", tmp_path / "prices.csv"
    text = (GOLDEN / "prices.csv").read_text()
    short.write_text(text.replace("2023-11-15 00:00,40", "2023-11-14 23:30,40"))
    with pytest.raises(MissingPriceError, match=r"2023-11-14T22:30:00Z \.\. 2023-11-14T22:35:00Z"):
        settled(run, prices=short)
    found = settled(run)
    exporting.export(out, "csv", found)
    held = {path.name: path.read_bytes() for path in out.iterdir()}
    monkeypatch.setattr(exporting.os, "fsync", full)
    with pytest.raises(OSError, match="disk full"):
        exporting.export(out, "json", found)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == held
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_crash_between_two_renames_loses_nothing(run, tmp_path):
    out = tmp_path / "out"
    exporting.export(out, "csv", settled(run))
    held = (out / ACCOUNT).read_bytes()
    out.rename(tmp_path / ".out.before")
    (tmp_path / ".out.new").mkdir()
    assert exporting.export(out, "csv", settled(run))["entries_added"] == 0
    assert (out / ACCOUNT).read_bytes() == held
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_of_something_else_is_left_alone(run, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    exporting.export(out, "csv", settled(run))
    (out / "photo.jpg").write_bytes(b"x")
    with pytest.raises(ExportError, match=r"photo\.jpg, which no settlement wrote"):
        exporting.export(out, "csv", settled(run))
    (out / "photo.jpg").unlink()
    (out / ACCOUNT).write_text("{}\n")
    with pytest.raises(entries.EntryError, match="line 1"):
        exporting.export(out, "csv", settled(run))
    with pytest.raises(ExportError, match="csv, parquet, json"):
        exporting.check(out, "xlsx")
    with pytest.raises(ExportError, match="is a file"):
        exporting.check(GOLDEN / "prices.csv", "csv")
    with pytest.raises(ExportError, match="no such folder"):
        exporting.check(tmp_path / "a" / "b", "csv")


def test_only_what_was_asked(run):
    first_ns = START_S * NS
    found = settled(run, start_ns=first_ns + 1)
    assert [item.start_ns for item in found.statements] == [first_ns + 900 * NS, first_ns + 1800 * NS]
    assert len(settled(run, end_ns=first_ns + 900 * NS).statements) == 1
    with pytest.raises(BillingError, match="no interval was settled"):
        settled(run, start_ns=first_ns + 86_400 * NS)
    with pytest.raises(BillingError, match=r"did not sell it; did you mean `golden_fcr`\?"):
        settled(run, products=("golden_fcrr",))
    with pytest.raises(BillingError, match="go with --prices"):
        settled(run, prices=None)
    assert settled(run, prices=None, contracts=None).bill is None


def test_late_messages_are_charged_once(run, tmp_path):
    product = (GOLDEN / "product.toml").read_text().replace("lack_of_response = 20", "admin_eur = 2500")
    (tmp_path / "p.toml").write_text(product)
    other = record(tmp_path / "run", ((str(tmp_path / "p.toml"), 1000.0),), 960)
    found = settled(other, late_messages=2)
    assert found.bill.items[-1].line.amount == -5000
    assert exporting.export(tmp_path / "out", "csv", found)["entries_added"] == 2
    with pytest.raises(BillingError, match="0 of the products"):
        settled(run, late_messages=1)


def test_the_command_line(run, tmp_path, flyball):  # noqa: F811
    prices = ["--prices", str(GOLDEN / "prices.csv"), "--contracts", str(GOLDEN / "contracts.csv")]
    said = flyball("settle", str(run), *prices, "--out", "bill", "--format", "json", "--json", "-")
    assert said.code == 0, said.err
    told = json.loads(said.out)
    (total,) = told["income"]["totals"]
    assert (total["product"], total["currency"]) == ("golden_fcr", "EUR")
    assert Decimal(total["amount"]) == sum(Decimal(line["amount"]) for line in told["lines"])
    assert told["income"]["marks"] == ["M", "V"]
    assert told["files"] == sorted(path.name for path in Path("bill").iterdir())
    assert [row["key"] for row in told["statements"]] == [
        row["key"] for row in flyball("settle", str(run), "--json", "-").json()
    ]
    shown = flyball("settle", str(run), *prices)
    assert "golden_fcr [EUR]" in shown.out
    assert total["amount"] in shown.out


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["--prices", "nowhere.csv"], ["nowhere.csv", "No such file"]),
        (["--prices", "x.xlsx"], ["x.xlsx", ".csv, .json, .parquet"]),
        (["--contracts", "c.csv"], ["--prices"]),
        (["--from", "noon"], ["--from", "noon"]),
        (["--out", "a/b"], ["--out", "a/b"]),
        (["--out", "o", "--format", "xml"], ["--format", "csv"]),
        (["--nordic", "R1:SE3"], ["--nordic", "--out"]),
        (["--nordic", "R1", "--out", "o"], ["RESOURCE:AREA"]),
        (["--nordic", "R1:SE3", "--out", "o"], ["nordic_fcr_n"]),
        (["--product", "gb_dc_low"], ["gb_dc_low", "golden_fcr"]),
    ],
)
def test_what_is_wrong_is_refused_in_one_line_and_nothing_is_written(run, flyball, words, names):  # noqa: F811
    refused(flyball("settle", str(run), *words), *names)
    assert list(Path().iterdir()) == []


def test_options_without_a_folder_do_not_start_a_process(flyball, tmp_path):  # noqa: F811
    refused(flyball("settle", "--prices", str(GOLDEN / "prices.csv")), "FOLDER")
    assert not list(tmp_path.iterdir())


def test_nordic_files_have_the_name_the_head_and_the_form_of_the_test_program(tmp_path, flyball):  # noqa: F811
    both = (
        ("nordic_fcr_n", "symmetric", [[-0.1, 1.0], [0.1, -1.0]]),
        ("nordic_fcr_d_up", "up", [[-0.5, 1.0], [-0.1, 0.0]]),
    )
    for name, way, curve in both:  # of the test's own, so that it does not move with the catalogue
        text = f'id = "{name}_x"\ntitle = "t"\narea = "N"\nnominal_hz = 50.0\ndirection = "{way}"\ncurve = {curve}\n'
        (tmp_path / f"{name}.toml").write_text(text)
    sold = ((str(tmp_path / "nordic_fcr_n.toml"), 1000.0), (str(tmp_path / "nordic_fcr_d_up.toml"), 500.0))
    run = record(tmp_path / "run", sold, 960)
    said = flyball("settle", str(run), "--out", "out", "--nordic", "FCPG1:SE3", "--json", "-")
    assert said.code == 0, said.err
    names = sorted((path.name for path in Path("out").glob("FCPG1_*")), reverse=True)
    assert [name.split("_")[1] for name in names] == ["Fcrn", "FcrdUp"]
    assert names[0] == "FCPG1_Fcrn_Operation_SE3_UTC_20231114T2215-20231114T2230_1s_20231114.csv"
    raw = (Path("out") / names[0]).read_bytes()
    raw.decode("ascii")
    assert raw.count(b"\r\n") == raw.count(b"\n")
    head, *body = [line.split(",") for line in raw.decode().rstrip("\r\n").split("\r\n")]
    assert head == [
        "DateTime", "InsAcPow", "GridFreq", "ApplFreqSig", "CalcBaseline", "ContMode_Fcrn", "Cap_Fcrn",
        "ContStatus_Fcrn", "RegStr_Fcrn", "Pmin", "Pmax", "Activated_Fcrn", "ResSize_Fcrn", "NEM_MW_Fcrn", "NEM_Fcrn",
        "AEM_Fcrn", "SOC",
    ]  # fmt: skip
    assert {len(row) for row in body} == {len(head)}
    by_time = {row[0]: dict(zip(head, row, strict=True)) for row in body}
    row = by_time["20231114T221600.000"]
    figures = {name: float(row[name]) for name in ("InsAcPow", "CalcBaseline", "Activated_Fcrn", "Cap_Fcrn")}
    assert figures["CalcBaseline"] == -0.8
    assert figures["Activated_Fcrn"] == pytest.approx(figures["InsAcPow"] + 0.8, abs=2e-6) != 0
    # 1 MW was sold, the band leaves 0.6 MW below the baseline.
    assert (figures["Cap_Fcrn"], float(row["RegStr_Fcrn"])) == (0.6, 6.0)
    assert (float(row["Pmin"]), float(row["Pmax"]), row["ContStatus_Fcrn"]) == (-1.4, 1.2, "1")
    assert (row["ContMode_Fcrn"], row["ApplFreqSig"], row["SOC"]) == ("NORDICFCRNX", "", "")
    up = (Path("out") / names[1]).read_bytes().decode().split("\r\n")[1].split(",")
    assert [float(up[k]) for k in (6, 8)] == [0.5, 1.25]  # sold whole; over 0.4 Hz
    silent = by_time["20231114T222100.000"]
    assert (silent["InsAcPow"], silent["Activated_Fcrn"]) == ("", "")
    assert silent["GridFreq"] != ""


def test_names_of_nordic_files():
    made = nordic.file_name("R-1", "FcrdDo", "Operation", "FI", START_S * NS, (START_S + 900) * NS, 0.1)
    assert made == "R-1_FcrdDo_Operation_FI_UTC_20231114T2215-20231114T2230_100ms_20231114.csv"
    for resource, area in (("a_b", "FI"), ("", "FI"), ("é", "FI"), ("a", "S/3"), ("a", "")):
        with pytest.raises(nordic.NordicError, match="letters, digits and hyphens"):
            nordic.file_name(resource, "Fcrn", "Operation", area, 0, NS, 1.0)

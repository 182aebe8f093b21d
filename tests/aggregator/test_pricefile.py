"""Files of prices and contracts: three forms of one thing, refused whole when a row is wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aggregator.pricefile import TableFileError, prices, sales
from droop.products import load
from droop.promises import Market
from settlement import calendar
from settlement.prices import PriceError
from settlement.sales import SaleError

CE = replace(load("ce_fcr"), market=Market(zone="Europe/Berlin", currency="EUR", price_unit="EUR/MW/h"))
PRODUCTS = {"ce_fcr": CE}
HEAD = "product,start,end,price,unit"
ROW = "ce_fcr,2026-06-22T00:00:00Z,2026-06-22T04:00:00Z,12.345678901234567890,EUR/MW/h"
T = calendar.nanoseconds(datetime(2026, 6, 22, tzinfo=UTC))
HOUR = 3_600_000_000_000


def written(path, *rows, head=HEAD):
    path.write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")
    return path


def only(path, kind="capacity", hours=4):
    return prices(path, PRODUCTS)[0].at("ce_fcr", kind, T, T + hours * HOUR)


def test_the_three_forms_are_one_and_keep_every_digit(tmp_path):
    plain = dict(zip(HEAD.split(","), ROW.split(","), strict=True))
    csv = only(written(tmp_path / "a.csv", ROW))
    assert csv.price == Decimal("12.345678901234567890")
    assert (csv.currency, csv.kind, csv.source) == ("EUR", "capacity", "")
    text = json.dumps(plain).replace(f'"{plain["price"]}"', plain["price"])
    (tmp_path / "a.json").write_text(f"[{text}]")
    (tmp_path / "lines.json").write_text(f"{text}\n")
    columns = plain | {
        "start": datetime(2026, 6, 22, tzinfo=UTC), "end": datetime(2026, 6, 22, 4, tzinfo=UTC),
        "price": Decimal(plain["price"]),
    }  # fmt: skip
    pq.write_table(pa.table({name: [value] for name, value in columns.items()}), tmp_path / "a.parquet")
    for name in ("a.json", "lines.json", "a.parquet"):
        assert only(tmp_path / name) == csv, name


def test_times_are_the_markets_own_where_they_name_no_offset(tmp_path):
    rows = ["ce_fcr,2026-06-22 02:00,2026-06-22 06:00,1,EUR/MW/h", "other,2026-06-22 02:00,2026-06-22 06:00,1,EUR/MWh"]
    book, leaps = prices(written(tmp_path / "a.csv", *rows), PRODUCTS)
    assert book.find("ce_fcr", "capacity", T, T + 4 * HOUR) is not None
    assert book.find("other", "capacity", T + 2 * HOUR, T + 6 * HOUR) is not None
    assert leaps == 0


def test_a_length_stands_for_an_end_and_kinds_for_other_prices(tmp_path):
    head = "product,start,length_s,price,unit,kind,currency,source"
    path = written(
        tmp_path / "a.csv", "ce_fcr,2026-06-22T00:00:00Z,14400,-3,EUR/MWh,energy,EUR,day ahead",
        "ce_fcr,2026-06-22T00:00:00Z,0.5,2,1,mileage_ratio,,", head=head,
    )  # fmt: skip
    found = only(path, "energy")
    assert (found.price, found.source, found.end_ns) == (-3, "day ahead", T + 4 * HOUR)
    assert prices(path, PRODUCTS)[0].at("ce_fcr", "mileage_ratio", T, T + 500_000_000).price == 2


def test_a_leap_second_is_counted(tmp_path):
    path = written(tmp_path / "a.csv", "x,2016-12-31T23:00:00Z,2016-12-31T23:59:60Z,1,EUR/MWh")
    book, leaps = prices(path, {})
    assert leaps == 1
    end_ns = calendar.nanoseconds(datetime(2017, 1, 1, tzinfo=UTC))
    assert book.find("x", "capacity", end_ns - HOUR, end_ns) is not None


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("ce_fcr,2026-06-22T00:00:00Z,2026-06-22T04:00:00Z,12;5,EUR/MW/h", "row 1: field `price` .* not '12;5'"),
        ("ce_fcr,2026-06-22T00:00:00Z,2026-06-22T04:00:00Z,nan,EUR/MW/h", "row 1: field `price`"),
        ("ce_fcr,2026-06-22T00:00:00Z,2026-06-22T04:00:00Z,,EUR/MW/h", "row 1: field `price`"),
        ("ce_fcr,noon,2026-06-22T04:00:00Z,1,EUR/MW/h", "row 1: field `start`: `noon` is not a time"),
        ("ce_fcr,,2026-06-22T04:00:00Z,1,EUR/MW/h", "row 1: field `start` takes a time"),
        ("ce_fcr,2026-06-22T00:00:00Z,,1,EUR/MW/h", "row 1: give either `end` or `length_s`"),
        ("ce_fcr,2026-10-25 02:30,2026-10-25 04:00,1,EUR/MW/h", "row 1: field `start`: .*exists twice"),
        ("ce_fcr,2026-06-22T00:00:00Z,2026-06-22T04:00:00Z,1,EUR/kW", "row 1: field `unit`"),
        (",2026-06-22T00:00:00Z,2026-06-22T04:00:00Z,1,EUR/MW/h", "row 1: field `product`"),
        ("ce_fcr,2026-06-22T00:00:00Z,2026-06-22T04:00:00Z,1", "row 1: not as many cells"),
        ("ce_fcr,2026-06-22T00:00:00Z,2026-06-22T04:00:00Z,1,EUR/MW/h,x", "row 1: not as many cells"),
    ],
)
def test_a_wrong_row_is_named_with_its_field(tmp_path, row, said):
    with pytest.raises(TableFileError, match=said):
        prices(written(tmp_path / "a.csv", row), PRODUCTS)


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.csv", b"", "holds no row"), ("a.csv", b"product,start\n", "holds no row"),
        ("a.csv", b"\xff\xfe", "not a CSV file"), ("a.json", b"{", "not a JSON file"), ("a.json", b"[1]", "objects"),
        ("a.parquet", b"PAR1", "not a PARQUET file"), ("a.ods", b"", r"takes \.csv, \.json, \.parquet"),
        ("a.csv", b"product,prize\nx,1\n", "unknown column `prize`; did you mean `price`"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_named(tmp_path, name, data, said):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(TableFileError, match=said):
        prices(tmp_path / name, PRODUCTS)


def test_what_contradicts_itself_or_the_product_is_refused_with_the_file(tmp_path):
    with pytest.raises(PriceError, match=r"a\.csv: price of ce_fcr .* two prices for 2026-06-22T00"):
        prices(written(tmp_path / "a.csv", ROW, ROW), PRODUCTS)
    with pytest.raises(PriceError, match=r"a\.csv: .*priced in EUR/MW/h"):
        prices(written(tmp_path / "a.csv", ROW.replace("MW/h", "MW")), PRODUCTS)


def test_contracts(tmp_path):
    head = "product,start,length_s,sold_kw"
    path = written(tmp_path / "c.csv", "ce_fcr,2026-06-22 02:00,3600,1000.5", head=head)
    found, leaps = sales(path, PRODUCTS)
    assert [(s.start_ns, s.end_ns, s.sold_kw) for s in found.within("ce_fcr", 0, 1 << 62)] == [
        (T, T + HOUR, Fraction("1000.5"))
    ]
    assert leaps == 0
    with pytest.raises(SaleError, match=r"c\.csv: contract for 1.* overlaps"):
        sales(written(path, *["ce_fcr,2026-06-22 02:00,3600,1000"] * 2, head=head), PRODUCTS)
    with pytest.raises(TableFileError, match="unknown column `price`"):
        sales(written(path, ROW), PRODUCTS)

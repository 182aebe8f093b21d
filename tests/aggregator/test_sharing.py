"""The bill among the vehicles: to the cent, and told to the driver."""

from __future__ import annotations

import csv
import json
from decimal import Decimal

import pytest

from aggregator import billing, journal, sharing
from aggregator.billing import Asked
from aggregator.settle import Settler
from settlement.statement import iso
from tests.aggregator.test_accounting import T0, S, simulated
from tests.aggregator.test_cli import flyball, refused  # noqa: F401 - a fixture


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Half an hour of a fleet with every imperfection, settled as live, and prices of its day."""
    folder = tmp_path_factory.mktemp("run")
    _, entries = simulated(1830, rows=24, every=2 * S, start=T0)
    settler = Settler(folder / "journal", lambda _: None)
    for k in range(0, len(entries), 500):
        settler.feed(f"7-{k // 500 + 1}", journal.pack(entries[k : k + 500]))
    settler.close()
    sold = sorted(billing.products_of(folder / "journal"))
    rows = [f"{name},{iso(T0 - 86_400 * S)},{iso(T0 + 86_400 * S)},37.11,EUR/MW,capacity,test" for name in sold]
    (folder / "prices.csv").write_text("\n".join(["product,start,end,price,unit,kind,source", *rows]) + "\n")
    return folder


def settled(run):
    return billing.settle(run / "journal", Asked(prices=run / "prices.csv"), [])


def test_vehicles_and_the_pool_make_the_bill_to_the_cent(run):
    found = settled(run)
    attributions, sites = sharing.shared(run / "journal", found, [])
    billed = sum((item.line.amount for item in found.bill.items), Decimal(0))
    assert billed != 0
    assert sum((one.total() for one in attributions), Decimal(0)) == billed
    rows = list(sharing.vehicle_rows(attributions, sites))
    assert sum((row["earned"] for row in rows), Decimal(0)) == billed
    assert len({row["vehicle"] for row in rows if row["vehicle"]}) > 15
    for row in rows:
        assert row["earned"] == row["capacity"] + row["energy"] + row["penalty"]


def test_every_line_is_in_a_pot_once(run):
    found = settled(run)
    made = sharing.pots(found)
    assert sum((p.capacity + p.energy - p.penalty for p in made), Decimal(0)) == sum(
        (item.line.amount for item in found.bill.items), Decimal(0)
    )
    assert all(p.penalty >= 0 for p in made)


def test_the_driver_is_told_what_it_earned_and_the_files_hold_all(run, flyball, tmp_path):  # noqa: F811
    prices = str(run / "prices.csv")
    code, out, err = flyball("settle", str(run), "--prices", prices, "--out", str(tmp_path / "bill"), "--json", "-")
    assert code == 0, err
    assert "vehicles.csv" in json.loads(out)["files"]
    with (tmp_path / "bill" / "vehicles.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    name = next(row["vehicle"] for row in rows if row["vehicle"])
    own = sum((Decimal(row["earned"]) for row in rows if row["vehicle"] == name), Decimal(0))
    code, out, err = flyball("account", name, "--journal", str(run), "--prices", prices, "--json", "-")
    assert code == 0, err
    assert Decimal(json.loads(out)["earned"]["EUR"]) == own
    refused(flyball("account", name, "--journal", str(run), "--prices", prices, "--amounts", "x"), "--amounts", "one")

"""Vehicles' accounts from a journal: live, again, from files, and at the door."""

from __future__ import annotations

import json
from decimal import Decimal

import numpy as np
import pytest

from aggregator import journal, vehiclebook, vehiclefiles
from aggregator.cli import main
from aggregator.journal import Kind
from aggregator.journal_files import JournalWriter
from aggregator.settle import Settler
from aggregator.vehiclebook import AmountsError, VehicleBook
from droop.accounts import ROW
from settlement.accounts import ACCOUNT, folded
from settlement.attribution import AttributionError
from settlement.balance import FleetLedger
from settlement.statement import iso
from telemetry import wire
from tests.aggregator.test_accounting import T0, S, simulated

QUARTER = 900 * S


@pytest.fixture(scope="module")
def entries():
    """Half an hour and a little of a fleet with every imperfection."""
    _, found = simulated(1830, rows=24, every=2 * S, start=T0)
    return found


@pytest.fixture(scope="module")
def folder(entries, tmp_path_factory):
    place = tmp_path_factory.mktemp("run") / "journal"
    writer = JournalWriter(place)
    for k in range(0, len(entries), 2000):
        writer.append(entries[k : k + 2000], f"7-{k // 2000 + 1}")
        writer.flush()
    return place


@pytest.fixture(scope="module")
def closed(folder):
    return list(vehiclebook.of_folder(folder))


def test_the_book_closes_by_the_entries_alone(entries, closed):
    book = VehicleBook()
    live = [done for entry in entries for done in book.feed(entry)] + book.end()
    assert [(c.start_ns, c.end_ns, c.unaccounted_kwh) for c in live] == [
        (c.start_ns, c.end_ns, c.unaccounted_kwh) for c in closed
    ]
    assert [c.rows.tobytes() for c in live] == [c.rows.tobytes() for c in closed]
    assert [c.rows.size > 15 for c in closed] == [True, True, False]
    assert book.undecodable == 0


def test_the_energy_of_all_accounts_is_the_balances(entries):
    """Every kWh that the pool's balance knows of is in an account, or shown as in none."""
    pool, book, held = FleetLedger(QUARTER), VehicleBook(), 0
    for entry in entries:
        for done in book.feed(entry):
            net = float((done.rows["metered_up_kwh"] - done.rows["metered_down_kwh"]).sum())
            assert net + done.unaccounted_kwh == pytest.approx(pool.take(done.start_ns).reported_kwh, abs=1e-6)
            assert abs(done.unaccounted_kwh) < 0.05 * abs(net) < 10
            held += 1
        if entry.kind is Kind.SESSIONS:
            pool.sessions(wire.decode(entry.payload))
        elif entry.kind is Kind.VEHICLES:
            pool.vehicles(wire.decode(entry.payload))
    assert held == 2


def test_a_perfect_follower_is_believed(closed):
    """Most of a simulated fleet follows: what was delivered is near what was asked, and reports cover the time."""
    rows = closed[1].rows
    asked = rows["asked_up_kwh"].sum() + rows["asked_down_kwh"].sum()
    assert rows["undelivered_kwh"].sum() < 0.5 * asked
    assert np.median(rows["coverage_frac"]) > 0.99
    assert (rows["acknowledged"].sum()) > 0.5 * rows["commands"].sum()


def test_bad_entries_are_counted(entries):
    book = VehicleBook()
    for entry in entries[:200]:
        broken = entry._replace(payload=b"?") if entry.kind in (Kind.VEHICLES, Kind.START) else entry
        book.feed(broken)
    assert book.undecodable > 10
    assert any("START" in problem for problem in book.problems)
    wrong = np.zeros(1, ROW)
    assert VehicleBook().feed(journal.Entry(Kind.ACCOUNT, 0, 5, T0, wrong.tobytes()[:-1])) == []


def test_a_long_silence_is_one_step(entries):
    book = VehicleBook()
    for entry in entries[:300]:
        book.feed(entry)
    done = book.on_time(T0 + 10 * 86_400 * S)
    assert len(done) < 200


# ---- kept by the settlement --------------------------------------------------------------------------------------


def live(folder, entries):
    settler = Settler(folder, lambda _: None)
    for k in range(0, len(entries), 200):
        settler.feed(f"7-{k // 200 + 1}", journal.pack(entries[k : k + 200]))
    return settler


@pytest.mark.parametrize("stop", [None, 3000])
def test_the_settlement_keeps_them_once(entries, closed, tmp_path, stop):
    """With a restart in the middle or without: the files hold what the journal gives."""
    if stop:
        live(tmp_path, entries[: stop - stop % 200]).close()
    settler = live(tmp_path, entries)
    settler.close()
    whole = vehiclebook.joined([c for c in closed if c.end_ns % QUARTER == 0])
    found = vehiclefiles.load(tmp_path)
    assert found.tobytes() == whole.tobytes()
    assert settler.vehicles.rows(T0, T0 + 2 * QUARTER).tobytes() == folded(whole).tobytes()
    assert settler.vehicles.rows(T0 + QUARTER, T0 + 2 * QUARTER).tobytes() == closed[1].rows.tobytes()
    assert settler.vehicles.rows(T0 + 2 * QUARTER, T0 + 3 * QUARTER) is None
    assert vehiclefiles.load(tmp_path, T0 + 1).tobytes() == closed[1].rows.tobytes()
    assert not vehiclefiles.load(tmp_path, None, T0).size


def test_what_was_closed_from_the_whole_is_not_replaced(closed, tmp_path):
    vehiclefiles.store(tmp_path, closed[0])
    vehiclefiles.store(tmp_path, closed[0]._replace(rows=closed[1].rows))
    assert vehiclefiles.load(tmp_path).tobytes() == closed[0].rows.tobytes()


def test_a_damaged_file_is_named(closed, tmp_path):
    vehiclefiles.store(tmp_path, closed[0])
    path = next((tmp_path / vehiclefiles.FOLDER).glob("*"))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(vehiclefiles.AccountFileError, match=path.name):
        vehiclefiles.load(tmp_path)


# ---- the door ----------------------------------------------------------------------------------------------------


def pots(**more):
    plain = {
        "start_ns": T0, "end_ns": T0 + QUARTER, "product": "ce_fcr", "direction": "both", "sold_kw": 80.0,
        "currency": "EUR", "capacity": "12.34", "energy": "1.00", "penalty": "0.50",
    }  # fmt: skip
    return [plain | more, plain | {"start_ns": T0 + QUARTER, "end_ns": T0 + 2 * QUARTER}]


@pytest.fixture
def say(monkeypatch, capsys):
    def call(*words):
        monkeypatch.setattr("sys.argv", ["flyball", "account", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            main()
        out, err = capsys.readouterr()
        return left.value.code, out, err

    return call


def test_a_drivers_statement(folder, closed, tmp_path, say):
    amounts = tmp_path / "amounts.json"
    amounts.write_text(json.dumps(pots()))
    name = closed[0].rows["vehicle"][3].decode()
    code, out, _ = say(name, "--journal", folder.parent, "--amounts", amounts, "--json", "-")
    assert code == 0
    found = json.loads(out)
    assert found["vehicle"] == name
    assert found["earned"].keys() == {"EUR"}
    assert len(found["income"]) == 2
    code, out, _ = say(name, "--journal", folder)
    assert code == 0
    assert out.startswith(f"{name} was plugged in")
    later = [say(name, "--journal", folder, "--start", iso(T0 + k * QUARTER), "--json", "-") for k in (0, 1)]
    spans = [[item["start_ns"] // QUARTER for item in json.loads(out)["intervals"]] for _, out, _ in later]
    assert spans[0][0] == T0 // QUARTER
    assert spans[1] == [span for span in spans[0] if span > T0 // QUARTER]


def test_all_drivers_together_have_the_pools_amount(closed):
    rows = vehiclebook.joined(closed)
    items = vehiclebook.attributed(vehiclebook.pots(json.dumps(pots()).encode(), "x"), rows)
    assert [item.total() for item in items] == [Decimal("12.84")] * 2
    assert all(int(item.earned.sum()) == 1284 - item.rest[0] - item.rest[1] + item.rest[2] for item in items)


def test_files_serve_as_well_as_the_journal(folder, closed, tmp_path, say):
    for item in closed[:2]:
        vehiclefiles.store(tmp_path, item)
    name = closed[0].rows["vehicle"][3].decode()
    (tmp_path / "x").write_text("")
    found = [json.loads(say(name, "--journal", place, "--json", "-")[1]) for place in (tmp_path, folder)]
    assert found[0]["intervals"] == found[1]["intervals"][: len(found[0]["intervals"])]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("nobody", "--journal", "{folder}"), "nobody"),
        (("x", "--journal", "{folder}/nowhere"), "--journal"),
        (("x", "--journal", "{folder}", "--start", "yesterday"), "--start"),
        (("x", "--journal", "{folder}", "--amounts", "{folder}/none.json"), "--amounts"),
    ],
)
def test_wrong_use_is_one_line(folder, say, words, named):
    code, out, err = say(*(word.format(folder=folder) for word in words))
    assert (code, out) == (2, "")
    assert named in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"capacity": 12.34}, "capacity"), ({"capacity": "many"}, "capacity"), ({"colour": "red"}, "colour"),
        ({"sold_kw": "9"}, "sold_kw"), ({"start_ns": 1.5}, "start_ns"),
    ],
)  # fmt: skip
def test_amounts_that_cannot_be_read_are_named(change, named):
    with pytest.raises(AmountsError, match=named):
        vehiclebook.pots(json.dumps(pots(**change)).encode(), "amounts.json")


def test_other_bad_amounts():
    for data, named in ((b"{", "JSON"), (b"{}", "list"), (b"[1]", "table"), (b"[{}]", "start_ns")):
        with pytest.raises(AmountsError, match=named):
            vehiclebook.pots(data, "amounts.json")
    twice = vehiclebook.pots(json.dumps([pots()[0], pots()[0]]).encode(), "x")
    with pytest.raises(AmountsError, match="overlap"):
        vehiclebook.attributed(twice, np.zeros(0, ACCOUNT))
    odd = vehiclebook.pots(json.dumps([pots(capacity="1.001")[0]]).encode(), "x")
    with pytest.raises(AttributionError, match="capacity"):
        vehiclebook.attributed(odd, np.zeros(0, ACCOUNT))

"""What is sealed of an interval gives its statements again; and what was changed in it before sealing is named."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from droop.products import ProductError, load
from droop.promises import Trigger
from settlement import evidence, interval, window
from settlement.align import NS
from settlement.evidence import Closed, Control, EvidenceError, Heard
from settlement.facts import Modes, ints
from settlement.interval import Sold, settle
from settlement.ledger import Key, Ledger, encode
from settlement.recompute import recompute
from settlement.verifier import RECORD, Checker
from tests.settlement.sealed import body

START_NS = 1_700_000_100 * NS
END_NS = START_NS + 900 * NS
KEY = Key(b"\x05" * 32)
VEHICLE = np.dtype(
    [
        ("slot", "<u4"), ("vehicle", "S24"), ("start_ns", "<i8"), ("end_ns", "<i8"), ("delivered_kwh", "<f8"),
        ("reason", "u1"), ("coverage_frac", "<f4"), ("pad", "<u4"),
    ]
)  # fmt: skip


@pytest.fixture
def control():
    t_ns = START_NS + np.arange(-50, 9000) * (NS // 10)
    return Control(t_ns, np.full(t_ns.size, -700.0), np.linspace(-700, -600, t_ns.size), np.ones(t_ns.size, np.int64))


@pytest.fixture
def heard():
    seconds = START_NS // NS + np.arange(0, 900, 2)
    return Heard(seconds, np.full(450, 4), np.full(450, 12.5), np.arange(450), np.arange(450) // 2)


def rows_of(vehicles):
    rows = np.zeros(vehicles, VEHICLE)
    rows["vehicle"] = [f"EV{(7 * k) % vehicles}" for k in range(vehicles)]
    rows["start_ns"], rows["end_ns"] = START_NS, END_NS
    rows["delivered_kwh"] = np.arange(vehicles) / 3
    return rows


def sealed(sold, facts, control, heard, vehicles=None, statements=None, extra=lambda _: None):
    done = statements or settle(sold, facts, START_NS, END_NS)
    ledger = Ledger(KEY)
    ledger.open("CE", "2023-11-14", "live", END_NS)
    closed = Closed(START_NS, END_NS, tuple(sold), facts, tuple(done))
    hashes = evidence.seal(ledger, closed, control, heard, vehicles, END_NS + 5 * NS, None)
    extra(ledger)
    ledger.head(END_NS + 6 * NS, closes=True)
    lines = ledger.take()
    checker = Checker(KEY.public)
    checker.file("day", lines)
    checker.end()
    return lines, checker.problems, hashes


def data_of(lines, kind):
    return next(body(line)["data"] for line in lines if RECORD.fullmatch(line) and body(line)["kind"] == kind)


def test_an_interval_is_sealed_whole_and_computed_again(sold, facts, control, heard):
    lines, found, hashes = sealed(sold, facts, control, heard, rows_of(10))
    assert found == []
    again = recompute(lines)
    assert again[:3] == (1, 900, [])
    key = f"{START_NS}:ce_fcr"
    assert hashes == {key: RECORD.fullmatch(lines[2])[1].decode()}
    assert body(lines[2])["data"]["statement"] == json.loads(encode(settle(sold, facts, START_NS, END_NS)[0].to_dict()))


def test_every_bit_of_the_rows_comes_back(sold, facts):
    back = evidence.to_facts(json.loads(encode(evidence.to_plain(facts))))
    for name in facts._fields:
        a, b = getattr(facts, name), getattr(back, name)
        assert name == "modes" or type(a) is type(b), name
        if hasattr(a, "_fields"):
            for x, y in zip(a, b, strict=True):
                same = x.tobytes() == y.tobytes() and x.shape == y.shape if isinstance(x, np.ndarray) else x == y
                assert same, name
        else:
            assert dict(a) == b if name == "modes" else a == b
    hz = np.where(facts.samples.hz > 50, np.nan, 50.0)
    spoiled = facts._replace(samples=facts.samples._replace(hz=hz), fleet=None)
    back = evidence.to_facts(json.loads(encode(evidence.to_plain(spoiled))))
    assert back.samples.hz.tobytes() == spoiled.samples.hz.tobytes()
    assert back.fleet is None
    modes = {"ce_fcr": Modes(ints(1, 2), np.array([0.5, np.nan]), np.zeros(2), np.ones(2), ints(0, 1))}
    back = evidence.to_facts(json.loads(encode(evidence.to_plain(facts._replace(modes=modes)))))
    (name, found), *more = back.modes.items()
    assert (name, more, type(found)) == ("ce_fcr", [], Modes)
    assert [x.tobytes() for x in found] == [x.tobytes() for x in modes["ce_fcr"]]
    wide = facts._replace(signal=facts.signal._replace(start_ns=ints(-(2**63), 2**63 - 1, 0)))
    assert evidence.to_facts(evidence.to_plain(wide)).signal.start_ns.tolist() == [-(2**63), 2**63 - 1, 0]


def test_what_is_cut_out_is_nobody_elses(sold, facts):
    """The books overwrite their rows; what waits to be sealed must not change with them."""
    modes = {"ce_fcr": Modes(ints(1), np.ones(1), np.zeros(1), np.ones(1), ints(0))}
    closed = Closed(START_NS, END_NS, tuple(sold), facts._replace(modes=modes), ())
    used = evidence.cut(closed)
    mine = [x for part in (*used[:5], *used.modes.values()) for x in part if isinstance(x, np.ndarray)]
    theirs = [x for part in (*facts[:5], *modes.values()) for x in part if isinstance(x, np.ndarray)]
    assert not any(np.shares_memory(a, b) for a in mine for b in theirs)


def test_columns_that_cannot_be_read_are_named(facts):
    plain = evidence.to_plain(facts)
    for path, value in (
        (("samples", "hz", "deflated"), "???"), (("samples", "hz", "shape"), [3]), (("samples", "hz", "dtype"), "q7"),
        (("meters", "meter"), {}),
    ):  # fmt: skip
        broken = json.loads(encode(plain))
        inner = broken
        for step in path[:-1]:
            inner = inner[step]
        inner[path[-1]] = value
        with pytest.raises(EvidenceError, match=rf"facts\.{path[0]}\.{path[1]}"):
            evidence.to_facts(broken)
    with pytest.raises(EvidenceError, match=r"facts\.meters"):
        evidence.to_facts({name: plain[name] for name in plain if name != "meters"})
    with pytest.raises(EvidenceError, match=r"facts\.signal"):
        evidence.to_facts(plain | {"signal": {"x": 1}})


def test_the_seconds_are_those_of_a_reader_with_a_pencil(sold, facts, control, heard):
    """Second by second from the rows: the means of what was metered, asked and declared in it."""
    lines, _, _ = sealed(sold, facts, control, heard)
    data = data_of(lines, "pool")
    at = {name: k for k, name in enumerate(data["columns"])}
    assert len(data["rows"]) == 900
    for k in (0, 1, 2, 450, 899):
        row, t_ns = data["rows"][k], START_NS + k * NS
        assert row[at["t_s"]] == t_ns // NS
        inside = (facts.samples.t_ns >= t_ns) & (facts.samples.t_ns < t_ns + NS)
        assert row[at["hz"]] == pytest.approx(facts.samples.hz[inside].mean(), abs=1e-9)
        (own,) = facts.meters.power_kw[facts.meters.t_ns == t_ns]
        assert row[at["metered_kw"]] == pytest.approx(own)
        assert row[at["baseline_kw"]] == -800.0
        assert row[at["asked_kw"]] == pytest.approx(-700.0)
        ticks = (control.t_ns >= t_ns) & (control.t_ns < t_ns + NS)
        assert row[at["commanded_kw"]] == pytest.approx(control.commanded_kw[ticks].mean())
        assert row[at["commands"]] == 10
        assert row[at["coverage_frac"]] == 1.0
        assert row[at["quality"]] == (0 if k % 2 else 4)
        assert row[at["delay_ms"]] == (None if k % 2 else 12.5)
        assert row[at["reported"]] == (0 if k % 2 else k // 2)
        assert row[at["acknowledged"]] == (0 if k % 2 else k // 4)


def test_the_seconds_have_the_baseline_that_the_statement_has(facts, control, heard):
    """A method that looks back starts before the interval, in the seconds as in the statement."""
    product = dataclasses.replace(
        load("ce_fcr"), trigger=Trigger(hz=49.7), baseline={"fn": "rolling_median", "window_s": 25, "step_s": 10}
    )
    sold = [Sold(product, 1000.0)]
    lines, found, _ = sealed(sold, facts, control, heard)
    assert found == []
    (done,) = settle(sold, facts, START_NS, END_NS)
    data = data_of(lines, "pool")
    values = [row[data["columns"].index("baseline_kw")] for row in data["rows"]]
    assert values[0] is not None
    assert np.mean(values) == pytest.approx(done.baseline.mean_kw)


def test_a_silent_second_is_null_and_not_filled(sold, facts, control, heard):
    keep = (np.arange(960) < 260) | (np.arange(960) >= 460)
    meters = type(facts.meters)(*(column[keep] for column in facts.meters))
    none = Control(*(column[:0] for column in control))
    lines, found, _ = sealed(sold, facts._replace(meters=meters), none, heard)
    assert found == []
    data = data_of(lines, "pool")
    row = dict(zip(data["columns"], data["rows"][300], strict=True))
    assert (row["metered_kw"], row["asked_kw"], row["commanded_kw"]) == (None, None, None)
    assert (row["coverage_frac"], row["commands"]) == (0.0, 0)
    assert recompute(lines).mismatches == []


@pytest.mark.parametrize(
    ("field", "factor"),
    [("delivered_up_kwh", 1.01), ("score", 0.5), ("requested_down_kwh", 1.1), ("mileage", 2.0), ("sold_kw", 2.0)],
)
def test_a_statement_that_its_rows_do_not_bear_out_is_named_though_it_was_sealed(
    sold, facts, control, heard, field, factor
):
    """The seal proves who said it; that it is true, only the computation does."""
    (done,) = settle(sold, facts, START_NS, END_NS)
    lies = [type(done)(**{**done.__dict__, field: getattr(done, field) * factor})]
    lines, found, _ = sealed(sold, facts, control, heard, statements=lies)
    assert found == []
    (wrong,) = recompute(lines).mismatches
    assert wrong.field == field
    assert (wrong.line, wrong.what) == (3, f"statement {done.key}")


def test_seconds_and_columns_that_differ_are_named(sold, facts, control, heard, monkeypatch):
    real = evidence.pool

    def lying(*args):
        data = real(*args)
        data["rows"][17][data["columns"].index("metered_kw")] += 1.0
        return data

    monkeypatch.setattr(evidence, "pool", lying)
    lines, found, _ = sealed(sold, facts, control, heard)
    assert found == []
    (wrong,) = recompute(lines).mismatches
    assert (wrong.field, wrong.what) == ("metered_kw", f"second {START_NS // NS + 17}")


def test_other_rows_than_those_settled_are_named(sold, facts, control, heard):
    done = settle(sold, facts, START_NS, END_NS)
    power_kw = facts.meters.power_kw.copy()
    power_kw[500] += 5.0
    other = facts._replace(meters=facts.meters._replace(power_kw=power_kw))
    lines, _, _ = sealed(sold, other, control, heard, statements=done)
    assert recompute(lines).mismatches[0].field == "meters.sha256"


def test_a_correction_is_computed_again_too(sold, facts, control, heard):
    (done,) = settle(sold, facts, START_NS, END_NS)

    def late(ledger):
        hashed = next(iter(hashes.values()))
        used = window.cut(facts, START_NS - interval.LEAD_S * NS, END_NS)
        ledger.correct(hashed, "late history", done.to_dict() | {"score": 0.5}, END_NS + 5 * NS)
        data = {"start_ns": START_NS, "end_ns": END_NS}
        ledger.record("pool", evidence.pool(sold, used, control, heard, START_NS, END_NS), END_NS)
        ledger.record("facts", data | {"facts": evidence.to_plain(used)}, END_NS)

    _, _, hashes = sealed(sold, facts, control, heard)
    lines, found, _ = sealed(sold, facts, control, heard, extra=late)
    assert found == []
    again = recompute(lines)
    assert again.statements == 2
    assert [wrong.field for wrong in again.mismatches] == ["score"]


def test_products_that_share_a_delivery_are_each_computed_again(facts, control, heard):
    sold = [Sold(load("ce_fcr"), 600.0), Sold(load("nordic_fcr_n"), 400.0)]
    lines, found, hashes = sealed(sold, facts, control, heard)
    assert found == []
    assert len(hashes) == 2
    assert recompute(lines)[:3] == (2, 900, [])


def test_the_contract_is_sealed_again_only_where_it_differs(sold, facts, control, heard):
    ledger = Ledger(KEY)
    ledger.open("CE", "2023-11-14", "live", END_NS)
    closed = Closed(START_NS, END_NS, tuple(sold), facts, tuple(settle(sold, facts, START_NS, END_NS)))
    for contract in (None, evidence.sold(sold), [], json.loads(encode(evidence.sold(sold)))):
        evidence.seal(ledger, closed, control, heard, None, END_NS, contract)
    kinds = [body(line)["kind"] for line in ledger.take()]
    assert kinds.count("contract") == 2


def test_a_sealed_product_that_this_version_does_not_know_is_refused_by_name(sold, facts, control, heard):
    lines, _, _ = sealed(sold, facts, control, heard)
    record = body(lines[1])
    record["data"]["contracts"][0]["product"]["surprise"] = 1
    text = encode(record)
    with pytest.raises(ProductError, match="surprise"):
        recompute([lines[0], b'{"hash":"' + b"0" * 64 + b'","record":' + text + b"}\n", *lines[2:]])
    del record["data"]["contracts"][0]["product"]
    with pytest.raises(EvidenceError, match="product"):
        recompute([b'{"hash":"' + b"0" * 64 + b'","record":' + encode(record) + b"}\n"])


def test_the_vehicles_rows_are_in_order_and_readable():
    rows = rows_of(10)
    rows["coverage_frac"][3] = np.nan
    columns, made = evidence.leaves(rows)
    assert columns == ["vehicle", "start_ns", "end_ns", "delivered_kwh", "reason", "coverage_frac", "slot"]
    assert [row[0] for row in made] == sorted(row[0] for row in made)
    by_name = {row["vehicle"].decode(): row for row in rows}
    for row in made:
        found = dict(zip(columns, row, strict=True))
        own = by_name[found["vehicle"]]
        assert found["delivered_kwh"] == own["delivered_kwh"]
        assert found["coverage_frac"] == (None if np.isnan(own["coverage_frac"]) else own["coverage_frac"])
    with pytest.raises(EvidenceError, match="`vehicle` is missing"):
        evidence.leaves(np.zeros(1, [("slot", "<u4")]))
    with pytest.raises(EvidenceError, match="cannot be sealed"):
        evidence.leaves(np.zeros(1, [("vehicle", "S4"), ("what", "<c16")]))


@pytest.mark.parametrize(("start_ns", "end_ns"), [(1, NS + 1), (0, NS + 1), (0, 0), (0, 90_000 * NS)])
def test_an_interval_of_broken_seconds_is_refused(sold, facts, control, heard, start_ns, end_ns):
    with pytest.raises(EvidenceError, match=f"interval {start_ns}..{end_ns}"):
        evidence.pool(sold, facts, control, heard, start_ns, end_ns)

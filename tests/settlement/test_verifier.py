"""Whatever is done to sealed evidence is found and named; and the verifier needs nothing but itself."""

from __future__ import annotations

import ast
import gzip
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from settlement import verifier
from settlement.ledger import Key, Ledger, LedgerError
from settlement.proofs import ProofError, prove, redact
from settlement.verifier import FIELDS, RECORD, Checker, verify
from tests.settlement.sealed import (
    FORGER,
    KEY,
    NEW_KEY,
    NS,
    START_NS,
    batch,
    begun,
    body,
    changed,
    line_of,
    places,
    problems,
    rechained,
    statement,
    whole,
)  # fmt: skip

LINES = whole()
RECORDS = [k for k, line in enumerate(LINES) if RECORD.fullmatch(line)]
HEADS = [k for k in RECORDS if body(LINES[k])["kind"] == "head"]


def test_what_is_whole_passes():
    assert problems(LINES) == []
    assert problems(LINES, KEY.public) == []  # it vouched for the one that came after it
    assert {body(LINES[k])["kind"] for k in RECORDS} == set(FIELDS)
    checker = Checker()
    checker.file("f", LINES)
    assert (checker.leaves, checker.closed, len(checker.heads)) == (10, True, 3)
    assert (checker.start_ns, checker.end_ns) == (START_NS, START_NS + 6 * NS)


# ---- what is changed ---------------------------------------------------------------------------------------------


def test_whichever_bit_flips_it_is_found_and_its_line_is_named():
    data, rng = b"".join(LINES), np.random.default_rng(5)
    ends = [sum(map(len, LINES[: k + 1])) for k in range(len(LINES))]
    for place in range(0, len(data), 2):
        flipped = bytearray(data)
        flipped[place] ^= 1 << int(rng.integers(8))
        found = problems(split(bytes(flipped)))
        line = next(k for k, end in enumerate(ends, 1) if place < end)
        assert found, f"byte {place} of line {line}"
        assert found[0].line in (line, line + 1), f"byte {place} of line {line}: {found[0]}"
        if data[place : place + 1] != b"\n" and b"\n" not in bytes(flipped[place : place + 1]):
            assert found[0].line == line, f"byte {place}: {found[0]}"


def split(data: bytes) -> list[bytes]:
    return [part + b"\n" for part in data.split(b"\n")[:-1]] + ([tail] if (tail := data.split(b"\n")[-1]) else [])


FIELD_CASES = [
    pytest.param(k, path, value, id=f"{body(LINES[k])['kind']}-{body(LINES[k])['seq']}-{'.'.join(map(str, path))}")
    for k in RECORDS
    for path, value in places(body(LINES[k]))
]


@pytest.mark.parametrize(("k", "path", "value"), FIELD_CASES)
def test_any_field_of_any_record_that_is_changed_is_found(k, path, value):
    """With the old hash, with a new one, and with all hashes after it made right by someone without the key."""
    match = RECORD.fullmatch(LINES[k])
    record = changed(body(LINES[k]), path, value)
    stale = [*LINES[:k], line_of(record, match[1].decode()), *LINES[k + 1 :]]
    found = problems(stale)
    assert found[0].line == k + 1
    assert found[0].what.startswith("changed")
    hashed = [*LINES[:k], line_of(record), *LINES[k + 1 :]]
    found = problems(hashed)
    following = next((n for n in RECORDS if n > k), k)
    assert found
    assert found[0].line in (k + 1, following + 1), found[0]
    forged = rechained(hashed, k)
    found = problems(forged)
    assert found
    assert any(p.field or p.line for p in found)


def test_a_forger_who_signs_anew_is_told_by_the_key():
    """All of it made again with another key: whole in itself, and not what was published."""
    ledger = Ledger(FORGER)
    begun(ledger)
    batch(ledger, 0)
    ledger.head(START_NS + 20 * NS, closes=True)
    lines = ledger.take()
    assert problems(lines) == []
    (found,) = problems(lines, KEY.public)
    assert found.field == "key"
    assert FORGER.public in found.what


def test_a_forger_cannot_pass_his_file_on_to_the_true_key():
    """A key record to the key that is known, without its consent, ends in heads that it did not sign."""
    ledger = Ledger(FORGER)
    begun(ledger)
    batch(ledger, 0)
    ledger.rotate(KEY, START_NS + 19 * NS)
    lines = ledger.take()
    head = {"key": KEY.public, "closes": True, "signature": FORGER.sign(b"x")}
    place = ledger.place
    record = {"data": head, "kind": "head", "prev": place.prev, "sealed_ns": START_NS + 20 * NS, "seq": place.seq}
    lines.append(line_of(record))
    assert any(p.field == "signature" for p in problems(lines, KEY.public))
    assert problems(lines[:-2], KEY.public, running=True)[0].field == "key"


def test_a_forgers_keys_cannot_vouch_for_each_other():
    ledger = Ledger(FORGER)
    begun(ledger)
    ledger.rotate(NEW_KEY, START_NS)
    ledger.head(START_NS + 20 * NS, closes=True)
    lines = ledger.take()
    assert problems(lines) == []
    assert [p.field for p in problems(lines, KEY.public)] == ["key"]
    assert problems(lines, FORGER.public) == []


@pytest.mark.parametrize("field", ["signature", "key", "closes"])
def test_a_head_that_was_not_signed_so_is_named(field):
    k = HEADS[-1]
    record = body(LINES[k])
    forged = [*LINES[:k], line_of(changed(record, ("data", field), record["data"][field]))]
    found = problems(forged)
    assert found[0].record == f"head {record['seq']}"
    assert found[0].field in ("signature", "key")


# ---- what is missing, repeated, out of order, cut -----------------------------------------------------------------


@pytest.mark.parametrize("k", range(len(LINES)))
def test_a_line_removed_is_found(k):
    found = problems(LINES[:k] + LINES[k + 1 :])
    assert found
    if k == len(LINES) - 1:
        assert "after the last signed head" in found[0].what
    elif k in RECORDS and k + 1 in RECORDS and k:
        assert f"missing before it: {body(LINES[k])['seq']}" in found[0].what
        assert found[0].line == k + 1
    elif k not in RECORDS:
        assert "leaves 4..4" in found[0].what


@pytest.mark.parametrize("k", range(len(LINES)))
def test_a_line_repeated_is_found(k):
    found = problems([*LINES[: k + 1], LINES[k], *LINES[k + 1 :]])
    assert found
    if k in RECORDS and body(LINES[k])["kind"] not in ("root", "open"):
        assert found[0].line == k + 2
        assert f"repeated: it stands in line {k + 1}" in found[0].what


@pytest.mark.parametrize("k", range(len(LINES) - 1))
def test_two_lines_that_change_places_are_found(k):
    found = problems([*LINES[:k], LINES[k + 1], LINES[k], *LINES[k + 2 :]])
    assert found
    leaves = k not in RECORDS and k + 1 not in RECORDS
    assert (body(LINES[found[0].line - 1])["kind"] == "root") if leaves else (0 <= found[0].line - (k + 1) <= 6)


def test_leaves_that_change_places_are_found():
    root = next(k for k in RECORDS if body(LINES[k])["kind"] == "root")
    swapped = [*LINES[: root + 1], LINES[root + 2], LINES[root + 1], *LINES[root + 3 :]]
    (found,) = problems(swapped)
    assert found.field == "root"


def test_leaves_of_another_interval_are_found():
    roots = [k for k in RECORDS if body(LINES[k])["kind"] == "root"]
    moved = [*LINES[: roots[0] + 1], *LINES[roots[1] + 1 : roots[1] + 6], *LINES[roots[0] + 6 :]]
    assert problems(moved)[0].field == "root"


def test_a_file_cut_short_anywhere_is_found():
    data = b"".join(LINES)
    rng = np.random.default_rng(7)
    for size in [0, 1, *sorted(rng.integers(2, len(data) - 1, 250).tolist()), len(data) - 1]:
        assert problems(split(data[:size])), size
    for k in HEADS[:-1]:
        assert "no closing head" in problems(LINES[: k + 1])[0].what
        assert problems(LINES[: k + 1], running=True) == []


def test_what_follows_the_last_head_is_unsigned_even_while_it_is_written():
    found = problems(LINES[: HEADS[1] - 6], running=True)
    assert "after the last signed head" in found[-1].what


def test_an_old_head_replayed_is_found():
    old = LINES[HEADS[0]]
    assert "repeated" in problems([*LINES, old])[0].what
    found = problems([*LINES[: HEADS[-1]], old])
    assert found[0].record == f"head {body(old)['seq']}"


def test_a_history_that_goes_back_behind_a_head_known_before_is_found():
    """The same seal signs another history from an earlier point on: whoever kept a head can tell."""
    known = RECORD.fullmatch(LINES[HEADS[1]])[1].decode()
    assert problems(LINES, head=known) == []
    ledger = Ledger(KEY)
    begun(ledger)
    batch(ledger, 0)
    ledger.head(START_NS + 22 * NS, closes=True)
    other = ledger.take()
    assert problems(other) == []
    (found,) = problems(other, head=known)
    assert known in found.what


def test_two_files_are_one_history():
    ledger = Ledger(KEY)
    begun(ledger)
    batch(ledger, 0)
    ledger.head(START_NS + 20 * NS, closes=True)
    first = ledger.take()
    begun(ledger)
    batch(ledger, 1)
    ledger.head(START_NS + 40 * NS, closes=True)
    second = ledger.take()
    begun(ledger)
    ledger.head(START_NS + 60 * NS, closes=True)
    third = ledger.take()

    def found(*files, **ending):
        checker = Checker()
        for name, lines in enumerate(files):
            checker.file(str(name), lines)
        checker.end(**ending)
        return checker.problems

    assert found(first, second, third) == []
    assert found(second) == []  # alone it is whole, with what it follows named in it
    assert "missing before it" in found(first, third)[0].what
    assert "out of order" in found(second, first)[0].what
    assert "repeated" in found(first, first)[0].what
    assert "not closed" in found(first[:-1], second)[0].what
    assert found(first, [])[0].what == "the file is empty"


# ---- records that hold and say something that cannot be -----------------------------------------------------------


def signed_with(change):
    ledger = Ledger(KEY)
    begun(ledger)
    change(ledger)
    ledger.head(START_NS + 50 * NS, closes=True)
    return problems(ledger.take())


def test_a_statement_twice_is_named():
    def twice(ledger):
        batch(ledger, 0)
        batch(ledger, 0)

    assert signed_with(twice)[0].field == "key"


def test_a_statement_of_another_contract_is_named():
    def other(ledger):
        item = statement(START_NS, 0.9) | {"stack": {"ce_fcr": 900.0}}
        ledger.record("statement", {"key": item["key"], "statement": item}, START_NS)

    found = signed_with(other)
    assert found[0].field == "statement.stack"
    assert "signed without facts and pool" in found[1].what


@pytest.mark.parametrize("rows", [[[1, 2.0]], [[START_NS // NS, 1.0], [START_NS // NS + 2, 1.0]], [[1]], ["x"], [[]]])
def test_seconds_that_are_missing_are_named(rows):
    def pool(ledger):
        data = {"start_ns": START_NS, "end_ns": START_NS + 2 * NS, "columns": ["t_s", "hz"], "rows": rows}
        ledger.record("pool", data, START_NS)

    assert signed_with(pool)[0].field in ("rows", "columns", "data")


def test_a_correction_of_nothing_is_named():
    def correct(ledger):
        ledger.correct("0" * 64, "why", statement(START_NS, 1.0), START_NS)

    found = signed_with(correct)
    assert found[0].field == "corrects"
    assert "signed without facts of" in found[1].what


@pytest.mark.parametrize("kind", sorted(FIELDS))
def test_a_record_with_a_field_of_another_type_is_named(kind):
    k = next(k for k in RECORDS if body(LINES[k])["kind"] == kind)
    for field in FIELDS[kind]:
        record = body(LINES[k])
        record["data"][field] = None
        assert problems([*LINES[:k], line_of(record), *LINES[k + 1 :]])[0].field == field
        del record["data"][field]
        assert problems([*LINES[:k], line_of(record), *LINES[k + 1 :]])[0].field == field


def test_an_unknown_kind_and_a_newer_version_are_named():
    record = body(LINES[1])
    assert problems([LINES[0], line_of(record | {"kind": "rumour"}), *LINES[2:]])[0].field == "kind"
    record = body(LINES[0])
    record["data"]["version"] = 2
    assert problems([line_of(record), *LINES[1:]])[0].field == "version"


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=80), st.sampled_from(LINES)), max_size=12))
def test_anything_at_all_is_answered_and_not_raised(lines):
    assert problems(lines) or lines == LINES


# ---- the writer --------------------------------------------------------------------------------------------------


def test_a_ledger_goes_on_where_it_ended():
    ledger = Ledger(KEY)
    begun(ledger)
    batch(ledger, 0)
    first = ledger.take()
    again = Ledger(KEY, ledger.place)
    batch(again, 1)
    again.head(START_NS + 40 * NS, closes=True)
    assert problems(first + again.take()) == []


def test_what_cannot_be_sealed_is_refused_by_name():
    with pytest.raises(LedgerError, match="not open"):
        Ledger(KEY).head(0)
    with pytest.raises(LedgerError, match="not open"):
        Ledger(KEY).record("price", {}, 0)
    ledger = Ledger(KEY)
    with pytest.raises(LedgerError, match="origin"):
        ledger.open("ce", "2023-11-14", "hearsay", 0)
    ledger.open("ce", "2023-11-14", "live", 0)
    with pytest.raises(LedgerError, match="`kind`"):
        ledger.record("rumour", {}, 0)
    with pytest.raises(LedgerError, match="field `rows` is missing"):
        ledger.record("pool", {"start_ns": 0, "end_ns": 0, "columns": []}, 0)
    with pytest.raises(LedgerError, match="give its key"):
        Ledger(FORGER, ledger.place)
    assert len(ledger.take()) == 1


# ---- one vehicle -------------------------------------------------------------------------------------------------


@pytest.fixture
def proof(tmp_path):
    def written(document, name="proof.json"):
        path = tmp_path / name
        path.write_bytes(json.dumps(document, separators=(",", ":")).encode())
        return path

    return written


def test_a_vehicles_share_is_proven_without_the_others(proof):
    document = prove(LINES, "EV3")
    text = json.dumps(document)
    assert all(f"EV{n}" not in text for n in (0, 1, 2, 4))
    found = verify([proof(document)], KEY.public)
    # The second interval is signed by the key after it.
    assert [p["field"] for p in found["problems"]] == ["key"]
    first = document | {"items": document["items"][:1]}
    found = verify([proof(first)], KEY.public)
    assert found["ok"]
    assert found["rows"] == [
        {
            "vehicle": "EV3",
            "start_ns": START_NS,
            "end_ns": START_NS + 3 * NS,
            "delivered_kwh": 0.1 * 3,
            "reason": "none",
        }
    ]
    found = verify([proof(document)])
    assert found["ok"]
    assert len(found["rows"]) == 2
    assert len(prove(LINES, "EV3", START_NS + 3 * NS)["items"]) == 1
    assert len(prove(LINES, "EV3", None, START_NS + 3 * NS)["items"]) == 1


@pytest.mark.parametrize("vehicles", [1, 2, 3, 8, 13])
def test_a_proof_of_every_vehicle_of_every_fleet(vehicles, proof):
    lines = whole(vehicles)
    for n in range(vehicles):
        assert verify([proof(prove(lines, f"EV{n}"))])["ok"]


def test_a_proof_for_another_vehicle_place_or_number_is_found(proof):
    document = prove(LINES, "EV3")
    other = prove(LINES, "EV2")
    item, stranger = document["items"][0], other["items"][0]

    def field(change, **top):
        found = verify([proof(document | {"items": [item | change]} | top)])
        assert not found["ok"]
        return found["problems"][0]["field"]

    assert field({}, vehicle="EV2") == "vehicle"
    assert field({"row": stranger["row"]}) == "row"
    assert field({"index": stranger["index"]}) == "row"
    assert field({"path": item["path"][:-1]}) == "row"
    assert field({"path": stranger["path"]}) == "row"
    assert field({"row": item["row"].replace("none", "rich")}) == "row"
    assert field({"records": document["items"][1]["records"]}) == "row"
    assert field({"records": item["records"][:1]}) == "records"
    assert field({"records": item["records"][1:]}) == "records"
    assert field({"records": [item["records"][0], document["items"][1]["records"][-1]]}) == "records"
    assert field({}, ledger="another") == "signature"
    assert field({}, version=2) == "version"
    assert field({"path": 7}) == ""
    assert verify([proof(document | {"items": []})])["problems"][0]["field"] == "items"


def test_a_share_that_is_told_twice_is_found(proof):
    """The document itself is signed by nobody: its rows must not add up to more than was sealed."""
    document = prove(LINES, "EV3", None, START_NS + 3 * NS)
    found = verify([proof(document | {"items": 2 * document["items"]})])
    assert [p["field"] for p in found["problems"]] == ["items"]
    assert len(found["rows"]) == 1


def test_whichever_bit_of_a_proof_flips_it_is_found(tmp_path):
    data, rng = json.dumps(prove(LINES, "EV3"), separators=(",", ":")).encode(), np.random.default_rng(9)
    path = tmp_path / "proof.json"
    for place in range(1, len(data), 2):
        flipped = bytearray(data)
        flipped[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(flipped)
        assert not verify([path])["ok"], f"byte {place}: {data[place - 20 : place + 20]!r}"


def test_rows_left_out_can_be_checked_and_not_read():
    hidden = list(redact(LINES))
    assert problems(hidden) == []
    assert b"EV3" not in b"".join(hidden)
    checker = Checker()
    checker.file("f", hidden)
    assert (checker.leaves, checker.redacted) == (10, 10)
    with pytest.raises(ProofError, match="left out of this file"):
        prove(hidden, "EV3")
    with pytest.raises(ProofError, match="vehicle `EV9` is in no interval"):
        prove(LINES, "EV9")
    with pytest.raises(ProofError, match="line 2 is no whole"):
        prove([LINES[0], b"x\n"], "EV3")
    with pytest.raises(ProofError, match="line 1 is no whole leaf"):
        list(redact([b'{"leaf":"x"}\n']))


def test_equal_rows_cannot_be_guessed_from_their_hashes():
    """Two vehicles that did nothing have different leaves, and other ones an interval later."""
    ledger = Ledger(KEY)
    begun(ledger)
    for start in (0, 1):
        ledger.root(start, start + 1, ["vehicle"], [("EV",), ("EV",)], START_NS)
    leaves = [json.loads(line)["leaf"] for line in ledger.take() if line.startswith(b'{"leaf"')]
    assert len(set(leaves)) == 4


# ---- alone on another machine ------------------------------------------------------------------------------------


def alone(tmp_path: Path, *args: str) -> subprocess.CompletedProcess:
    """The one file, copied, in an interpreter that knows nothing of ours."""
    copy = tmp_path / "alone" / "check.py"
    copy.parent.mkdir(exist_ok=True)
    shutil.copy(verifier.__file__, copy)
    return subprocess.run(
        [sys.executable, "-I", str(copy), *args], cwd=copy.parent, env={}, capture_output=True, text=True, check=False
    )


def test_the_verifier_runs_alone(tmp_path):
    path, cut, key = tmp_path / "day.jsonl", tmp_path / "cut.jsonl.gz", tmp_path / "key.pub"
    path.write_bytes(b"".join(LINES))
    cut.write_bytes(gzip.compress(b"".join(LINES[:-1])))
    key.write_text(KEY.public + "\n")
    told = alone(tmp_path, str(path), "--key", str(key), "--json")
    assert told.returncode == 0, told.stderr
    found = json.loads(told.stdout)
    assert found["ok"]
    assert found["key_given"]
    assert found["leaves"] == 10
    told = alone(tmp_path, str(cut), "--key", KEY.public)
    assert told.returncode == 2
    assert "after the last signed head" in told.stderr
    assert alone(tmp_path, str(path), "--key", FORGER.public).returncode == 2
    assert "64 hexadecimal digits" in alone(tmp_path, str(path), "--key", "7").stderr
    assert alone(tmp_path, str(tmp_path / "none")).returncode == 2
    document = tmp_path / "proof.json"
    document.write_text(json.dumps(prove(LINES, "EV1"), separators=(",", ":")))
    told = alone(tmp_path, str(document))
    assert told.returncode == 0, told.stderr
    assert NEW_KEY.public in told.stdout


def test_the_verifier_imports_nothing_of_ours():
    tree = ast.parse(Path(verifier.__file__).read_text(encoding="utf-8"))
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    tops = {module.partition(".")[0] for module in modules}
    assert tops <= sys.stdlib_module_names | {"cryptography", "__future__"}


def test_a_damaged_compressed_file_is_named(tmp_path):
    data = gzip.compress(b"".join(LINES), mtime=0)
    rng = np.random.default_rng(3)
    path = tmp_path / "day.jsonl.gz"
    path.write_bytes(data)
    assert verify([path])["ok"]
    for place in rng.integers(12, len(data), 200).tolist():
        flipped = bytearray(data)
        flipped[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(flipped)
        assert not verify([path])["ok"], place
    path.write_bytes(data[: len(data) // 2])
    assert not verify([path])["ok"]


def test_keys_are_used_in_their_turn():
    assert Key(b"\x01" * 32).public == KEY.public
    k = next(k for k in RECORDS if body(LINES[k])["kind"] == "key")
    without = rechained(LINES[:k] + LINES[k + 1 :], k - 1)
    assert any(p.field in ("key", "signature", "seq") for p in problems(without))

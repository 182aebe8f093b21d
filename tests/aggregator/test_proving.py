"""`flyball verify | seal | prove | redact | evidence`: what they print, what they write, and how wrong use reads."""

from __future__ import annotations

import json
import shutil

import pytest

from aggregator import settle
from aggregator.evidence_files import EvidenceFiles, evidence_files
from aggregator.evidence_keys import evidence_keys
from aggregator.sealing import Sealer
from aggregator.settle import Settler
from settlement.verifier import RECORD
from tests.aggregator.test_cli import flyball  # noqa: F401 - a fixture
from tests.aggregator.test_sealing import shares
from tests.aggregator.test_settle import NS, QUARTER, START_S, Worker
from tests.settlement.sealed import KEY, NEW_KEY, START_NS, body, line_of, whole

LINES = whole()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a run of one interval and a bit."""
    folder, worker = tmp_path_factory.mktemp("run"), Worker()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settle, "PROVISIONAL_S", 1e6)
        files = EvidenceFiles(folder / "evidence", evidence_keys(folder / "keys"), "CE")
        settler = Settler(folder / "journal", lambda _: None, sealer=Sealer(files, shares))
        for s in range(QUARTER + 30):
            settler.feed(*worker.second(s))
        settler.on_time((START_S + QUARTER + 30) * NS)
        settler.close()
    return folder


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "day.jsonl"
    path.write_bytes(b"".join(LINES))
    return path


def test_a_whole_file_passes(flyball, file):  # noqa: F811
    said = flyball("verify", str(file), "--key", KEY.public, "--json", "-")
    assert said.code == 0
    assert said.err == ""
    found = said.json()
    assert (found["ok"], found["leaves"], found["heads"], found["problems"]) == (True, 10, 3, [])
    assert found["head"] == RECORD.fullmatch(LINES[-1])[1].decode()
    said = flyball("verify", str(file))
    assert said.code == 0
    assert "compare it with the one published" in said.err
    assert NEW_KEY.public in said.out


def test_what_was_changed_is_named_and_the_status_is_2(flyball, file):  # noqa: F811
    record = body(LINES[3]) | {"sealed_ns": 1}
    file.write_bytes(b"".join([*LINES[:3], line_of(record), *LINES[4:]]))
    said = flyball("verify", str(file), "--json", "-")
    assert said.code == 2
    found = said.json()
    assert not found["ok"]
    assert found["problems"][0]["line"] == 5
    assert f"{file}, line 5, facts 4: field `prev`" in said.err
    file.write_bytes(b"".join(LINES[:-1]))
    said = flyball("verify", str(file), "--open")
    assert said.code == 2
    assert "after the last signed head" in said.err


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["verify", "nowhere"], ["PATHS", "nowhere"]),
        (["verify", "."], ["PATHS", "no journal"]),
        (["verify", "day.jsonl", "--key", "x"], ["--key", "64 hexadecimal"]),
        (["verify", "day.jsonl", "--json", "no/where.json"], ["--json", "no/where.json"]),
        (["verify", "day.jsonl", "--head", "00"], ["head 00"]),
        (["seal", "nowhere", "--out", "x"], ["FOLDER", "nowhere"]),
        (["seal", ".", "--out", "no/where"], ["--out"]),
        (["prove", "day.jsonl", "EV9", "--out", "x"], ["EV9"]),
        (["prove", "day.jsonl", "EV3", "--out", "x", "--start", "noon"], ["--start", "ISO 8601"]),
        (["evidence", "nowhere"], ["FOLDER", "nowhere"]),
    ],
)
def test_wrong_use_is_named_and_writes_nothing(flyball, file, words, named):  # noqa: F811
    said = flyball(*words)
    assert said.code == 2
    assert all(word in said.err for word in named), said.err
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_a_share_is_proven_and_verified(flyball, file, tmp_path):  # noqa: F811
    said = flyball("prove", str(file), "EV3", "--out", "proof.json", "--json", "-")
    assert said.code == 0
    assert said.json()["intervals"] == 2
    found = flyball("verify", "proof.json", "--json", "-").json()
    assert [row["vehicle"] for row in found["rows"]] == ["EV3", "EV3"]
    document = json.loads((tmp_path / "proof.json").read_bytes())
    document["vehicle"] = "EV2"
    (tmp_path / "proof.json").write_text(json.dumps(document, separators=(",", ":")))
    said = flyball("verify", "proof.json")
    assert said.code == 2
    assert "field `vehicle`: a row of EV3" in said.err
    first = flyball("prove", str(file), "EV3", "--out", "proof.json", "--end", f"@{START_NS}")
    assert first.code == 2


def test_rows_are_left_out_and_the_rest_still_holds(flyball, file, tmp_path):  # noqa: F811
    assert flyball("redact", str(file), "--out", "less.jsonl").code == 0
    found = flyball("verify", "less.jsonl", "--json", "-").json()
    assert (found["ok"], found["redacted"]) == (True, 10)
    said = flyball("prove", "less.jsonl", "EV3", "--out", "x")
    assert said.code == 2
    assert "left out" in said.err


def test_a_run_is_verified_and_computed_again(flyball, finished, tmp_path):  # noqa: F811
    key = str(finished / "keys" / "evidence-1.pub")
    found = flyball("verify", str(finished), "--recompute", "--key", key, "--json", "-").json()
    assert (found["ok"], found["statements"], found["recomputed"], found["recomputed_s"]) == (True, 1, 1, QUARTER)
    shown = flyball("evidence", str(finished), "--json", "-").json()
    assert shown["head"] == found["head"]
    assert shown["key"] == (finished / "keys" / "evidence-1.pub").read_text().strip()
    (path,) = evidence_files(finished / "evidence")
    assert shown["files"] == [str(path)]
    data = path.read_bytes().splitlines(keepends=True)
    place = next(k for k, line in enumerate(data) if b'"kind":"statement"' in line)
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    (copy / "evidence" / path.name).write_bytes(b"".join([*data[:place], *data[place + 1 :]]))
    said = flyball("verify", str(copy))
    assert said.code == 2
    assert "missing before it: 2..2" in said.err


def test_a_run_sealed_late_and_a_lie_in_it(flyball, finished, tmp_path):  # noqa: F811
    said = flyball("seal", str(finished), "--out", "late.jsonl", "--json", "-")
    assert said.code == 0
    assert said.json()["statements"] == 1
    found = flyball("verify", "late.jsonl", "--recompute", "--json", "-").json()
    assert (found["ok"], found["origin"], found["recomputed"]) == (True, "journal", 1)
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    (path,) = (copy / "journal" / "statements").glob("*.json")
    text = path.read_text()
    path.write_text(text.replace('"mileage": ', '"mileage": 1'))
    said = flyball("verify", str(copy))
    assert said.code == 2
    assert "field `mileage`" in said.err


def test_a_new_key_is_made_and_shown(flyball, finished, tmp_path):  # noqa: F811
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    before = flyball("evidence", str(copy), "--json", "-").json()["key"]
    after = flyball("evidence", str(copy), "--rotate", "--json", "-").json()["key"]
    assert before != after
    assert (copy / "keys" / "evidence-2.pub").read_text().strip() == after

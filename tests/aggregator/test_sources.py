"""Several sources in one ingest process: made from the configuration, judged apart, one chosen, told in figures."""

from __future__ import annotations

import math
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aggregator import sources
from aggregator.config import ChoiceTable, Config, SourceTable, UnitTable, validate
from aggregator.sources import Followed, Inbox, SourceError, Sources, follow, gate_settings, make
from telemetry.choice import ChoiceSettings
from telemetry.median import MedianGate
from telemetry.quality import Gate, GateSettings
from telemetry.samples import FREQUENCY, Block, Quality
from telemetry.source import OnBlock, SourceStatus

S = 1_000_000_000
BEGIN = 1_000 * S


class Deaf:
    """A source that delivers what it is told to, when it is told to."""

    def __init__(self, **options: Any) -> None:
        self.options, self.on_block = options, None

    def start(self, on_block: OnBlock) -> None:
        self.on_block = on_block

    def stop(self) -> None:
        self.on_block = None

    def status(self) -> SourceStatus:
        return SourceStatus(connected=True, reports=3)


def some(*numbers: int, gate=Gate, **changes: Any) -> Sources:
    table = SourceTable(name="x", port=1)
    followed = {
        n: Followed(table.model_copy(update={"name": f"s{n}", "priority": n}), Deaf(), gate(GateSettings(), live=True))
        for n in numbers
    }
    return Sources(followed, ChoiceSettings(**changes), BEGIN)


def rows(number: int, from_s: float, until_s: float, hz: float = 50.0, quality: int = 0) -> list[Block]:
    """Blocks of one row, 20 a second."""
    t_s = np.arange(from_s + 0.005 * number, until_s, 0.05)
    out = np.zeros(t_s.size, FREQUENCY)
    out["t_ns"] = BEGIN + np.round(t_s * S).astype(np.int64)
    out["rx_ns"], out["source"], out["volt_frac"], out["quality"] = out["t_ns"] + 1_000_000, number, 1.0, quality
    out["hz"] = hz * (1 + 2e-5 * (np.arange(t_s.size) % 3))
    return [out[i : i + 1] for i in range(out.size)]


def together(*blocks: list[Block]) -> list[Block]:
    return sorted(chain(*blocks), key=lambda block: int(block["rx_ns"][0]))


def by_name(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {source["name"]: source for source in found["sources"]}


def test_a_source_alone_is_published_as_its_gate_marked_it() -> None:
    one = some(1)
    blocks = rows(1, 0, 2) + rows(1, 2, 2.2, hz=0.0) + rows(1, 2.2, 3)
    blocks[-1]["hz"] = math.nan
    taken = one.take(blocks)
    assert taken.judged.size == 0  # nothing beside it
    assert taken.decided.tobytes() == Gate(live=True).check(np.concatenate(blocks)).tobytes()
    assert (taken.decided["quality"] > 0).sum() == 5
    one.watch(BEGIN + 60 * S)
    found = one.figures(BEGIN + 3 * S)
    assert found["alarms"] == []  # its loss is a frequency lost, the core's to tell
    assert found["rejected"] == {"zero": 4, "nan": 1}
    assert by_name(found)["s1"]["link"]["reports"] == 3
    assert found["choice"]["decisions"] == by_name(found)["s1"]["decided"] == taken.decided.size
    assert by_name(found)["s1"]["state"] == "rejected"
    one.take(rows(1, 3, 4))
    found = by_name(one.figures(BEGIN + 4 * S))["s1"]
    assert (found["state"], found["why"], found["used"]) == ("used", "the only source", True)


def test_each_source_is_judged_by_a_gate_of_its_own() -> None:
    two = some(1, 2)
    # 0.3 Hz apart: in one gate every row would be a spike of the other source.
    taken = two.take(together(rows(1, 0, 3), rows(2, 0, 3, hz=50.3)))
    assert not taken.judged["quality"].any()
    assert sorted(set(taken.judged["source"].tolist())) == [1, 2]
    bad = two.take(together(rows(1, 3, 3.1, hz=0.0), rows(2, 3, 3.1, hz=50.3)))
    assert set(bad.judged["quality"][bad.judged["source"] == 1].tolist()) == {int(Quality.ZERO)}
    assert not bad.judged["quality"][bad.judged["source"] == 2].any()
    found = by_name(two.figures(BEGIN + 3 * S))
    assert (found["s1"]["rejected"], found["s2"]["rejected"]) == ({"zero": 2}, {})


def test_alarms_come_and_go_with_the_sources() -> None:
    three = some(1, 2, 3, return_s=1.0)
    three.take(together(rows(1, 0, 4), rows(2, 0, 4), rows(3, 0, 4)))
    three.watch(BEGIN + 4 * S)
    assert three.figures(BEGIN + 4 * S)["standing"] == []
    three.take(together(rows(1, 4, 6), rows(2, 4, 6)))
    for at_s in (5, 6):
        three.watch(BEGIN + at_s * S)
    found = three.figures(BEGIN + 6 * S)
    assert [alarm["code"] for alarm in found["standing"]] == ["SOURCE_LOST"]
    assert by_name(found)["s3"]["state"] == "lost"
    assert "silent for 2.0" in by_name(found)["s3"]["why"]
    three.take(together(rows(1, 6, 9), rows(2, 6, 9), rows(3, 6, 9)))
    three.watch(BEGIN + 9 * S)
    assert three.figures(BEGIN + 9 * S)["standing"] == []
    for at_s in (9, 10, 11):
        taken = three.take(together(rows(1, at_s, at_s + 1), rows(2, at_s, at_s + 1), rows(3, at_s, at_s + 1, hz=50.1)))
        three.watch(BEGIN + (at_s + 1) * S)
    assert (taken.judged["quality"] == np.where(taken.judged["source"] == 3, int(Quality.OUTVOTED), 0)).all()
    found = three.figures(BEGIN + 12 * S)
    assert [alarm["code"] for alarm in found["standing"]] == ["SOURCES_DISAGREE"]  # it is not lost, it is not believed
    assert by_name(found)["s3"]["state"] == "outvoted"
    assert by_name(found)["s3"]["rejected"]["outvoted"] > 20
    assert found["alarms"] == ["SOURCE_LOST", "SOURCES_DISAGREE"]
    assert found["choice"]["outvotings"] == 1


def test_all_gone_at_once_is_not_one_missed() -> None:
    two = some(1, 2)
    two.take(together(rows(1, 0, 3), rows(2, 0, 3.2)))
    for at_s in (3.0, 3.6, 3.9, 5.0, 9.0):
        two.watch(BEGIN + round(at_s * S))
    assert two.figures(BEGIN + 9 * S)["alarms"] == []


def test_one_that_was_never_heard_is_missed_after_a_while() -> None:
    two = some(1, 2)
    for at_s in range(20):
        two.take(rows(1, at_s, at_s + 1))
        two.watch(BEGIN + (at_s + 1) * S)
        standing = [alarm["code"] for alarm in two.figures(BEGIN + (at_s + 1) * S)["standing"]]
        assert standing == (["SOURCE_LOST"] if at_s + 1 >= 11 else [])
    assert by_name(two.figures(BEGIN + 20 * S))["s2"]["state"] == "unheard"


@pytest.mark.parametrize(
    ("policy", "state_2", "why_1"),
    [
        ("priority", "standby", "the first in the order that is in service"),
        ("voting", "used", "one of 2 in the median"),
    ],
)
def test_which_one_is_used_and_why(policy: str, state_2: str, why_1: str) -> None:
    two = some(1, 2, policy=policy)
    two.take(together(rows(1, 0, 3), rows(2, 0, 3)))
    found = by_name(two.figures(BEGIN + 3 * S))
    assert (found["s1"]["state"], found["s1"]["why"], found["s1"]["used"]) == ("used", why_1, True)
    assert (found["s2"]["state"], found["s2"]["used"]) == (state_2, state_2 == "used")
    two.take(together(rows(1, 3, 4, quality=int(Quality.INVALID)), rows(2, 3, 4)))
    found = by_name(two.figures(BEGIN + 4 * S))
    assert (found["s1"]["state"], found["s1"]["why"]) == ("lost", "newest row: invalid")
    assert found["s2"]["state"] == "used"
    two.take(together(rows(1, 4, 6), rows(2, 4, 6)))
    found = by_name(two.figures(BEGIN + 6 * S))
    assert found["s1"]["state"] == "returning"
    assert "usable for 2.0 s" in found["s1"]["why"]


def test_with_a_median_of_three_the_newest_row_waits_and_is_not_lost() -> None:
    one = some(1, gate=MedianGate)
    blocks = rows(1, 0, 1)
    assert one.take(blocks).decided["t_ns"].tolist() == [int(block["t_ns"][0]) for block in blocks[:-1]]
    assert one.flush().decided["t_ns"].tolist() == [int(blocks[-1]["t_ns"][0])]


def test_blocks_come_through_the_inbox_in_order() -> None:
    inbox, two = Inbox(), some(1, 2)
    two.start(inbox)
    assert inbox.take(0.0) == []
    blocks = together(rows(1, 0, 1), rows(2, 0, 1))
    for block in blocks:
        two.followed[int(block["source"][0])].source.on_block(block)
    assert inbox.take(0.0) == blocks
    two.stop()
    assert all(one.source.on_block is None for one in two.followed.values())


# ---- made from the configuration


class Package:
    """A protocol's package, as `importlib` would give it."""

    def __init__(self) -> None:
        self.made: list[tuple[Any, ...]] = []

    def make_client(
        self, *place: Any, source: int, nominal_volt: float, silent_after_s: float | None = None, **more: Any
    ) -> Deaf:
        if "odd" in more:
            raise TypeError("make_client() got an unexpected keyword argument 'odd'")
        if more.get("idcode") == 0:
            raise ValueError("idcode 0: give one from 1")
        self.made.append((*place, source, nominal_volt, silent_after_s, more))
        return Deaf()


# What a device without anything of its own is followed with.
PLAIN = {"hz_ref": None, "volt_ref": None, "poll_ms": 20, "plaintext": False, "password": None, "tls": None}


def configured(*tables: dict[str, Any], **more: Any) -> Config:
    return validate({"source": list(tables), **more}, "test")


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> Package:
    found = Package()
    monkeypatch.setattr(sources.importlib, "import_module", lambda _: found)
    return found


def test_sources_are_made_in_the_order_of_their_priority(package: Package) -> None:
    config = configured(
        {"name": "b", "port": 2, "priority": 2, "options": {"report_block": "X/LLN0.RP.a", "backend": "open61850"}},
        {
            "name": "a",
            "kind": "c37118",
            "host": "192.0.2.1",
            "port": 1,
            "options": {"idcode": 7},
            "nominal_volt": 230.0,
        },
        unit={"silent_after_s": 2.0},
    )
    found = follow(config, 60.0, BEGIN)
    assert [one.table.name for one in found.followed.values()] == ["a", "b"]
    assert package.made == [
        ("192.0.2.1", 1, 1, 230.0, 2.0, {"idcode": 7}),
        ("open61850", "127.0.0.1", 2, "X/LLN0.RP.a", 2, 11547.0, 2.0, PLAIN),
    ]
    assert found.followed[1].gate.settings.nominal_hz == 60.0


def test_without_tables_the_unit_is_the_source_as_ever(package: Package) -> None:
    found = follow(validate({"unit": {"port": 9, "host": "192.0.2.7", "simulated": False}}, "test"), 50.0, BEGIN)
    assert package.made == [(None, "192.0.2.7", 9, None, 1, 11547.0, 3.0, PLAIN)]
    assert [one.table.name for one in found.followed.values()] == ["unit1"]


def test_settings_reach_gates_and_choice(package: Package) -> None:
    config = configured(
        {"name": "a", "port": 1}, quality={"spike_test": "median", "clock_jump_s": 0.2}, choice={"policy": "voting"}
    )
    found = follow(config, 50.0, BEGIN)
    assert isinstance(found.followed[1].gate, MedianGate)
    assert found.followed[1].gate.settings.clock_jump_s == 0.2
    assert found.choice.settings == ChoiceSettings(policy="voting")
    assert gate_settings(Config(), 50.0) == GateSettings()
    assert sources.choice_settings(ChoiceTable()) == ChoiceSettings()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"odd": 1}, r"^`source\.options` of 'p': .*'odd'; remove or correct it$"),
        ({"idcode": 0}, r"^`source` 'p': idcode 0: give one from 1$"),
        ({"silent_after_s": 1}, r"^`source\.options` of 'p': silent_after_s stands beside `options`"),
    ],
)
def test_options_that_no_client_takes_are_named(package: Package, options: dict[str, Any], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        make(SourceTable(name="p", kind="c37118", port=1, options=options), UnitTable(), 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prot": 1}, r"^`source\.options` of 'p': unknown 'prot'; known are backend, "),
        ({"port": 1}, r"^`source\.options` of 'p': unknown 'port'"),
        ({"poll_ms": -1}, r"^`source\.options` of 'p': `poll_ms`: .*, got -1$"),
        ({"tls": {"cert": "c"}}, r"^`source\.options` of 'p': `tls\.key`: Field required"),
    ],
)
def test_options_of_a_device_are_those_of_the_unit(package: Package, options: dict[str, Any], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        make(SourceTable(name="p", port=1, options=options), UnitTable(), 1)
    own = {"poll_ms": 0, "plaintext": True, "tls": {"cert": "c", "key": "k", "pins": ["p"]}}
    make(SourceTable(name="p", port=1, options=own), UnitTable(volt_ref="X/MMXU1.PhV"), 3)
    made = package.made[-1][-1]
    assert (made["poll_ms"], made["plaintext"], made["volt_ref"]) == (None, True, "X/MMXU1.PhV")
    assert made["tls"].pins == (Path("p"),)


def test_a_history_is_asked_for_where_it_is_wanted(package: Package) -> None:
    class Late:
        def __init__(self) -> None:
            self.followed: list[str] = []

        def options(self, name: str) -> dict[str, Any]:
            return {"bookmark": name}

        def follow(self, name: str, source: Any) -> None:
            assert isinstance(source, Deaf)
            self.followed.append(name)

    late = Late()
    tables = (
        {"name": "a", "port": 1, "options": {"history": True}}, {"name": "b", "port": 2},
        {"name": "c", "port": 3, "kind": "c37118"},
    )  # fmt: skip
    follow(configured(*tables), 50.0, BEGIN, late)
    assert late.followed == ["a"]
    assert [made[-1].get("bookmark") for made in package.made] == ["a", None, None]
    follow(configured(*tables), 50.0, BEGIN)
    assert package.made[-3][-1] == PLAIN


def test_a_goose_source_has_an_interface_and_no_port(package: Package) -> None:
    table = {"name": "bay", "kind": "goose", "host": "eth1", "options": {"reference": "BAY/LLN0$GO$gcb"}}
    follow(configured(table), 50.0, BEGIN)
    assert package.made == [("eth1", 0, 1, 11547.0, None, {"reference": "BAY/LLN0$GO$gcb"})]
    follow(configured({**table, "silent_after_s": 7.0}), 50.0, BEGIN)
    assert package.made[-1][4] == 7.0


def test_a_kind_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sources.KINDS, "c37118", "telemetry.nothing_of_that_name")
    with pytest.raises(SourceError, match=r"^`source\.kind` of 'p': c37118: .*; choose another kind$"):
        make(SourceTable(name="p", kind="c37118", port=1), UnitTable(), 1)

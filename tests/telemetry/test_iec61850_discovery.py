"""What a device has, found by asking it and by reading its file; and files that are not to be trusted."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from telemetry.iec61850 import make_client, make_connect
from telemetry.iec61850.discovery import Description, browse
from telemetry.iec61850.errors import LayoutError, LinkLost, SclError, SubscribeError
from telemetry.iec61850.layout import BIT_STRING, FLOAT, STRUCTURE, UTC_TIME, Spec
from telemetry.iec61850.link import BlockStatus
from telemetry.iec61850.scl import SclModel
from tests.telemetry.ieds import NAMES, Rows, ends, linked, need, unit_here, until

DATA = Path(os.environ.get("FLYBALL_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))


def published(name: str) -> Path:
    path = DATA / "iec61850_scl" / name
    if not path.exists():
        pytest.skip(f"{path} is not here: set FLYBALL_DATA to the folder of recorded data")
    return path


# A device as few of ours: names of its own, i before f, no voltage where the frequency is first, blocks in the node.
STRANGER = """<?xml version="1.0"?>
<SCL xmlns="http://www.iec.ch/61850/2003/SCL" xmlns:v="urn:vendor" version="2007" revision="B"><Header id="x"/>
<v:Private><v:LDevice inst="NOT_ONE"/></v:Private>
<IED name="BAY7"><AccessPoint name="P"><Server>
 <LDevice inst="CTRL"><LN0 lnClass="LLN0" inst="" lnType="ZERO">
  <DataSet name="Foreign"><FCDA ldInst="PQ" prefix="A" lnClass="MMXU" lnInst="3" doName="Hz" fc="MX"/></DataSet>
  <ReportControl name="far" datSet="Foreign" confRev="1" indexed="false"><TrgOps/><OptFields/></ReportControl>
  <ReportControl name="empty" confRev="1"><TrgOps/><OptFields/><RptEnabled max="2"/></ReportControl></LN0>
 </LDevice>
 <LDevice inst="PQ"><LN0 lnClass="LLN0" inst="" lnType="ZERO"/>
  <LN prefix="A" lnClass="MMXU" inst="3" lnType="BARE"/>
  <LN prefix="B" lnClass="MMXU" inst="1" lnType="FULL">
   <DataSet name="Single">
    <FCDA ldInst="PQ" prefix="B" lnClass="MMXU" lnInst="1" doName="Hz" daName="t" fc="MX"/>
    <FCDA ldInst="PQ" prefix="B" lnClass="MMXU" lnInst="1" doName="Hz" daName="q" fc="MX"/>
    <FCDA ldInst="PQ" prefix="B" lnClass="MMXU" lnInst="1" doName="Hz" daName="mag.f" fc="MX"/>
    <FCDA ldInst="PQ" prefix="B" lnClass="MMXU" lnInst="1" doName="PhV" fc="MX"/></DataSet>
   <DataSet name="Whole">
    <FCDA ldInst="PQ" prefix="B" lnClass="MMXU" lnInst="1" doName="PhV" fc="MX"/>
    <FCDA ldInst="PQ" prefix="B" lnClass="MMXU" lnInst="1" doName="TotW" fc="MX"/>
    <FCDA ldInst="PQ" prefix="B" lnClass="MMXU" lnInst="1" doName="Hz" fc="MX"/></DataSet>
   <ReportControl name="s" datSet="Single" rptID="s" confRev="1" intgPd="1000">BODY</ReportControl>
   <ReportControl name="b" datSet="Whole" rptID="b" confRev="1" buffered="true" intgPd="1000">BODY</ReportControl>
   <ReportControl name="w" datSet="Whole" rptID="w" confRev="1" intgPd="1000">BODY</ReportControl></LN>
  <LN lnClass="MMXU" inst="2" lnType="SCALED"/>
 </LDevice></Server></AccessPoint></IED>
<DataTypeTemplates>
 <LNodeType id="ZERO" lnClass="LLN0"><DO name="Beh" type="ENS"/></LNodeType>
 <LNodeType id="BARE" lnClass="MMXU"><DO name="Beh" type="ENS"/><DO name="Hz" type="MV"/></LNodeType>
 <LNodeType id="FULL" lnClass="MMXU"><DO name="PhV" type="WYE"/><DO name="HzRte" type="MV"/><DO name="Hz" type="MV"/>
  <DO name="TotW" type="MV"/></LNodeType>
 <LNodeType id="SCALED" lnClass="MMXU"><DO name="Hz" type="INTEGER"/></LNodeType>
 <DOType id="ENS" cdc="ENS"><DA name="stVal" bType="INT32" fc="ST" dchg="true"/>
  <DA name="q" bType="Quality" fc="ST"/><DA name="t" bType="Timestamp" fc="ST"/></DOType>
 <DOType id="MV" cdc="MV"><DA name="instMag" bType="Struct" type="Both" fc="MX"/>
  <DA name="mag" bType="Struct" type="Both" fc="MX" dchg="true"/><DA name="units" bType="INT32" fc="CF"/>
  <DA name="range" bType="INT8" fc="MX"/><DA name="q" bType="Quality" fc="MX" qchg="true"/>
  <DA name="t" bType="Timestamp" fc="MX" dupd="true"/></DOType>
 <DOType id="INTEGER" cdc="MV"><DA name="mag" bType="Struct" type="Whole" fc="MX" dchg="true"/>
  <DA name="q" bType="Quality" fc="MX"/><DA name="t" bType="Timestamp" fc="MX"/></DOType>
 <DOType id="CMV" cdc="CMV"><DA name="cVal" bType="Struct" type="Vector" fc="MX" dchg="true"/>
  <DA name="q" bType="Quality" fc="MX" qchg="true"/><DA name="t" bType="Timestamp" fc="MX" dupd="true"/></DOType>
 <DOType id="WYE" cdc="WYE"><SDO name="neut" type="CMV"/><SDO name="phsC" type="CMV"/><SDO name="phsA" type="CMV"/>
  </DOType>
 <DAType id="Both"><BDA name="i" bType="INT32"/><BDA name="f" bType="FLOAT32"/></DAType>
 <DAType id="Whole"><BDA name="i" bType="INT32"/></DAType>
 <DAType id="Vector"><BDA name="ang" bType="Struct" type="Both"/><BDA name="mag" bType="Struct" type="Both"/></DAType>
</DataTypeTemplates></SCL>""".replace(
    "BODY",
    '<TrgOps dchg="true" qchg="true" dupd="true" period="true"/><OptFields seqNum="true" timeStamp="true" '
    'reasonCode="true" dataSet="true" entryID="true" configRef="true"/><RptEnabled max="2"/>',
)


@pytest.fixture
def stranger(tmp_path: Path) -> Path:
    path = tmp_path / "bay7.cid"
    path.write_text(STRANGER, encoding="utf-8")
    return path


@contextmanager
def served(path: Path, ied: str) -> Iterator[tuple[Any, int]]:
    """The file as a device, by an implementation that is not ours."""
    need("open61850")
    from open61850.server import IedModel, MmsServer

    model = IedModel.from_scl(path, ied)
    server = MmsServer(model, "127.0.0.1", 0)
    server.start()
    try:
        yield model, server._sock.getsockname()[1]
    finally:
        server.stop()


def asked(backend: str, port: int) -> Description:
    link = make_connect(backend, "127.0.0.1", port)(lambda: False)
    try:
        return browse(link)
    finally:
        ends(link.close)


def alike(description: Description) -> Any:
    """Without where it comes from, and in any order: a device lists its names as it likes."""
    return set(description.devices), set(description.points), set(description.blocks)


# ---- a model


def test_a_stranger_is_understood_from_its_file(stranger: Path) -> None:
    found = browse(SclModel(stranger))
    assert found.devices == ("BAY7CTRL", "BAY7PQ")
    bare, full, scaled = found.points
    assert (bare.node, bare.volt, bare.phases, bare.why_not) == ("BAY7PQ/AMMXU3", "", 0, "")
    assert (full.node, full.volt, full.power) == ("BAY7PQ/BMMXU1", "BAY7PQ/BMMXU1.PhV", "BAY7PQ/BMMXU1.TotW")
    assert full.phases == 2  # neut is no phase
    assert "BAY7PQ/MMXU2.Hz.mag.f" in scaled.why_not
    judged = {block.ref.partition("/")[2]: block for block in found.blocks}
    assert list(judged) == ["LLN0.RP.far", "LLN0.RP.empty01", "LLN0.RP.empty02"] + [
        f"BMMXU1.{name}0{n}" for name in ("RP.s", "BR.b", "RP.w") for n in (1, 2)
    ]
    assert judged["LLN0.RP.empty01"].why_not == "it has no data set"
    assert (judged["LLN0.RP.far"].hz, judged["LLN0.RP.far"].phases) == ("BAY7PQ/AMMXU3.Hz", 0)
    assert not judged["BMMXU1.RP.s01"].whole
    order = [f"BAY7PQ/BMMXU1.{name}0{n}" for name in ("RP.w", "BR.b", "RP.s") for n in (1, 2)]
    assert found.choose() == [*order, "BAY7CTRL/LLN0.RP.far"]  # voltage, whole objects, unbuffered; far has no voltage
    assert found.choose(buffered=True) == order[2:4]
    result = json.loads(json.dumps(found.as_dict()))
    assert (result["report_block"], result["history_block"]) == (order[0], order[2])


def test_a_point_by_name_leaves_only_its_blocks(stranger: Path) -> None:
    found = browse(SclModel(stranger), hz_ref="BAY7PQ/AMMXU3.Hz")
    assert found.choose() == ["BAY7CTRL/LLN0.RP.far"]
    assert "no BAY7PQ/AMMXU3.Hz.mag.f" in next(b.why_not for b in found.blocks if b.ref.endswith("w01"))


def test_types_from_a_file_keep_their_order_and_leave_other_constraints_out(stranger: Path) -> None:
    model = SclModel(stranger)
    hz = model.type_of("BAY7PQ/BMMXU1.Hz")
    assert [child.name for child in hz.children] == ["instMag", "mag", "range", "q", "t"]
    assert hz.children[1] == Spec("mag", STRUCTURE, (Spec("i", -1), Spec("f", FLOAT)))
    assert [child.kind for child in hz.children[3:]] == [BIT_STRING, UTC_TIME]
    assert model.type_of("BAY7PQ/BMMXU1.Hz.mag.f") == Spec("f", FLOAT)
    for missing in ("BAY7PQ/BMMXU1.Beh", "BAY7PQ/BMMXU1.Hz.mag.g", "BAY7PQ/NONE1.Hz"):
        with pytest.raises(SubscribeError, match="no such object"):
            model.type_of(missing)
    with pytest.raises(SubscribeError, match="no such data set"):
        model.members("BAY7PQ/LLN0$none")


@pytest.mark.parametrize("client", NAMES)
def test_the_device_says_what_its_file_says_and_its_best_block_is_followed(client: str, stranger: Path) -> None:
    need(client)
    from open61850.data import BitStringData, FloatData, IntData, StructureData, TimestampData
    from open61850.mms.pdu import ObjectName

    from telemetry.iec61850 import permissive_server as ps

    with served(stranger, "BAY7") as (model, port):
        assert alike(asked(client, port)) == alike(browse(SclModel(stranger)))
        source, rows = make_client(client, "127.0.0.1", port), Rows()
        source.start(rows)
        linked(source)
        assert source.status().detail == "subscribed to BAY7PQ/BMMXU1.RP.w01"
        tail = [BitStringData(b"\x00\x00", 3), TimestampData(ps.EPOCH + ps.timedelta(seconds=1_700_000_000), 10)]
        numbers = [StructureData([IntData(4711), FloatData(hz)]) for hz in (12.5, 49.5, 3.0, 115.0, 230.0)]
        phases = [StructureData([StructureData([numbers[2], numbers[k]]), *tail]) for k in (2, 3, 4)]
        with model.batch():
            model.set(ObjectName("BMMXU1$MX$PhV", "BAY7PQ"), StructureData(phases))
            model.set(ObjectName("BMMXU1$MX$Hz", "BAY7PQ"), StructureData([*numbers[:2], IntData(3), *tail]))
        until(lambda: len(rows) == 1)
        row = rows.all()[0]
        assert (row["hz"], row["volt_frac"], row["t_ns"]) == (49.5, 0.5, 1_700_000_000_000_000_000)
        ends(source.stop)


@pytest.mark.parametrize("backend", NAMES)
def test_our_own_unit_is_found_without_a_name(backend: str) -> None:
    need(backend)
    with unit_here(backend, name="X", logical_device="LD0") as unit:
        found = asked(backend, unit.port)
        assert found.choose()[0] == "XLD0/LLN0.RP.urcb01"
        assert found.choose(buffered=True)[0] == "XLD0/LLN0.BR.brcb01"
        (point,) = found.points
        assert (point.phases, point.power) == (3, "XLD0/MMXU1.TotW")


class Model:
    """A model that misbehaves on demand."""

    source = "here"

    def __init__(self, error: Exception) -> None:
        self.error = error

    def domains(self) -> list[str]:
        return ["LD"]

    def variables(self, domain: str) -> list[str]:
        assert domain == "LD"
        return ["MMXU1$MX$Hz", "LLN0$RP$a01", "LLN0$RP$a01$RptID"]

    def members(self, data_set: str) -> list[tuple[str, str]]:
        raise self.error if data_set else AssertionError

    def type_of(self, ref: str) -> Spec:
        raise self.error if ref else AssertionError

    def status(self, block: str) -> BlockStatus:
        return BlockStatus(block, "LD/LLN0$d", "", "taken by another client")


def test_what_one_block_refuses_is_its_reason_and_a_lost_peer_ends_the_browsing() -> None:
    for error in (SubscribeError("read", 21), LayoutError("odd")):
        found = browse(Model(error))
        assert [(block.ref, block.why_not) for block in found.blocks] == [("LD/LLN0.RP.a01", str(error))]
        assert found.points[0].why_not == str(error)
        assert found.choose() == []
    with pytest.raises(LinkLost):
        browse(Model(LinkLost("read", 3)))


# ---- published files


@pytest.mark.parametrize(
    ("name", "devices", "points", "block"),
    [
        ("beanit/testModel2.icd", ("IEDBiogasCHP",), ["IEDBiogasCHP/MMXU1"], "IEDBiogasCHP/MMXU1.RP.ucrb01"),
        ("beanit/sample-model.icd", ("ied1lDevice1",), [], None),
        ("beanit/iec61850bean-sample01.icd", ("ied1lDevice1",), [], None),
        ("robidev/protection_relay.scd", ("IED1_XCBRGenericIO",), [], None),
    ],
)
def test_published_files(name: str, devices: tuple[str, ...], points: list[str], block: str | None) -> None:
    found = browse(SclModel(published(name)))
    assert found.devices == devices
    assert [point.node for point in found.points] == points
    assert found.as_dict()["report_block"] == block
    assert found.blocks
    assert all(judged.why_not for judged in found.blocks if judged.ref != block)


@pytest.mark.parametrize("client", NAMES)
def test_a_published_file_and_the_device_made_of_it_agree(client: str) -> None:
    need(client)
    path = published("beanit/testModel2.icd")
    with served(path, "IEDBiogas") as (_, port):
        assert alike(asked(client, port)) == alike(browse(SclModel(path)))


# ---- files that are not to be trusted

BOMB = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>'


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not XML"),
        ("<SCL", "not XML"),
        ("\x1f\x8b\x08", "compressed"),
        ("<html/>", "not <SCL>"),
        ("<SCL/>", "no IED"),
        (f"{BOMB}<SCL>&b;</SCL>", "document type"),
        ('<!DOCTYPE SCL SYSTEM "http://127.0.0.1:9/x.dtd"><SCL/>', "document type"),
        ("<SCL>" + "<a>" * 300 + "</a>" * 300 + "</SCL>", "nested deeper"),
        (STRANGER.replace('IED name="BAY7"', "IED"), "IED has no name"),
        (STRANGER.replace(' lnType="BARE"', ""), "LN has no lnType"),
        (STRANGER.replace('lnType="BARE"', 'lnType="NONE"'), "LNodeType 'NONE' is used and not defined"),
        (STRANGER.replace('name="phsA" type="CMV"', 'name="phsA" type="WYE"'), "contains itself"),
        (
            STRANGER.replace('name="phsA" type="CMV"', 'name="phsA" type="WYE"').replace(
                '"phsC" type="CMV"', '"phsC" type="WYE"'
            ),
            "or too much",
        ),  # 2**20 types in one
        (STRANGER.replace('max="2"', 'max="many"'), "not a number"),
    ],
)
def test_a_file_that_cannot_be_used_has_a_name(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "bad.icd"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(SclError, match=why) as raised:
        SclModel(path)
    assert str(path) in str(raised.value)


def test_no_file_and_a_file_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stranger: Path) -> None:
    with pytest.raises(SclError, match=r"cannot be read.*give an ICD"):
        SclModel(tmp_path / "none.icd")
    monkeypatch.setattr("telemetry.iec61850.scl.MOST_OCTETS", 100)
    with pytest.raises(SclError, match="more than 100"):
        SclModel(stranger)


def test_spoiled_files_are_read_or_refused_by_name(tmp_path: Path) -> None:
    rnd, path, read = random.Random(7), tmp_path / "spoiled.icd", 0  # noqa: S311
    for _ in range(300):
        octets = bytearray(STRANGER.encode())
        for _ in range(rnd.randrange(1, 4)):
            match rnd.randrange(3):
                case 0:
                    octets[rnd.randrange(len(octets))] = rnd.randrange(256)
                case 1:
                    at = rnd.randrange(len(octets))
                    del octets[at : at + rnd.randrange(1, 60)]
                case _:
                    at, begin = rnd.randrange(len(octets)), rnd.randrange(len(octets))
                    octets[at:at] = octets[begin : begin + rnd.randrange(1, 200)]
        path.write_bytes(octets)
        try:
            found = browse(SclModel(path))
        except SclError:
            continue
        read += 1
        json.dumps(found.as_dict())
    assert read

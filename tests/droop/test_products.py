"""Products as data: what ships can be trusted, and every bad file is refused with its field named."""

from __future__ import annotations

import math
import re
from dataclasses import FrozenInstanceError, fields
from datetime import date
from importlib import resources
from zoneinfo import ZoneInfo

import pytest

from droop.curve import fractions
from droop.products import (
    Product,
    ProductDateError,
    ProductError,
    catalogue,
    load,
    load_file,
    parse,
    to_table,
    valid_on,
)

GOOD = {
    "id": "mine",
    "title": "A market of mine",
    "area": "X",
    "nominal_hz": 50.0,
    "direction": "symmetric",
    "curve": [[-0.2, 1.0], [0.2, -1.0]],
    "confidence": "D",
}


def good(**changes):
    return {key: value for key, value in {**GOOD, **changes}.items() if value is not None}


IDS = [
    "ce_fcr", "ce_fcr_nl", "ce_fcr_de", "afrr_up", "afrr_down",
    "nordic_fcr_n", "nordic_fcr_d_up", "nordic_fcr_d_down", "nordic_fcr_d_up_static", "nordic_fcr_d_down_static",
    "nordic_ffr_a", "nordic_ffr_a_long", "nordic_ffr_b", "nordic_ffr_b_long", "nordic_ffr_c", "nordic_ffr_c_long",
    "gb_dc_low", "gb_dc_high", "gb_dm_low", "gb_dm_high", "gb_dr_low", "gb_dr_high", "gb_sffr",
    "pjm_reg_v1", "pjm_rega_v1", "pjm_reg_v2", "miso_reg", "isone_reg", "nyiso_reg", "caiso_reg_up", "caiso_reg_down",
    "spp_reg_up", "spp_reg_down",
    "ercot_reg_up", "ercot_reg_down", "ercot_rrs_ffr", "ercot_pfr",
    "nem_r1", "nem_r6", "nem_r60", "nem_r5", "nem_l1", "nem_l6", "nem_l60", "nem_l5", "nem_reg_raise",
    "nem_reg_lower",
    "ieee1547", "ieee1547_cat1", "ieee1547_cat3", "en50549", "lfsm_o", "lfsm_u",
]  # fmt: skip
SIXTY = ("pjm", "miso", "isone", "nyiso", "caiso", "spp", "ercot", "ieee1547")
# What settlement, scores, money and tests are called by in the files.
SCORES = {
    "ce_corridor", "neso_bounds", "pjm_v1", "pjm_precision_only", "caiso_accuracy", "nyiso_performance",
    "isone_performance", "miso_performance", "nem_fcas", "afrr_tolerance", "nordic_fcr", "ffr", "primary_response",
    "fpp",
}  # fmt: skip
PAID = {"efa", "pjm_v1", "miso", "isone", "nyiso", "caiso", "ercot", "spp", "nem", "fpp", "capacity_block"}


def test_catalogue():
    assert sorted(catalogue()) == sorted(IDS)


def test_a_file_is_named_by_its_id_and_a_name_belongs_to_one_product():
    files = {path.stem for path in (resources.files("droop") / "catalogue").iterdir() if path.suffix == ".toml"}
    assert files == set(catalogue())
    names = [name for product in catalogue().values() for name in (product.id, *product.aliases)]
    assert len(names) == len(set(names))
    assert all(name == name.lower() and " " not in name and "-" not in name for name in names)


@pytest.mark.parametrize("product", catalogue().values(), ids=catalogue())
def test_rules_are_named_as_settlement_knows_them(product):
    assert product.score.get("fn", "ce_corridor") in SCORES
    assert product.settlement.get("fn", "nem") in PAID
    assert product.penalty.get("fn", "ce_factors") == "ce_factors"
    # What is sold on a market is settled, in a currency, in a zone that there is.
    if product.settlement:
        ZoneInfo(product.market.zone)
        assert product.market.currency
        assert product.market.price_unit.startswith(product.market.currency + "/MW")
        assert product.reservoir is not None or product.id == "ercot_pfr"
    assert product.successor in {"", *catalogue()}


@pytest.mark.parametrize("product", catalogue().values(), ids=catalogue())
def test_what_must_be_reserved_can_be_held(product):
    """Energy for the product's own endurance at least, the way it is sold; energy management within the reservoir."""
    if product.reservoir is None:
        return
    store = product.reservoir
    for sold, power, energy_h in (
        (max(product.curve_frac), store.power_up_pu, store.energy_up_h),
        (-min(product.curve_frac), store.power_down_pu, store.energy_down_h),
    ):
        assert power >= sold
        assert energy_h * 60.0 >= product.sustain_min * sold * 0.999


@pytest.mark.parametrize("pair", ["gb_dc", "gb_dm", "gb_dr"])
def test_low_and_high_sold_together_need_what_the_pair_needs(pair):
    """Rulebook 4.2 and 10: import and export = one product + the share kept for the other."""
    low, high = load(f"{pair}_low").reservoir, load(f"{pair}_high").reservoir
    together = [a + b for a, b in zip(
        (low.power_up_pu, low.power_down_pu, low.energy_up_h, low.energy_down_h),
        (high.power_up_pu, high.power_down_pu, high.energy_up_h, high.energy_down_h), strict=True,
    )]  # fmt: skip
    assert together == pytest.approx({"gb_dc": [1.1, 1.1, 0.25, 0.25], "gb_dm": [1.2, 1.2, 0.5, 0.5],
                                      "gb_dr": [1.4, 1.4, 1.0, 1.0]}[pair])  # fmt: skip
    # The share is what restores a fifth of the energy a period, both ways: hours x 0.20 x 2 (rulebook 4.2).
    assert low.power_down_pu == pytest.approx(low.energy_up_h * low.recovery_frac * 2.0)


@pytest.mark.parametrize("direction", ["up", "down"])
def test_static_steps_keep_to_the_band_at_every_edge(direction):
    """Rulebook 3.4, SFD-2: seven equal steps within -5/+10 % of the line, on either side of each threshold."""
    product = load(f"nordic_fcr_d_{direction}_static")
    sign = 1.0 if direction == "up" else -1.0
    for hz in product.trigger.steps_hz:
        for off_hz in (-1e-6, 1e-6):
            given = sign * fractions(product.response, [hz + off_hz - 50.0])[0]
            line = (sign * (50.0 - hz - off_hz) - 0.1) / 0.4
            assert -0.05 <= given - line <= 0.10
    assert len(product.trigger.steps_hz) == 7


@pytest.mark.parametrize("product", catalogue().values(), ids=catalogue())
def test_what_ships_names_its_sources(product):
    assert product.id
    assert product.title
    assert product.sources
    assert product.confidence in ("V", "V2", "M", "D")
    assert product.nominal_hz == (60.0 if product.id.startswith(SIXTY) else 50.0)


@pytest.mark.parametrize(
    ("product_id", "field", "value"),
    [
        # Rulebook 2.1, 2.5, 3.1, 1.4 and 11: figures that settlement and the engine rely on.
        ("ce_fcr", "deadband_hz", 0.010),
        ("ce_fcr", "deadband_kind", "step"),
        ("ce_fcr", "delay_max_s", 2.0),
        ("ce_fcr", "half_s", 15.0),
        ("ce_fcr", "full_s", 30.0),
        ("ce_fcr", "interval_s", 900),
        ("ce_fcr", "score", {"fn": "ce_corridor", "tol_pu": 0.05, "oob_max": 0.05, "slope": [0.9, 1.3]}),
        ("nordic_fcr_n", "deadband_kind", "none"),
        ("gb_dc_low", "deadband_hz", 0.015),
        ("gb_dc_low", "full_s", 1.0),
        ("gb_dc_high", "direction", "down"),
        ("ieee1547", "olrt_s", 5.0),
        ("ieee1547", "deadband_hz", 0.036),
    ],
)
def test_figures(product_id, field, value):
    assert getattr(load(product_id), field) == value


def test_frozen():
    with pytest.raises(FrozenInstanceError):
        load("ce_fcr").nominal_hz = 60.0  # type: ignore[misc]


def test_defaults():
    product = parse(good(), "here")
    assert product.ramp_pu_s == math.inf
    assert (product.delay_s, product.olrt_s, product.deadband_hz) == (0.0, 0.0, 0.0)
    assert product.curve_hz == (-0.2, 0.2)


def test_only_a_step_dead_band_cuts_the_curve():
    """The points of an offset dead band hold it already; cutting again would make it a step."""
    step = parse(good(deadband_hz=0.01, deadband_kind="step"), "x")
    offset = parse(
        good(curve=[[-0.2, 1], [-0.01, 0], [0.01, 0], [0.2, -1]], deadband_hz=0.01, deadband_kind="offset"), "x"
    )
    assert step.response.deadband_hz == 0.01
    assert offset.response.deadband_hz == 0.0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"nominal": 50.0}, ["nominal", "did you mean `nominal_hz`"]),
        ({"dead_band_hz": 0.01}, ["dead_band_hz", "did you mean `deadband_hz`"]),
        ({"zzz": 1}, ["unknown field `zzz`"]),
        ({"curve_hz": [0.0]}, ["unknown field `curve_hz`", "`curve`"]),
        ({"curve_frac": [0.0]}, ["unknown field `curve_frac`"]),
        ({"id": None}, ["`id`", "missing"]),
        ({"curve": None}, ["`curve`", "missing"]),
        ({"nominal_hz": None}, ["`nominal_hz`", "missing"]),
        ({"direction": None}, ["`direction`", "missing"]),
        ({"id": 5}, ["`id`"]),
        ({"id": ""}, ["`id`"]),
        ({"title": 5}, ["`title`"]),
        ({"area": []}, ["`area`"]),
        ({"curve": []}, ["`curve`", "two points"]),
        ({"curve": [[0.0, 0.0]]}, ["`curve`", "two points"]),
        ({"curve": 7}, ["`curve`"]),
        ({"curve": "steep"}, ["`curve`"]),
        ({"curve": [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]}, ["`curve`"]),
        ({"curve": [["a", 0.0], [1.0, 0.0]]}, ["`curve`"]),
        ({"curve": [[0.2, -1.0], [-0.2, 1.0]]}, ["`curve`", "ascend"]),
        ({"curve": [[0.0, 1.0], [0.0, -1.0]]}, ["`curve`", "ascend"]),
        ({"curve": [[-0.2, -1.0], [0.2, 1.0]]}, ["`curve`", "rise"]),
        ({"curve": [[-0.2, 1.01], [0.2, -1.0]]}, ["`curve`", "-1..1"]),
        ({"curve": [[-0.2, 1.0], [0.2, -1.01]]}, ["`curve`", "-1..1"]),
        ({"curve": [[-0.2, math.nan], [0.2, -1.0]]}, ["`curve`", "finite"]),
        ({"curve": [[-math.inf, 1.0], [0.2, -1.0]]}, ["`curve`", "finite"]),
        ({"curve": [[math.nan, 1.0], [0.2, -1.0]]}, ["`curve`", "finite"]),
        ({"nominal_hz": 55.0}, ["`nominal_hz`", "50 or 60"]),
        ({"nominal_hz": math.nan}, ["`nominal_hz`"]),
        ({"nominal_hz": "50"}, ["`nominal_hz`"]),
        ({"direction": "sideways"}, ["`direction`", "up, down, symmetric"]),
        ({"direction": "up"}, ["direction", "`up`"]),
        ({"direction": "down"}, ["direction", "`down`"]),
        ({"deadband_kind": "soft"}, ["`deadband_kind`", "none, step, offset"]),
        ({"deadband_hz": 0.01}, ["`deadband_kind`"]),
        ({"deadband_hz": 0.01, "deadband_kind": "offset"}, ["`deadband_hz`", "`curve`"]),
        ({"deadband_hz": -0.01, "deadband_kind": "step"}, ["`deadband_hz`"]),
        ({"deadband_hz": math.nan, "deadband_kind": "step"}, ["`deadband_hz`"]),
        ({"deadband_hz": "wide", "deadband_kind": "step"}, ["`deadband_hz`"]),
        ({"delay_s": -1.0}, ["`delay_s`"]),
        ({"delay_s": math.inf}, ["`delay_s`"]),
        ({"olrt_s": -1.0}, ["`olrt_s`"]),
        ({"hold_s": math.inf}, ["`hold_s`"]),
        ({"hold_s": True}, ["`hold_s`"]),
        ({"full_s": "soon"}, ["`full_s`"]),
        ({"sustain_min": -1.0}, ["`sustain_min`"]),
        ({"sustain_min": math.nan}, ["`sustain_min`"]),
        ({"ramp_pu_s": 0.0}, ["`ramp_pu_s`"]),
        ({"ramp_pu_s": math.nan}, ["`ramp_pu_s`"]),
        ({"ramp_pu_s": "fast"}, ["`ramp_pu_s`"]),
        ({"fade_s": 0.0}, ["`fade_s`"]),
        ({"fade_s": math.inf}, ["`fade_s`"]),
        ({"fade_s": math.nan}, ["`fade_s`"]),
        ({"interval_s": 0}, ["`interval_s`"]),
        ({"interval_s": math.inf}, ["`interval_s`"]),
        ({"interval_s": 0.5}, ["`interval_s`"]),
        ({"confidence": "sure"}, ["`confidence`"]),
        ({"score": "ce_corridor"}, ["`score`"]),
        ({"sources": "a book"}, ["`sources`"]),
    ],
    ids=lambda value: None if isinstance(value, list) else repr(value)[:50],
)
def test_bad_product_is_refused_by_field(changes, words):
    with pytest.raises(ProductError) as refused:
        parse(good(**changes), "my.toml")
    assert "my.toml" in str(refused.value)
    for word in words:
        assert word in str(refused.value)


def test_error_is_a_value_error():
    assert issubclass(ProductError, ValueError)


def test_own_file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        'id = "mine"\ntitle = "M"\narea = "X"\nnominal_hz = 50\ndirection = "up"\ncurve = [[-0.2, 1], [0, 0]]\n'
        "effective_from = 2026-01-01\n",
        encoding="utf-8",
    )
    product = load(str(path))
    assert product == load_file(path)
    assert product.effective_from == "2026-01-01"
    assert product.curve_frac == (1.0, 0.0)


@pytest.mark.parametrize("content", [b"id = ", b"\xff\xfe", None], ids=["not TOML", "not text", "a folder"])
def test_unreadable_file_is_named(tmp_path, content):
    path = tmp_path / "bad.toml"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(ProductError, match=r"bad\.toml"):
        load_file(path)


def test_missing_file_and_unknown_id():
    with pytest.raises(ProductError, match=r"nowhere\.toml: no such"):
        load("nowhere.toml")
    with pytest.raises(ProductError, match="did you mean `ce_fcr`"):
        load("ce_fcx")
    with pytest.raises(ProductError, match=r"known: .*ieee1547"):
        load("zzzz")


def test_every_field_has_a_unit_or_a_meaning():
    """Numbers carry their unit in the name; a field added without one is caught here."""
    for field in fields(Product):
        if field.type in ("float", "int"):
            assert field.name.endswith(("_hz", "_s", "_pu_s", "_min")), field.name


TRIGGERED = {"id": "mine", "title": "t", "area": "X", "nominal_hz": 50.0, "direction": "up"}


def test_a_trigger_makes_its_own_curve():
    product = parse({**TRIGGERED, "trigger": {"hz": 49.7, "hold_s": 5.0}}, "x")
    assert product.response.x_hz == pytest.approx([-0.3, -0.3], abs=1e-6)
    assert list(fractions(product.response, [-0.31, -0.2999])) == [1.0, 0.0]
    down = parse({**TRIGGERED, "direction": "down", "trigger": {"hz": 50.3, "release_hz": 50.1}}, "x")
    assert list(fractions(down.response, [0.31, 0.2999])) == [-1.0, 0.0]


def test_steps_share_the_power_equally():
    product = parse({**TRIGGERED, "trigger": {"hz": 49.8, "steps_hz": [49.6, 49.8], "hold_s": 5.0}}, "x")
    assert list(fractions(product.response, [-0.1, -0.21, -0.39, -0.41])) == [0.0, 0.5, 0.5, 1.0]


def test_a_signal_rises_with_the_response():
    signal = good(input="signal", signal_s=2.0, curve=[[-1.0, -1.0], [1.0, 1.0]])
    assert list(fractions(parse(signal, "x").response, [-2.0, 0.5])) == [-1.0, 0.5]
    for changes, word in (({"curve": [[-1, 1], [1, -1]]}, "`curve`"), ({"signal_s": 0.0}, "`signal_s`")):
        with pytest.raises(ProductError, match=word):
            parse({**signal, **changes}, "x")


@pytest.mark.parametrize("product", catalogue().values(), ids=catalogue())
def test_a_product_survives_its_own_table(product):
    assert parse(to_table(product), "x") == product


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"effective_from": "tomorrow"}, "`effective_from` takes a date"),
        ({"effective_from": "2026-01-01", "effective_to": "2025-01-01"}, "`effective_to` must lie after"),
        ({"marks": {"hold": "M"}}, "`marks.hold`"),
        ({"marks": {"hold_s": "X"}}, "`marks.hold_s`"),
        ({"trigger": {"hz": -1.0}}, "`hz`"),
        ({"reservoir": {"nem": {"on_min": 30, "off_min": 20}}}, "`off_min`"),
        ({"freedoms": {"overfulfil_max": 0.5}}, "`overfulfil_max`"),
    ],
)
def test_bad_promises_are_refused(changes, word):
    with pytest.raises(ProductError, match=word):
        parse(good(**changes), "x")


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("pjm regd", "pjm_reg_v1"), ("PJM-RegA", "pjm_rega_v1"), ("gb_dcl", "gb_dc_low"), ("DC low", "gb_dc_low"),
        ("nordic_fcrd_up", "nordic_fcr_d_up"), ("R6", "nem_r6"), ("ieee-1547", "ieee1547"), ("CE_FCR", "ce_fcr"),
        ("ieee1547_cat2", "ieee1547"), ("pjm_reg", "pjm_reg_v2"),
    ],
)  # fmt: skip
def test_other_names_of_a_product(asked, found):
    assert load(asked).id == found


@pytest.mark.parametrize(
    ("asked", "hint"),
    [
        ("spp_reg", "did you mean `spp_reg_down` or `spp_reg_up`?"), ("gb_dc_lo", "did you mean `gb_dc_low`?"),
        ("ce_fcrr", "did you mean `ce_fcr`?"), ("nordic_fcrn", "did you mean `nordic_fcr_n`?"),
        ("", "known: afrr_down"),
        ("../catalogue/ce_fcr", "not in the catalogue"),
    ],
)  # fmt: skip
def test_an_unknown_name_is_refused_with_what_may_be_meant(asked, hint):
    with pytest.raises(ProductError, match=re.escape(hint)):
        load(asked)


def test_a_mark_is_the_figures_own_its_tables_or_the_wholes():
    product = parse(good(marks={"score": "M", "score.k": "V", "hold_s": "V2"}, score={"fn": "x", "k": 1.0}), "x")
    asked = ("score.k", "score.lag", "hold_s", "score.k.deep", "curve")
    assert [product.mark(name) for name in asked] == ["V", "M", "V2", "V", "D"]


@pytest.mark.parametrize(
    ("asked", "day", "words"),
    [
        ("pjm_reg_v1", "2025-10-01", ["`pjm_reg_v1` was valid until 2025-10-01", "`pjm_reg_v2`"]),
        ("pjm_rega_v1", "2026-01-01", ["`pjm_reg_v2`"]),
        ("pjm_reg_v2", "2025-09-30", ["from 2025-10-01 on", "not on 2025-09-30", "`pjm_reg_v1` or `pjm_rega_v1`"]),
        ("pjm_reg_v2", "2026-10-01", ["no other"]),
        ("nem_r1", "2023-10-08", ["from 2023-10-09 on", "no other"]),
    ],
)
def test_a_day_outside_validity_is_refused_with_the_product_of_that_day(asked, day, words):
    with pytest.raises(ProductDateError) as refused:
        load(asked, on=date.fromisoformat(day))
    for word in words:
        assert word in str(refused.value)


def test_validity_begins_with_its_first_day_and_ends_before_its_last():
    """Rulebook S-4f: a bid in the market of October 2025 is refused on 30 September and taken on 1 October."""
    old, new = load("pjm_reg_v1"), load("pjm_reg_v2")
    for day, valid in (("2025-09-30", (True, False)), ("2025-10-01", (False, True)), ("2026-09-30", (False, True))):
        assert (valid_on(old, date.fromisoformat(day)), valid_on(new, date.fromisoformat(day))) == valid
    assert load("pjm_reg_v2", on=date(2025, 10, 1)) == new
    assert load("ce_fcr", on=date(1999, 1, 1)).id == "ce_fcr"  # nothing is known of its beginning

"""Products as data: what ships can be trusted, and every bad file is refused with its field named."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError, fields

import pytest

from droop.curve import fractions
from droop.products import Product, ProductError, catalogue, load, load_file, parse, to_table

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


def test_catalogue():
    assert set(catalogue()) == {
        "ce_fcr", "nordic_fcr_n", "nordic_fcr_d_up", "nordic_fcr_d_down", "gb_dc_low", "gb_dc_high", "ieee1547",
    }  # fmt: skip


@pytest.mark.parametrize("product", catalogue().values(), ids=catalogue())
def test_what_ships_names_its_sources(product):
    assert product.id
    assert product.title
    assert product.sources
    assert product.confidence in ("V", "V2", "M", "D")
    assert product.nominal_hz == (60.0 if product.id == "ieee1547" else 50.0)


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
    down = parse({**TRIGGERED, "direction": "down", "trigger": {"hz": 50.3}}, "x")
    assert list(fractions(down.response, [0.31, 0.2999])) == [-1.0, 0.0]


def test_steps_share_the_power_equally():
    product = parse({**TRIGGERED, "trigger": {"hz": 49.8, "steps_hz": [49.6, 49.8]}}, "x")
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

"""Car models: both open collections, what is left out, and what a car takes from which charger."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest

from telemetry.sessions import MalformedSession, SessionError, UnknownSessions
from telemetry.vehicles import builtin, open_cars, power_kw
from telemetry.vehicles.cars import Car, judged, table

DATA = Path(os.environ.get("FLYBALL_DATA") or Path(__file__).resolve().parents[2].parent / "shared" / "data")
recorded = pytest.mark.skipif(not (DATA / "vehicles").is_dir(), reason=f"no car models in {DATA / 'vehicles'}")


def price_file(tmp_path, *changes):
    plain = {
        "brand": "Make", "model": "One", "variant": "", "vehicle_type": "car", "usable_battery_size": 63.0,
        "ac_charger": {"usable_phases": 3, "max_power": 11.0}, "dc_charger": {"max_power": 95.0},
    }  # fmt: skip
    path = tmp_path / "ev-data.json"
    path.write_text(json.dumps({"data": [plain | change for change in changes]}))
    return path


def tarred(tmp_path, records):
    path = tmp_path / "src.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, record in records.items():
            data = json.dumps(record).encode()
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def test_chargeprice(tmp_path):
    cars = open_cars(price_file(tmp_path, {}, {"vehicle_type": "motorbike"}, {"dc_charger": None, "variant": "Plus"}))
    assert cars.format == "chargeprice"
    assert cars.rows.tolist() == [("Make One", 63.0, 11.0, 3, 95.0, ""), ("Make One Plus", 63.0, 11.0, 3, 0.0, "")]
    assert dict(cars.rejected) == {"no_car": 1}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"usable_battery_size": 0.0}, "capacity"), ({"usable_battery_size": -3.0}, "capacity"),
        ({"usable_battery_size": None}, "fields"), ({"ac_charger": {"usable_phases": 3, "max_power": -1.0}}, "power"),
        ({"ac_charger": {"usable_phases": 4, "max_power": 11.0}}, "phases"),
        ({"ac_charger": None, "dc_charger": None}, "power"), ({"ac_charger": 3}, "fields"),
    ],
)  # fmt: skip
def test_cars_that_cannot_be(tmp_path, change, reason):
    path = price_file(tmp_path, {}, change)
    assert dict(open_cars(path).rejected) == {reason: 1}
    with pytest.raises(MalformedSession, match=":2: field"):
        open_cars(path, skip_bad=False)


def test_open_ev_data_completes_records_from_those_above(tmp_path):
    base = {"make": {"name": "Make"}, "model": {"name": "One"}}
    year = {"battery": {"pack_capacity_kwh_net": 60.0, "chemistry": "lfp"}, "charging": {"ac": {"max_power_kw": 11.0}}}
    plus = {
        "variant": {"name": "Plus"},
        "battery": {"pack_capacity_kwh_net": 80.0},
        "charging": {"dc": {"max_power_kw": 150}},
    }
    single = {"charging": {"ac": {"max_power_kw": 11.5, "phases": 1}}, "battery": {"cathode_material": "nmc"}}
    cars = open_cars(
        tarred(
            tmp_path, {
                "schema.json": {}, "src/make/one/base.json": base, "src/make/one/2024/one.json": year,
                "src/make/one/2024/one_plus.json": plus, "src/make/one/2024/one_us.json": single,
                "src/make/two/2024/two.json": {"make": {"name": "Make"}},
            },
        )
    )  # fmt: skip
    assert cars.rows.tolist() == [
        ("Make One", 60.0, 11.0, 3, 0.0, "lfp"), ("Make One Plus", 80.0, 11.0, 3, 150.0, "lfp"),
        ("Make One", 60.0, 11.5, 1, 0.0, "nmc"),
    ]  # fmt: skip
    assert dict(cars.rejected) == {"fields": 1}


@pytest.mark.parametrize(
    "content", [b"", b"{}", b'{"usable_battery_size": 1', b"\x1f\x8b", b'{"data": [], "usable_battery_size": 1}']
)
def test_no_car_models(tmp_path, content):
    for name in ("file.json", "file.tar.gz"):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(UnknownSessions, match=name):
            open_cars(path)
    with pytest.raises(SessionError, match="cannot be read"):
        open_cars(tmp_path / "none.json")


def test_the_built_in_classes_can_be():
    rows = builtin().rows
    assert rows.size >= 8
    for row in rows:
        judged(Car(*row.tolist()))


POWERS = [
    # AC kW, phases, DC kW -> from 3.7, 7.4, 11, 22 and 50 kW
    ((11.0, 3, 100.0), (11 / 3, 11 / 3, 11.0, 11.0, 50.0)),
    ((22.0, 3, 40.0), (3.7, 22 / 3, 11.0, 22.0, 40.0)),
    ((6.6, 1, 0.0), (3.7, 6.6, 11 / 3, 6.6, 0.0)),
    ((7.4, 2, 60.0), (3.7, 3.7, 22 / 3, 7.4, 50.0)),
]


@pytest.mark.parametrize(("car", "wanted"), POWERS)
def test_what_a_car_takes(car, wanted):
    """A phase carries a third of a three-phase charger; a car of three uses one of them at a single-phase one."""
    row = table([Car("car", 50.0, *car)])
    np.testing.assert_allclose(power_kw(row, [3.7, 7.4, 11.0, 22.0, 50.0]), wanted, rtol=1e-12)


@recorded
def test_the_published_collections():
    """293 models of which 35 are motorbikes; 1,450 records of which 260 are bases and one is the schema."""
    price = open_cars(DATA / "vehicles" / "chargeprice_open-ev-data" / "ev-data.json")
    assert (price.rows.size, dict(price.rejected)) == (293 - 35, {"no_car": 35})
    other = open_cars(DATA / "vehicles" / "open-ev-data-dataset" / "src_json.tar.gz")
    assert other.rows.size + other.rejected.total() == 1449 - 260
    assert {"lfp", "nmc"} <= set(other.rows["chemistry"].tolist())

"""TOML files as tables: what is wrong with one is said in a line that begins with its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from droop import tomlfiles
from droop.tables import TableError


def test_a_table_of_ones_own_is_read(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text('id = "Ö"\n[trigger]\nhz = 49.5\n', encoding="utf-8")
    assert tomlfiles.own(path, "product") == {"id": "Ö", "trigger": {"hz": 49.5}}


def test_what_cannot_be_read_is_named_with_its_remedy(tmp_path: Path) -> None:
    nowhere, bad, latin = tmp_path / "nowhere.toml", tmp_path / "bad.toml", tmp_path / "latin.toml"
    bad.write_text("id = ")
    latin.write_bytes('id = "Ö"'.encode("latin-1"))
    told = {}
    for path in (nowhere, tmp_path, bad, latin):
        with pytest.raises(TableError) as refused:
            tomlfiles.own(path, "grid", "give another")
        told[path] = str(refused.value)
    assert told[nowhere] == f"{nowhere}: no such grid file; give another"
    assert told[tmp_path] == f"{tmp_path}: cannot be read: Is a directory; give another"
    assert all(told[path].startswith(f"{path}: not a TOML file: ") for path in (bad, latin))
    with pytest.raises(TableError, match=r"no such grid file$"):
        tomlfiles.own(nowhere, "grid")


def test_files_that_ship_are_found_by_name_and_hold_their_id() -> None:
    names = tomlfiles.names("grids")
    assert names == sorted(names)
    assert {"ce", "nordic"} <= set(names)
    assert [tomlfiles.shipped("grids", name)["id"] for name in names] == names

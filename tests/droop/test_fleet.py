"""The columns are what the table at the head of the file says."""

from __future__ import annotations

import re

import numpy as np
import pytest

from droop import fleet
from droop.fleet import Fleet, allocate, allocate_totals


def documented():
    """Column names and dtypes of the docstring's table."""
    found = {}
    for names, dtype in re.findall(r"^\| ([a-z_, ]+?) *\| (u?int\d+|float\d+) +\|", fleet.__doc__ or "", re.M):
        first, *rest = [name.strip() for name in names.split(",")]
        found[first] = dtype
        for name in rest:
            found[first.rsplit("_", 1)[0] + name if name.startswith("_") else name] = dtype
    return found


def test_table_names_every_column_with_its_dtype():
    columns = allocate(3)
    assert documented() == {name: str(getattr(columns, name).dtype) for name in Fleet._fields}


@pytest.mark.parametrize("rows", [0, 1, 17])
def test_empty_chargers(rows):
    columns = allocate(rows)
    for name in Fleet._fields:
        column = getattr(columns, name)
        assert column.shape == (rows,)
        assert column.flags.c_contiguous
        if name in ("eta_charge", "eta_discharge", "soh_frac", "wear", "gain_up", "gain_dn"):
            assert (column == 1).all()  # nothing divides by zero before the first session
        elif name in ("ramp_kw_s", "budget_kwh", "warm_c"):
            assert (column == np.inf).all()  # no limit
        elif name == "temp_c":
            assert np.isnan(column).all()  # unknown
        elif name == "site":
            assert (column == -1).all()
        else:
            assert (column == 0).all()


def test_columns_do_not_share_memory():
    columns = allocate(4)
    columns.lo_kw[:] = 1
    assert all((getattr(columns, name) == 0).all() for name in ("hi_kw", "plan_kw", "power_kw"))
    totals = allocate_totals()
    totals.lo_kw[:] = 1
    assert not any(column.any() for column in totals if column is not totals.lo_kw)


def test_energy_is_float64_and_set_points_float32():
    columns = allocate(1)
    assert columns.energy_kwh.dtype == np.float64
    assert columns.command_kw.dtype == columns.power_kw.dtype == np.float32

"""The compile policy: honest NaN, strict where it is said, and a cache that cannot lie."""

from __future__ import annotations

import math
import os
import stat

import numba
import numpy as np
import pytest

from droop import numerics
from droop.numerics import HONEST, cache_folder, kernel, strict

compiled_only = pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="nothing is compiled with NUMBA_DISABLE_JIT")


@pytest.fixture(autouse=True)
def uncached(monkeypatch):
    """These test functions are compiled here and now."""
    monkeypatch.setattr(numerics, "_FOLDER", None)


def test_fast_math_knows_nan_and_infinity():
    assert {"nsz", "arcp", "contract", "afn", "reassoc"} == HONEST

    @kernel
    def largest(values):
        top = -np.inf
        bad = 0
        for value in values:
            bad += 1 if np.isnan(value) or value == np.inf else 0
            if value > top:
                top = value
        return top, bad

    assert largest(np.array([1.0, math.nan, 2.0])) == (2.0, 1)
    assert largest(np.array([1.0, math.inf])) == (math.inf, 1)


def test_strict_keeps_the_order_written():
    @strict
    def lost(a, b):
        return (a + b) - a

    assert lost(1e16, 1.0) == 0.0


@compiled_only
def test_strict_stays_strict_when_a_fast_kernel_compiles_it():
    """A callee inherits its caller's flags unless it says its own: the answer would depend on who called first."""

    @strict
    def lost(a, b):
        return (a + b) - a

    @kernel
    def caller(a, b):
        return lost(a, b)

    assert caller(1e16, 1.0) == 0.0
    assert lost(1e16, 1.0) == 0.0


@compiled_only
def test_division_by_zero_is_a_number_not_an_exception():
    @kernel
    def ratio(a, b):
        return a / b

    assert ratio(1.0, 0.0) == math.inf
    assert math.isnan(ratio(0.0, 0.0))


def test_compiler_setting_is_put_back():
    before = numba.config.CACHE_DIR
    kernel(lambda x: x + 1)
    assert before == numba.config.CACHE_DIR


class TestCacheFolder:
    def test_private_and_named_after_the_sources(self, tmp_path, monkeypatch):
        monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
        folder = cache_folder()
        assert folder is not None
        assert folder.parent == tmp_path
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert folder == cache_folder()
        monkeypatch.setattr(numerics, "_digest", lambda: "other")
        assert cache_folder() != folder

    def test_digest_follows_every_source(self, tmp_path, monkeypatch):
        (tmp_path / "a.py").write_text("1")
        (tmp_path / "b.py").write_text("2")
        monkeypatch.setattr(numerics, "__file__", str(tmp_path / "a.py"))
        before = numerics._digest()
        (tmp_path / "b.py").write_text("3")
        assert numerics._digest() != before

    def test_a_folder_others_can_write_is_refused(self, tmp_path, monkeypatch):
        monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        folder = cache_folder()
        assert folder is not None
        folder.chmod(0o777)
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        second = cache_folder()
        assert second is not None
        assert second.parent == tmp_path / "home" / ".cache"

    def test_none_where_there_is_none(self, tmp_path, monkeypatch):
        blocked = tmp_path / "file"
        blocked.write_text("")
        monkeypatch.setenv("NUMBA_CACHE_DIR", str(blocked))
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.delenv("HOME", raising=False)
        assert cache_folder() is None
        assert os.environ.get("HOME") is None

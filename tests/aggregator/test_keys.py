"""The command key: made once, private, believed only when private, never told."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from aggregator import keys
from aggregator.keys import ENV, KEY_ID, KeyFault, command_keys


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch):
    monkeypatch.delenv(ENV, raising=False)


def test_a_key_is_made_once_and_only_its_owner_can_read_it(tmp_path):
    folder = tmp_path / "deep" / "keys"
    made = command_keys(folder)
    (path,) = folder.iterdir()  # nothing half made is left behind
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert set(made) == {KEY_ID}
    assert len(made[KEY_ID]) == 32
    assert command_keys(folder) == made
    assert command_keys(tmp_path / "other") != made


def test_processes_that_start_together_agree(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: command_keys(tmp_path)[KEY_ID], range(64)))
    assert len(set(found)) == 1
    assert len(list(tmp_path.iterdir())) == 1


def test_a_key_made_by_another_meanwhile_stands(tmp_path, monkeypatch):
    made = command_keys(tmp_path)
    monkeypatch.setattr(keys.Path, "exists", lambda _: False)
    assert command_keys(tmp_path) == made


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o666])
def test_a_key_that_others_can_read_is_not_used(tmp_path, mode):
    key = command_keys(tmp_path)[KEY_ID]
    (path,) = tmp_path.iterdir()
    path.chmod(mode)
    with pytest.raises(KeyFault, match="chmod 600") as caught:
        command_keys(tmp_path)
    assert key.hex() not in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("text", ["", "zz" * 32, "ab" * 31, "\xe9" * 64])
def test_a_damaged_key_is_named_and_not_told(tmp_path, text):
    command_keys(tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_text(text, encoding="latin-1")
    with pytest.raises(KeyFault, match=path.name) as caught:
        command_keys(tmp_path)
    assert not text or text not in str(caught.value)


def test_the_environment_takes_the_place_of_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv(ENV, f" {'ab' * 40}\n")
    assert command_keys(tmp_path / "none") == {KEY_ID: b"\xab" * 40}
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("text", ["", "ab" * 31, "secret-secret-secret-secret-secret-secret"])
def test_a_bad_key_of_the_environment_is_refused_not_replaced(tmp_path, monkeypatch, text):
    monkeypatch.setenv(ENV, text)
    with pytest.raises(KeyFault, match=ENV) as caught:
        command_keys(tmp_path)
    assert not text or text not in str(caught.value)
    assert os.listdir(tmp_path) == []  # noqa: PTH208


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / f"command-{KEY_ID}.key").symlink_to(tmp_path / "nowhere")
    with pytest.raises(KeyFault, match="cannot be read"):
        command_keys(tmp_path)

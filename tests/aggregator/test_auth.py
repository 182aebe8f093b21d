"""The token: where it comes from, who may read it, what counts as carrying it."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from aggregator import auth

GOOD = "0123456789abcdefABCDEF"


def test_environment_comes_first_and_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "token"
    assert auth.load_token(path, {auth.ENV: f" {GOOD}\n"}) == GOOD
    assert not path.exists()


def test_a_missing_file_is_made_private_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "token"
    token = auth.load_token(path, {})
    assert len(token) >= 43  # 256 bits in base64
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert auth.load_token(path, {}) == token
    assert [entry.name for entry in path.parent.iterdir()] == ["token"]


def test_the_umask_cannot_open_it(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        auth.load_token(tmp_path / "token", {})
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "token").stat().st_mode) == 0o600


def test_many_that_start_together_agree(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        tokens = set(pool.map(lambda _: auth.load_token(tmp_path / "token", {}), range(32)))
    assert len(tokens) == 1
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_file_that_others_can_open_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "token"
    path.write_text(GOOD, encoding="utf-8")
    path.chmod(mode)
    with pytest.raises(auth.TokenExposed, match="chmod 600"):
        auth.load_token(path, {})


@pytest.mark.parametrize("text", ["", "short", "a" * 15, "has spaces in the middle", "schlüssel-mit-umlaut"])
def test_weak_tokens_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "token"
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    with pytest.raises(auth.TokenWeak):
        auth.load_token(path, {})
    with pytest.raises(auth.TokenWeak, match=auth.ENV):
        auth.load_token(path, {auth.ENV: text})


def test_only_a_plain_file_will_do(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text(GOOD, encoding="utf-8")
    target.chmod(0o600)
    (tmp_path / "link").symlink_to(target)
    os.mkfifo(tmp_path / "fifo", 0o600)
    (tmp_path / "folder").mkdir(mode=0o700)
    for name in ("link", "fifo", "folder"):
        with pytest.raises(auth.TokenUnreadable):
            auth.load_token(tmp_path / name, {})


@pytest.mark.parametrize(
    ("header", "carried"),
    [
        (f"Bearer {GOOD}", True),
        (f"bearer  {GOOD}", True),
        (None, False),
        ("", False),
        (GOOD, False),
        ("Bearer", False),
        ("Bearer ", False),
        (f"Basic {GOOD}", False),
        (f"Bearer {GOOD[:-1]}", False),
        (f"Bearer {GOOD}x", False),
        (f"Bearer {GOOD.swapcase()}", False),
        ("Bearer \udcff\udcfe", False),
        ("Bearer schlüssel", False),
    ],
)
def test_matches(header: str | None, carried: bool) -> None:
    assert auth.matches(header, GOOD) is carried
